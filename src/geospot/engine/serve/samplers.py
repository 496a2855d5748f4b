"""The samplers of all clients: those used last are in memory, the others on the disk, where none is ever lost."""

import asyncio
import shutil
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from geospot.engine.futures import LocalFuture
from geospot.engine.local.machine import free_bytes
from geospot.engine.local.sampling import LocalSamplingClient
from geospot.engine.local.service import LocalServiceClient
from geospot.engine.serve.wire import Refused, unknown

KEPT = 8  # samplers whose weights are in memory; each is a copy of what is trained
SPARE_BYTES = 1 << 30  # of the disk, left free
SPARE_MEMORY_BYTES = 1 << 28  # for the work itself
FOLDER = ".snapshots"  # of unnamed snapshots, below the checkpoint folder


@dataclass
class Sampler:
    """One sampling session: whose weights, the engine's client for them while it is in memory, and how to load it."""

    sampler_id: str
    base_model: str
    model_path: str | None  # tinker://..., None for the model as it is and for an unnamed snapshot
    client: LocalFuture[LocalSamplingClient] | None
    load: Callable[[], LocalFuture[LocalSamplingClient]] | None = None  # None: it is nowhere but in memory
    is_base: bool = False  # the model as it is: nothing of its own in memory
    is_written: bool = False  # it is on its way to the disk

    @property
    def session_id(self) -> str:
        """Whose it is."""
        return self.sampler_id.partition(":")[0]


class Samplers:
    """By id. Unnamed snapshots that are not among the last used are written below `root` and loaded again when used."""

    def __init__(self, service: LocalServiceClient, kept: int = KEPT):
        self.service, self.kept, self.device = service, kept, service.options.device
        self.root = Path(service.options.checkpoint_dir).absolute() / FOLDER
        shutil.rmtree(self.root, ignore_errors=True)  # of a server that was killed: its snapshots belong to nobody
        self._samplers: OrderedDict[str, Sampler] = OrderedDict()  # the least recently used first

    def __len__(self) -> int:
        return len(self._samplers)

    def __contains__(self, sampler_id: str) -> bool:
        return sampler_id in self._samplers

    def __iter__(self):
        return iter(list(self._samplers.values()))

    def check_room(self, n_bytes: int) -> None:
        """Refused where another snapshot of this size could not be kept: said now rather than once it is wanted.

        Where memory is short all but the last used go to the disk, and the client is to come again.
        """
        if not _has_memory(self.device, n_bytes):
            self._spill(1)
            if any(sampler.is_written for sampler in self):
                raise Refused(429, "earlier snapshots are on their way to the disk; come again", retry_after_s=1)
        check_memory(self.device, "another snapshot", n_bytes)
        place = self.root
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < n_bytes + SPARE_BYTES:
            raise Refused(  # no 5xx, after which the SDK would try again for minutes
                422,
                f"no room for another snapshot of {n_bytes / 1e6:.1f} MB: {free / 1e9:.2f} GB of the disk are free and "
                f"{SPARE_BYTES >> 30} GB are left alone; close clients that are done, or delete checkpoints",
            )

    def add(self, sampler: Sampler) -> None:
        """Keep a sampler."""
        self._samplers[sampler.sampler_id] = sampler
        self._samplers.move_to_end(sampler.sampler_id)
        self._spill()

    def get(self, sampler_id: str | None) -> Sampler:
        """The sampler; Refused where there is none."""
        if sampler_id not in self._samplers:
            raise unknown(
                f"sampling session {sampler_id!r}",
                "its client's session ended, or the server did, with which unnamed snapshots are gone; go on from the "
                "last checkpoint",
            )
        return self._samplers[sampler_id]

    async def client(self, sampler_id: str) -> LocalSamplingClient:
        """The engine's client, loaded if need be, and marked as used just now."""
        sampler = self.get(sampler_id)
        self._samplers.move_to_end(sampler_id)
        if sampler.client is None:
            assert sampler.load is not None
            sampler.client = sampler.load()
            self._spill()
        loading: Future[LocalSamplingClient] = sampler.client.future()
        try:
            return await asyncio.shield(asyncio.wrap_future(loading))
        except BaseException:
            if loading.done() and sampler.load is not None:
                sampler.client = None  # the next request tries again
            raise

    def drop(self, session_id: str) -> None:
        """Forget the samplers of a session."""
        for sampler_id in [s.sampler_id for s in self if s.session_id == session_id]:
            del self._samplers[sampler_id]
        shutil.rmtree(self.root / session_id, ignore_errors=True)

    def _spill(self, kept: int | None = None) -> None:
        """Let go all but the last used; kept: how many."""
        kept = self.kept if kept is None else kept
        held = [s for s in self._samplers.values() if s.client is not None and not s.is_base and _is_ready(s.client)]
        for sampler in held[: max(0, len(held) - kept)]:
            if sampler.load is not None:
                sampler.client = None
            elif not sampler.is_written:
                self._write(sampler)

    def _write(self, sampler: Sampler) -> None:
        """Write an unnamed snapshot; it stays in memory until that is done, and where it cannot be done."""
        assert sampler.client is not None
        sampler.is_written = True
        folder = self.root / sampler.session_id / sampler.sampler_id.rpartition(":")[2]
        written = sampler.client.future().result().save(folder).future()
        loop = asyncio.get_running_loop()

        def done() -> None:
            sampler.is_written = False
            if written.exception() is None and sampler.load is None and sampler.sampler_id in self._samplers:
                sampler.load = lambda: self.service.create_sampling_client(model_path=str(folder))
                sampler.client = None

        written.add_done_callback(lambda _: loop.call_soon_threadsafe(done))


def _has_memory(device: str, n_bytes: int) -> bool:
    free = free_bytes(device)
    return free is None or free >= n_bytes + SPARE_MEMORY_BYTES


def check_memory(device: str, what: str, n_bytes: int = 0) -> None:
    """Refused where there is no memory for something more that is kept: said now rather than when it is used."""
    if not _has_memory(device, n_bytes):
        raise Refused(
            422,
            f"no memory for {what}: {(free_bytes(device) or 0) / 1e9:.2f} GB are free, of which "
            f"{SPARE_MEMORY_BYTES / 1e9:.1f} GB are left alone; close clients that are done",
        )


def _is_ready(client: LocalFuture[LocalSamplingClient]) -> bool:
    future = client.future()
    return future.done() and future.exception() is None
