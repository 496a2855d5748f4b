"""The run folder: what is written stays, a killed run goes on as if nothing had happened, nobody writes twice."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from made import until

from geospot.errors import RunError
from geospot.files import JsonLines, atomic_folder, remove_leftovers, write_json_atomic
from geospot.runs import control
from geospot.runs.checkpoints import read_checkpoints
from geospot.runs.config import differences, plain_config, refused, session_facts
from geospot.runs.control import StopRequest
from geospot.runs.folder import RunFolder, read_config, read_metrics
from geospot.runs.rollouts import query_rollouts

CONFIG = {"model": "geospot/tiny", "seed": 7, "max_steps": 20, "reward": {"tau_km": [2000.0, 25.0]}}

# A small training run as a program of its own: it resumes by itself and says each step on standard output.
TRAIN = """
import sys, time
import numpy as np
from geospot.files import atomic_folder
from geospot.runs.folder import RunFolder

def train(path, steps=12, pause=0.004, hold=None):
    with RunFolder.create(path, {"seed": 7, "max_steps": steps}) as run:
        rng, start = np.random.default_rng(7), 0
        if last := run.last_checkpoint():
            start, rng.bit_generator.state = last.step, last.loop_state["rng"]
        run.rewind(start)
        for step in range(start, steps):
            print(step, flush=True)
            if step == hold:
                time.sleep(600)
            run.add_rollouts(step, [rollout(rng, g, m) for g in range(3) for m in range(4)])
            time.sleep(pause)
            run.log(step, {"reward": rng.random(), "kl": float("nan")})
            if (step + 1) % 2 == 0 or step + 1 == steps:
                with atomic_folder(run.path / "checkpoints" / f"{step + 1:06}") as folder:
                    (folder / "weights.bin").write_bytes(rng.bytes(5000))
                run.add_checkpoint(step + 1, run.path / "checkpoints" / f"{step + 1:06}",
                                   {"rng": rng.bit_generator.state}, final=step + 1 == steps)

def rollout(rng, group, member):
    return {"split": "train", "sample_key": f"p{group}", "group_index": group, "member_index": member,
            "text": "x" * int(rng.integers(200)), "reward": rng.random(), "parts": {"coord": rng.random()}}
"""


def row(group=0, member=0, **more):
    return {"split": "train", "sample_key": "a", "group_index": group, "member_index": member, "text": "hm"} | more


def start(body, *args):
    """A real Python process that runs TRAIN and then `body`."""
    code = TRAIN + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, err


def contents(path):
    """Everything a run wrote except times."""
    checkpoints = [(c.step, Path(c.path).name, c.kind, c.final, c.loop_state) for c in read_checkpoints(path)]
    weights = {f.parent.name: f.read_bytes() for f in path.glob("checkpoints/*/weights.bin")}
    rollouts = query_rollouts(path, "SELECT rowid, * FROM rollouts ORDER BY step, split, group_index, member_index")
    return (path / "metrics.jsonl").read_bytes(), rollouts, checkpoints, weights


# --- opening ---


def test_what_is_written_is_read_back(tmp_path):
    with RunFolder.create(tmp_path / "run", CONFIG) as run:
        assert not run.resumed
        run.log(0, {"reward": np.float32(0.5), "kl": float("nan"), "up": float("inf"), "n": np.int64(3)})
        run.add_rollouts(0, [row(lat=np.float32(0.0), lon=float("nan"), n_tokens=np.int64(9), parts={"country": 1.0})])
        assert read_metrics(tmp_path / "run") == [{"step": 0, "reward": 0.5, "kl": None, "up": None, "n": 3}]
    assert query_rollouts(
        tmp_path / "run", "SELECT lat, lon, n_tokens, parts ->> 'country' AS country FROM rollouts WHERE step = ?", [0]
    ) == [{"lat": 0.0, "lon": None, "n_tokens": 9, "country": 1.0}]
    document = json.loads((tmp_path / "run" / "config.json").read_text())
    assert document["config"] == read_config(tmp_path / "run") == CONFIG
    assert document["seed"] == 7
    assert document["sessions"][0].keys() >= {"geospot", "python", "torch", "transformers", "git_commit", "command"}


def test_resume_modes(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        RunFolder.create(tmp_path / "run", CONFIG, resume="must")
    RunFolder.create(tmp_path / "run", CONFIG, resume="never").close()
    with pytest.raises(RunError, match="holds a run already"):
        RunFolder.create(tmp_path / "run", CONFIG, resume="never")
    with RunFolder.create(tmp_path / "run", CONFIG, resume="must") as run:
        assert run.resumed
    with pytest.raises(ValueError, match="allowed are"):
        RunFolder.create(tmp_path / "run", CONFIG, resume="maybe")


def test_another_config_is_refused_with_the_keys_and_nothing_is_lost(tmp_path):
    with RunFolder.create(tmp_path, CONFIG) as run:
        run.log(0, {"reward": 0.5})
    other = CONFIG | {"seed": 8, "save_every": 40, "reward": {"tau_km": [2000.0, 50.0]}, "new": True}
    with pytest.raises(RunError) as caught:
        RunFolder.create(tmp_path, other)
    message = str(caught.value)
    assert "seed: 7 there, 8 asked for" in message
    assert "reward.tau_km: 2000.0,25.0 there, 2000.0,50.0 asked for" in message
    assert "new: not set there, true asked for" in message
    assert "save_every:" not in message
    assert "another folder" in message
    assert read_config(tmp_path) == CONFIG
    with RunFolder.create(tmp_path, CONFIG | {"save_every": 40}) as run:  # the lock was given back; this may differ
        assert len(read_metrics(run.path)) == 1
    sessions = json.loads((tmp_path / "config.json").read_text())["sessions"]
    assert [s.get("changed") for s in sessions] == [None, {"save_every": ["<absent>", 40]}]


def test_logs_without_a_config_are_not_adopted(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl but no config"):
        RunFolder.create(tmp_path, CONFIG)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 0}\n'


def test_config_as_plain_json():
    plain = plain_config(
        {"path": Path("/a"), "t": (1, np.float64(2.0)), "x": float("inf"), "none": None, "max_tokens": 8}
    )
    assert plain == {"path": "/a", "t": [1, 2.0], "x": "inf", "none": None, "max_tokens": 8}
    with pytest.raises(TypeError, match=r"config\.model\.f = "):
        plain_config({"model": {"f": print}})


def test_secrets_do_not_reach_the_folder():
    assert plain_config({"api_key": "abc", "url": "x?k=tml-123456789"}) == {
        "api_key": "<hidden>",
        "url": "x?k=<hidden>",
    }
    command = session_facts(["geospot", "train", "api_key=abc", "engine.hf_token=q", "max_tokens=48"])["command"]
    assert "abc" not in command
    assert "hf_token=q" not in command
    assert "max_tokens=48" in command


def test_differences_and_refused():
    changed = differences({"a": 1, "b": {"c": 1, "d": 2}, "e": True}, {"a": 1.0, "b": {"c": 3, "d": 2}, "e": 1})
    assert changed == {"b.c": (1, 3), "e": (True, 1)}
    assert refused(changed, {"b"}) == ["e"]
    assert refused(changed, {"b.c", "e"}) == []
    assert refused({"bc": (0, 1)}, {"b"}) == ["bc"]


# --- one writer ---


def test_lock_names_the_pid_and_falls_with_its_process(tmp_path):
    holder = start("run = RunFolder.create(sys.argv[1], {}); print('open', flush=True); time.sleep(600)", tmp_path)
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(RunError, match=rf"another process \(pid {holder.pid} on "):
            RunFolder.create(tmp_path, {})
    finally:
        holder.kill()
        holder.communicate()
    with RunFolder.create(tmp_path, {}), pytest.raises(RunError, match="already open in this process"):
        RunFolder.create(tmp_path, {})
    RunFolder.create(tmp_path, {}).close()


# --- kill and resume ---


# One process that forks the training again and again and kills it with SIGKILL after a while of its own choice.
KILLER = """
import os, signal
whole, broken, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
train(whole, pause=0)
rng = np.random.default_rng(seed)
for _ in range(8):
    pid = os.fork()
    if pid == 0:
        train(broken, pause=0.03, hold=11)  # the last step is never reached: each of them is killed
        os._exit(0)
    time.sleep(rng.uniform(0.02, 0.1))
    os.kill(pid, signal.SIGKILL)
    print("killed" if os.WIFSIGNALED(os.waitpid(pid, 0)[1]) else "ended", flush=True)
train(broken, pause=0)
"""


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.filterwarnings("ignore:.*cut off:RuntimeWarning")
def test_killed_anywhere_and_resumed_equals_unbroken(tmp_path, seed):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    out, _ = finish(start(KILLER, whole, broken, seed))
    assert out.count("killed") == 8
    assert contents(broken) == contents(whole)
    assert [m["step"] for m in read_metrics(broken)] == list(range(12))
    assert not [p for p in broken.rglob("*") if ".tmp-" in p.name or ".old-" in p.name]


def test_rewind_drops_the_step_and_all_after(tmp_path):
    with RunFolder.create(tmp_path, CONFIG) as run:
        for step in range(6):
            run.add_rollouts(step, [row(), row(member=1)])
            run.log(step, {"reward": step / 10})
            run.add_checkpoint(step + 1, f"tinker://run/{step + 1}", {})
        with pytest.raises(ValueError, match=r"rewind\(3\) first"):
            run.log(3, {})
        with pytest.raises(ValueError, match=r"rewind\(3\) first"):
            run.add_rollouts(3, [row()])
        run.rewind(3)
        assert [m["step"] for m in read_metrics(tmp_path)] == [0, 1, 2]
        assert query_rollouts(tmp_path, "SELECT max(step) AS s, count(*) AS n FROM rollouts") == [{"s": 2, "n": 6}]
        assert run.last_checkpoint().step == 3
        run.log(3, {"reward": 1})
        run.add_rollouts(3, [row()])
        assert [m["step"] for m in read_metrics(tmp_path)] == [0, 1, 2, 3]


@pytest.mark.parametrize("torn", [b'{"step": 2, "rew', b"\x00\x00\x00", b'{"step": 2}garbage\n', '{"é'.encode()[:-1]])
def test_torn_last_line_is_dropped_with_a_warning(tmp_path, torn):
    with RunFolder.create(tmp_path, CONFIG) as run:
        run.log(0, {"reward": 0.5})
        run.log(1, {"reward": 0.6})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(whole + torn)
    assert [m["step"] for m in read_metrics(tmp_path)] == [0, 1]  # a reader sees no half line
    with pytest.warns(RuntimeWarning, match="cut off"), RunFolder.create(tmp_path, CONFIG) as run:
        run.log(2, {"reward": 0.7})
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole + b'{"step": 2, "reward": 0.7}\n'


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\n{"a": 2}')
    JsonLines(tmp_path / "x.jsonl").append({"a": 3})
    assert (tmp_path / "x.jsonl").read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\nhello\n{"step": 2}\n')
    with pytest.raises(RunError, match="line 2 is not a JSON object"):
        read_metrics(tmp_path)


# --- rollouts ---


def test_rollouts_are_read_by_another_process_while_they_are_written(tmp_path):
    writer = start("train(sys.argv[1], steps=10**6, pause=0.002)", tmp_path)
    try:
        assert writer.stdout.readline() == "0\n"
        seen = []
        while len(seen) < 15 or len(set(seen)) < 3:
            by_step = query_rollouts(tmp_path, "SELECT step, count(*) AS n FROM rollouts GROUP BY step ORDER BY step")
            assert all(group["n"] == 12 for group in by_step)  # a step is there whole or not at all
            seen.append(len(by_step))
            time.sleep(0.01)
            assert writer.poll() is None
        assert seen == sorted(seen)
    finally:
        writer.kill()
        writer.communicate()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        query_rollouts(tmp_path, "DELETE FROM rollouts")


def test_bad_rollouts_are_refused_by_key_and_none_is_kept(tmp_path):
    with RunFolder.create(tmp_path, CONFIG) as run:
        with pytest.raises(ValueError, match=r"unknown keys \['latitude'\]"):
            run.add_rollouts(0, [row(), row(member=1, latitude=3)])
        with pytest.raises(ValueError, match=r"lacks \['text'\]"):
            run.add_rollouts(0, [row(text=None)])
        with pytest.raises(ValueError, match="given twice"):
            run.add_rollouts(0, [row(), row(member=1), row()])
        run.add_rollouts(0, [row(text="\ud800 caf\u00e9"), row(split="eval")])  # half a surrogate pair is no UTF-8
    assert query_rollouts(tmp_path, "SELECT text FROM rollouts ORDER BY split") == [{"text": "hm"}, {"text": "? café"}]


def test_query_without_rollouts_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match="no rollouts at"):
        query_rollouts(tmp_path, "SELECT 1")


# --- metrics ---


def test_metrics_are_flat_numbers(tmp_path):
    with RunFolder.create(tmp_path, CONFIG) as run:
        for bad in ("text", {"nested": 1}, np.zeros(2)):
            with pytest.raises(TypeError, match="metric 'x' = "):
                run.log(0, {"x": bad})
        with pytest.raises(ValueError, match="step"):
            run.log(0, {"step": 3})
        with pytest.raises(ValueError, match="whole number"):
            run.log(-1, {})
        with pytest.raises(ValueError, match="whole number"):
            run.log(1.0, {})
        run.log(np.int64(2), {})
        assert read_metrics(tmp_path) == [{"step": 2}]


# --- checkpoints ---


def save(run, step, **more):
    folder = run.path / "checkpoints" / str(step)
    with atomic_folder(folder) as temp:
        (temp / "weights").write_text(str(step))
    return run.add_checkpoint(step, folder, {"step": step}, **more)


def test_last_checkpoint_is_the_newest_that_still_exists(tmp_path):
    with RunFolder.create(tmp_path / "run", CONFIG) as run:
        assert run.last_checkpoint() is None
        for step in (1, 2, 3):
            save(run, step)
        run.add_checkpoint(3, "tinker://x/sampler/3", {}, kind="sampler")
        os.rename(run.path / "checkpoints" / "3", tmp_path / "gone")
        assert run.last_checkpoint().step == 2
        assert run.last_checkpoint("sampler").path == "tinker://x/sampler/3"
        run.rewind(2)
        assert [c.step for c in run.checkpoints()] == [1, 2]
    (tmp_path / "run").rename(tmp_path / "moved")  # a run folder can be moved
    with RunFolder.create(tmp_path / "moved", CONFIG) as run:
        assert Path(run.last_checkpoint().path, "weights").read_text() == "2"
        assert run.last_checkpoint().loop_state == {"step": 2}


def test_prune_keeps_the_newest_and_the_final_ones(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with RunFolder.create(tmp_path / "run", CONFIG) as run:
        run.add_checkpoint(0, elsewhere, {})
        run.add_checkpoint(0, "tinker://x/0", {})
        for step in range(1, 7):
            save(run, step, final=step == 2)
        assert [c.step for c in run.prune(keep=2)] == [1, 3, 4]
        assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == ["2", "5", "6"]
        assert elsewhere.exists()  # not ours to delete
        assert [(c.step, c.pruned) for c in run.checkpoints()][2:5] == [(1, True), (2, False), (3, True)]
        assert run.prune(keep=2) == []
        with pytest.raises(ValueError, match="at least 1"):
            run.prune(keep=0)
        save(run, 3)  # a rewound run may write the same folder again: that one is not the pruned one
        run.prune(keep=3)
        assert (run.path / "checkpoints" / "3" / "weights").exists()


def test_readers_of_the_cookbooks_runs_find_what_they_look_for(tmp_path):
    """`checkpoint_utils` of the Tinker cookbook and tinkerscope: these keys, beside ours."""
    config = {"model_name": "owner/model", "lora_rank": 8, "learning_rate": 1e-3, "seed": 3}
    with RunFolder.create(tmp_path / "run", config) as run:
        run.add_checkpoint(5, "tinker://a:train:0/weights/000005", {})
        run.add_checkpoint(7, "tinker://a:train:0/weights/000007", {}, final=True,
                           sampler_path="tinker://a:train:0/sampler_weights/000007")  # fmt: skip
    assert config.items() <= json.loads((tmp_path / "run" / "config.json").read_text()).items()
    first, last = map(json.loads, (tmp_path / "run" / "checkpoints.jsonl").read_text().splitlines())
    assert (first["name"], first["batch"]) == ("000005", 5)
    assert first["state_path"] == "tinker://a:train:0/weights/000005"
    assert "sampler_path" not in first
    assert (last["batch"], last["final"]) == (7, True)
    assert last["sampler_path"] == "tinker://a:train:0/sampler_weights/000007"
    assert read_checkpoints(tmp_path / "run")[-1].sampler_path == last["sampler_path"]


def test_what_is_pruned_is_offered_to_nobody(tmp_path):
    with RunFolder.create(tmp_path, CONFIG) as run:
        for step in (1, 2):
            save(run, step)
        run.prune(1)
    first, last = map(json.loads, (tmp_path / "checkpoints.jsonl").read_text().splitlines())
    assert "state_path" not in first
    assert last["state_path"] == last["path"]


def test_a_folder_of_before_these_keys_goes_on(tmp_path):
    with RunFolder.create(tmp_path, CONFIG) as run:
        save(run, 1)
    document = json.loads((tmp_path / "config.json").read_text())
    old = {"run_id": document["run_id"], "seed": 7, "config": document["config"], "sessions": document["sessions"]}
    (tmp_path / "config.json").write_text(json.dumps(old))
    line = json.loads((tmp_path / "checkpoints.jsonl").read_text())
    for key in ("name", "batch", "state_path"):
        del line[key]
    (tmp_path / "checkpoints.jsonl").write_text(json.dumps(line) + "\n")
    with RunFolder.create(tmp_path, CONFIG, resume="must") as run:
        assert run.run_id == document["run_id"]
        assert run.last_checkpoint().step == 1
        save(run, 2)
    assert [c.step for c in read_checkpoints(tmp_path)] == [1, 2]


def test_leftovers_of_a_killed_writer(tmp_path):
    with RunFolder.create(tmp_path, CONFIG) as run:
        save(run, 1)
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "2.tmp-99").mkdir()
    (tmp_path / "metrics.jsonl.tmp-99").write_text("half")
    (checkpoints / "1").rename(checkpoints / "1.old-99")  # killed between the two renames of a replacement
    with RunFolder.create(tmp_path, CONFIG) as run:
        assert run.last_checkpoint().step == 1
    assert [p.name for p in checkpoints.iterdir()] == ["1"]
    assert not (tmp_path / "metrics.jsonl.tmp-99").exists()
    (checkpoints / "1.old-99").mkdir()  # killed after both: the new one stays
    remove_leftovers(tmp_path)
    assert [p.name for p in checkpoints.iterdir()] == ["1"]
    assert (checkpoints / "1" / "weights").exists()


# --- atomic writes and full disks ---


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_atomic_folder_keeps_the_old_one_on_any_error(tmp_path, error):
    with atomic_folder(tmp_path / "a" / "c") as folder:
        (folder / "x").write_text("old")

    def fail():
        with atomic_folder(tmp_path / "a" / "c") as folder:
            (folder / "x").write_text("new")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert "what was there before is untouched" in caught.value.__notes__[0]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["c"]
    assert (tmp_path / "a" / "c" / "x").read_text() == "old"
    with atomic_folder(tmp_path / "a" / "c") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "y").write_text("new")
    assert [p.name for p in (tmp_path / "a" / "c").iterdir()] == ["sub"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["c"]


def test_json_is_strict_and_atomic(tmp_path):
    write_json_atomic(tmp_path / "c.json", {"city": "Zürich"})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json_atomic(tmp_path / "c.json", {"x": float("nan")})
    assert (tmp_path / "c.json").read_text(encoding="utf-8") == '{\n  "city": "Zürich"\n}\n'


FILL = """
from pathlib import Path

def fill(path, make_room=lambda: None):
    with RunFolder.create(path, {}) as run:
        run.log(0, {})
        run.add_rollouts(0, [rollout_of(m) for m in range(50)])
        for kind, action in {
            "folder": lambda: write_folder(run),
            "metrics": lambda: [run.log(n, {"x" * 80: n}) for n in range(1, 100_000)],
            "rollouts": lambda: [run.add_rollouts(n, [rollout_of(m) for m in range(50)]) for n in range(1, 10_000)],
        }.items():
            try:
                action()
            except OSError as error:
                print(kind, "|", error, flush=True)
            if kind == "metrics":
                make_room()

def write_folder(run):
    with atomic_folder(run.path / "c") as folder:
        (folder / "w").write_bytes(b"old")
    with atomic_folder(run.path / "c") as folder:
        (folder / "w").write_bytes(bytes(3_000_000))

def rollout_of(m):
    return {"split": "train", "sample_key": "k", "group_index": 0, "member_index": m, "text": "y" * 100}
"""


def check_full(path, out):
    """Each of the three writes failed with a clear error, and what was saved before is whole."""
    lines = dict(line.split(" | ") for line in out.splitlines() if " | " in line)
    assert lines.keys() == {"folder", "metrics", "rollouts"}, out
    assert f"cannot write {path}/c" in lines["folder"]
    assert "metrics.jsonl" in lines["metrics"]
    assert "rollouts.sqlite" in lines["rollouts"]
    assert all("free on that disk" in line and "resume" in line for line in lines.values())
    assert (path / "c" / "w").read_bytes() == b"old"
    assert not list(path.glob("*.tmp-*"))
    assert (path / "metrics.jsonl").read_bytes().endswith(b"}\n")
    steps = [m["step"] for m in read_metrics(path)]
    assert steps == list(range(len(steps)))
    assert len(steps) > 10
    assert query_rollouts(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    by_step = query_rollouts(path, "SELECT step, count(*) AS n FROM rollouts GROUP BY step ORDER BY step")
    assert [group["step"] for group in by_step] == list(range(len(by_step)))
    assert all(group["n"] == 50 for group in by_step)
    assert len(by_step) > 2


def test_file_size_limit_gives_clear_errors_and_damages_nothing(tmp_path):
    body = FILL + (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))\n"
        "fill(sys.argv[1])"
    )
    out, _ = finish(start(body, tmp_path / "run"))
    check_full(tmp_path / "run", out)
    assert "File too large" in out
    with RunFolder.create(tmp_path / "run", {}) as run:  # with room again the run goes on
        run.rewind(3)
        run.log(3, {"x": 1})


def test_full_disk_gives_clear_errors_and_damages_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        # The metrics take what is left of the disk; the ballast then leaves the rollouts some.
        body = FILL + (
            "ballast = Path(sys.argv[1]).with_name('ballast')\n"
            "ballast.write_bytes(bytes(200_000))\n"
            "fill(sys.argv[1], ballast.unlink)"
        )
        out, _ = finish(start(body, disk / "run"))
        check_full(disk / "run", out)
        assert "No space left on device" in out
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- stopping ---

STOP = """
import os
from geospot.runs.control import StopRequest
try:
    with StopRequest() as stop:
        print("ready", flush=True)
        step = 0
        while not (stop.requested and "obey" in sys.argv):
            step += 1
            time.sleep(0.01)
            if stop.requested and step % 10 == 0:
                print("asked", flush=True)
    print("saved", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_lets_the_step_end(number):
    process = start(STOP, "obey")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = finish(process)
    assert out.splitlines()[-1] == "saved"
    assert err.splitlines() == ["Stopping after this step and saving; press Ctrl-C again to stop at once."]


def test_second_interrupt_stops_at_once_and_repeated_sigterm_does_not():
    process = start(STOP)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert out.splitlines()[-1] == "interrupted"
    assert err.count("Stopping after") == 1


def test_a_stop_that_takes_long_gives_up_the_work_and_says_what_it_waits_for(capfd, monkeypatch):
    monkeypatch.setattr(control, "GRACE_S", 0.0)
    monkeypatch.setattr(control, "PATIENCE_S", 0.01)
    given_up, asked = threading.Event(), []

    def waiting_for():
        asked.append(None)
        return "layer 3 of 36"

    with StopRequest() as stop:
        stop.give_up, stop.waiting_for = given_up.set, waiting_for
        signal.raise_signal(signal.SIGINT)
        given_up.wait()
        until(lambda: len(asked) > 1)
    assert "Still waiting for layer 3 of 36.\n" in capfd.readouterr().err


def test_handlers_come_back_and_other_threads_do_nothing():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert signal.getsignal(signal.SIGINT) != before[0]
        assert not stop.requested
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    seen = []

    def in_thread():
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert seen == [(before[0], False)]


# --- sinks ---


def test_a_sink_that_is_not_there_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install '\.\[wandb\]'"):
        RunFolder.create(tmp_path / "run", CONFIG, log_to=["wandb"])
    with pytest.raises(ValueError, match="allowed are wandb, tensorboard, trackio"):
        RunFolder.create(tmp_path / "run", CONFIG, log_to=["mlflow"])
    with pytest.raises(ValueError, match="one word"):
        RunFolder.create(tmp_path / "run", CONFIG, log_to="wandb")
    assert not (tmp_path / "run").exists()


FAKE_TRACKIO = """
class Run:
    logged = []
    def log(self, metrics, step=None):
        if step == 1:
            raise ConnectionError("no network")
        self.logged.append((step, metrics))
    def finish(self):
        pass
def init(**keys):
    return Run()
"""


def test_a_sink_that_fails_is_dropped_with_one_warning(tmp_path, monkeypatch):
    (tmp_path / "trackio.py").write_text(FAKE_TRACKIO)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    with RunFolder.create(tmp_path / "run", CONFIG, log_to=["trackio"]) as run:
        run.log(0, {"reward": 0.5, "kl": float("nan")})
        with pytest.warns(RuntimeWarning, match="trackio failed") as caught:
            run.log(1, {"reward": 0.6})
        run.log(2, {"reward": 0.7})  # no second warning
    assert len(caught) == 1
    assert sys.modules.pop("trackio").Run.logged == [(0, {"reward": 0.5})]
    assert [m["step"] for m in read_metrics(tmp_path / "run")] == [0, 1, 2]


def test_tensorboard_gets_the_metrics(tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("torch")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunFolder.create(tmp_path, CONFIG, log_to=["tensorboard"]) as run:
        run.log(0, {"reward": 0.5, "kl": float("nan")})
        run.log(1, {"reward": 0.75})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("reward")] == [(0, 0.5), (1, 0.75)]


@pytest.mark.parametrize("hurt", [lambda d: d[: len(d) // 2], lambda d: b"no database" * 1000], ids=["cut", "other"])
def test_a_damaged_rollouts_file_is_one_sentence_and_nothing_else_changes(tmp_path, hurt):
    rows = [{"split": "train", "sample_key": "a", "group_index": 0, "member_index": i, "text": "x" * 50}
            for i in range(400)]  # fmt: skip
    with RunFolder.create(tmp_path, {"seed": 0}) as run:
        for step in range(3):
            run.add_rollouts(step, rows)
            run.log(step, {"loss": 1.0})
    path = tmp_path / "rollouts.sqlite"
    whole, logged = path.read_bytes(), (tmp_path / "metrics.jsonl").read_bytes()
    path.write_bytes(hurt(whole))
    with pytest.raises(RunError, match=r"rollouts\.sqlite is damaged .*put a copy of it back, or move it away"):  # noqa: SIM117
        with RunFolder.create(tmp_path, {"seed": 0}) as run:
            run.rewind(1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == logged
    path.unlink()
    with RunFolder.create(tmp_path, {"seed": 0}) as run:
        run.rewind(3)
        assert run.add_rollouts(3, rows) == 400
