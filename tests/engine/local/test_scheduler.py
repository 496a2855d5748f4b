"""Order, batching, errors and waiting of the engine's scheduler, without any model."""

import asyncio
import threading
import time

import pytest
from made import until

from geospot.engine.local.activity import checkpoint
from geospot.engine.local.scheduler import Scheduler
from geospot.engine.local.service import LocalOptions, LocalServiceClient
from geospot.errors import EngineGone, Interrupted


@pytest.fixture
def scheduler():
    scheduler = Scheduler()
    yield scheduler
    scheduler.close()


@pytest.fixture
def log():
    """What has run, in order: names of operations, and the payloads of each batch of samples."""
    return []


def operation(scheduler, log, name, result=None):
    def run():
        log.append(name)
        return result

    return scheduler.submit(run)


def sample(scheduler, log, payload, key="weights"):
    def run(payloads):
        log.append(payloads)
        return [f"answer {p}" for p in payloads]

    return scheduler.submit_sample(key, run, payload)


def test_operations_run_in_the_order_of_asking_without_being_waited_for(scheduler, log):
    futures = [operation(scheduler, log, i, result=i * 10) for i in range(5)]
    assert futures[-1].result(timeout=60) == 40
    assert log == [0, 1, 2, 3, 4]
    assert [f.result() for f in futures] == [0, 10, 20, 30, 40]


def test_samples_gather_until_one_of_them_is_waited_for(scheduler, log):
    futures = [sample(scheduler, log, i) for i in range(4)]
    time.sleep(0.05)
    assert log == []
    assert futures[2].result(timeout=60) == "answer 2"
    assert log == [[0, 1, 2, 3]]
    assert [f.result() for f in futures] == [f"answer {i}" for i in range(4)]


def test_samples_run_before_an_operation_that_was_asked_for_after_them(scheduler, log):
    first = sample(scheduler, log, "a")
    second = sample(scheduler, log, "b")
    step = operation(scheduler, log, "step")
    third = sample(scheduler, log, "c")
    step.result(timeout=60)
    assert log == [["a", "b"], "step"]
    assert (first.result(), second.result(), third.result()) == ("answer a", "answer b", "answer c")
    assert log == [["a", "b"], "step", ["c"]]


def test_samples_of_different_weights_do_not_mix(scheduler, log):
    futures = [sample(scheduler, log, i, key=i % 2) for i in range(5)]
    assert [f.result(timeout=60) for f in futures] == [f"answer {i}" for i in range(5)]
    assert log == [[0, 2, 4], [1, 3]]


def test_samples_of_several_threads_share_a_batch(scheduler, log):
    futures = {}
    threads = [threading.Thread(target=lambda i=i: futures.update({i: sample(scheduler, log, i)})) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {i: f.result(timeout=60) for i, f in futures.items()} == {i: f"answer {i}" for i in range(6)}
    assert [sorted(batch) for batch in log] == [[0, 1, 2, 3, 4, 5]]


def test_an_error_reaches_the_one_who_asked_and_later_jobs_still_run(scheduler, log):
    bad = scheduler.submit(lambda: 1 // 0)
    good = operation(scheduler, log, "good", result=7)
    assert good.result(timeout=60) == 7
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_a_batch_that_fails_fails_all_who_are_in_it(scheduler, log):
    def run(payloads):
        raise MemoryError("too large")

    futures = [scheduler.submit_sample("bad", run, i) for i in range(2)]
    other = sample(scheduler, log, "other")
    assert other.result(timeout=60) == "answer other"
    for future in futures:
        with pytest.raises(MemoryError, match="too large"):
            future.result()


def test_an_answer_that_is_an_error_fails_alone(scheduler):
    def run(payloads):
        return [ValueError(f"bad {p}") if p == 1 else p for p in payloads]

    futures = [scheduler.submit_sample("key", run, i) for i in range(3)]
    assert futures[0].result(timeout=60) == 0
    assert futures[2].result(timeout=60) == 2
    with pytest.raises(ValueError, match="bad 1"):
        futures[1].result()


def test_futures_can_be_awaited(scheduler, log):
    async def ask():
        samples = [sample(scheduler, log, i) for i in range(3)]
        step = operation(scheduler, log, "step", result="done")
        return await asyncio.gather(*samples, step)

    assert asyncio.run(ask()) == ["answer 0", "answer 1", "answer 2", "done"]
    assert log == [[0, 1, 2], "step"]


def test_an_error_can_be_awaited(scheduler):
    async def ask():
        await scheduler.submit(lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask())


def test_a_wait_that_times_out_leaves_the_work_going(scheduler, log):
    go = threading.Event()
    slow = scheduler.submit(lambda: go.wait(60) and "slow")
    with pytest.raises(TimeoutError):
        slow.result(timeout=0.01)

    async def ask():
        await slow.result_async(timeout=0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    go.set()
    assert slow.result(timeout=60) == "slow"
    assert operation(scheduler, log, "next", result=1).result(timeout=60) == 1


def test_close_finishes_what_was_asked(log):
    scheduler = Scheduler()
    step = operation(scheduler, log, "step", result=1)
    waiting = sample(scheduler, log, "x")
    scheduler.close()
    scheduler.close()
    assert log == ["step", ["x"]]
    assert (step.result(), waiting.result()) == (1, "answer x")
    with pytest.raises(RuntimeError, match="closed"):
        operation(scheduler, log, "late")


def test_close_without_finishing_waits_for_what_runs_and_fails_the_rest(log):
    scheduler, started, go = Scheduler(), threading.Event(), threading.Event()

    def slow(payloads):
        started.set()
        go.wait(60)
        return payloads

    running = scheduler.submit_sample("old weights", slow, "runs")
    beside = sample(scheduler, log, "of other weights, due together")
    asked = [operation(scheduler, log, "step"), sample(scheduler, log, "x")]
    assert started.wait(60)
    closing = threading.Thread(target=scheduler.close, kwargs={"finish": False})
    closing.start()
    until(lambda: scheduler._dropping)
    assert closing.is_alive(), "what runs is waited for"
    go.set()
    closing.join()
    assert running.result() == "runs"
    for future in (beside, *asked):
        with pytest.raises(EngineGone, match="closed before"):
            future.result(timeout=60)
    assert log == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_engine_that_is_left_by_an_error_drops_what_was_asked_for_later(log, tmp_path, error):
    def leave():
        with LocalServiceClient(LocalOptions(checkpoint_dir=str(tmp_path))) as service:
            service.scheduler.submit(lambda: until(lambda: service.scheduler._dropping))
            sample(service.scheduler, log, "nobody waits for it")
            operation(service.scheduler, log, "a minibatch")
            raise error

    with pytest.raises(error):
        leave()
    assert log == []


# --- given up ---


def endless(started):
    """Work that comes by checkpoints and ends only when it is given up."""

    def run():
        while True:
            checkpoint("a long pass, layer", 2, 36)
            started.set()

    return run


def test_an_interruption_ends_what_runs_and_what_is_queued_but_not_what_saves(scheduler, log):
    started = threading.Event()
    running = scheduler.submit(endless(started))
    queued = operation(scheduler, log, "step")
    started.wait()
    assert scheduler.activity.text == "a long pass, layer 2 of 36"
    scheduler.interrupt()
    with pytest.raises(Interrupted, match="layer 2 of 36"):
        running.result(timeout=60)
    for future in (queued, operation(scheduler, log, "later"), sample(scheduler, log, 1)):
        with pytest.raises(Interrupted):
            future.result(timeout=60)
    assert scheduler.submit(lambda: log.append("saved"), kept=True).result(timeout=60) is None
    assert log == ["saved"]


def test_an_engine_that_is_left_by_an_error_gives_up_what_it_is_at():
    started, scheduler = threading.Event(), Scheduler()
    running = scheduler.submit(endless(started))
    started.wait()
    scheduler.close(finish=False)
    with pytest.raises(Interrupted):
        running.result(timeout=60)


def test_whoever_waits_long_for_the_end_reads_for_what(capsys, monkeypatch):
    monkeypatch.setattr("geospot.engine.local.scheduler.PATIENCE_S", 0.01)
    scheduler, asked = Scheduler(), threading.Event()

    def run():
        checkpoint("loading a model")
        asked.set()
        until(lambda: "loading a model" in printed())

    def printed():
        lines.append(capsys.readouterr().err)
        return "".join(lines)

    lines: list[str] = []
    scheduler.submit(run)
    asked.wait()
    scheduler.close(finish=False)
    assert "Waiting for the engine: loading a model." in "".join(lines)
