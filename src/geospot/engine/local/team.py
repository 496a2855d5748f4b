"""Several processes, each with a GPU (or a CPU) and a copy of the model, that share every pass: data parallel.

Started by torchrun or `accelerate launch`, which set RANK, LOCAL_RANK and WORLD_SIZE. The first process runs the
command and keeps the optimizer; the others do their shares of its passes with the weights it sends (`follow`), so that
nothing above the engine knows how many there are. A loss is a sum over tokens: the sum of the shares' gradients is the
gradient of the whole.
"""

import atexit
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import distributed as dist

from geospot.engine.local.network import Network
from geospot.engine.local.options import NetworkSpec, team_size
from geospot.engine.local.work import R, Scored, Work
from geospot.errors import EngineGone

# A follower waits for its next share as long as the first process reads data or evaluates.
_PATIENCE = timedelta(days=7)


class Team:
    """This process's place among the others: one a process, for all engines that it opens."""

    def __init__(self, device: str):
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        self.rank, self.size, self.device = int(os.environ["RANK"]), team_size(), device
        with self._together():  # one may end while they meet, too
            dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
            # Headers and shares are no tensors. (That a process may stand outside of a group is not so here.)
            self._objects: Any = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self._sent: dict[NetworkSpec, int] = {}
        if self.rank == 0:
            atexit.register(self.close)

    @staticmethod
    def of(device: str) -> "Team | None":
        """This process's team, where torchrun or accelerate started more than one process."""
        return _team(device) if team_size() > 1 else None

    def execute(
        self, spec: NetworkSpec, network: Network, weights: Mapping[str, torch.Tensor], key: int, work: Work[R]
    ) -> R:
        """The first process's side of a pass: send weights that changed and shares, do one's own, join the results."""
        shares, where = work.shares(self.size)
        is_new = self._sent.get(spec) != key
        header = {"spec": spec, "names": list(weights) if is_new else None, "close": False}
        mine: list[Any] = [None]
        with self._together():
            dist.broadcast_object_list([header], group=self._objects)
            if is_new:
                for name in weights:
                    dist.broadcast(weights[name].data.contiguous(), 0)
                self._sent[spec] = key
            dist.scatter_object_list(mine, shares, group=self._objects)
        results, gradients = self._do(network, weights, mine[0])
        failures = [r for r in results if isinstance(r, BaseException)]
        if failures:
            raise failures[0]
        return work.joined(results, where, gradients)

    def follow(self, network_of: Callable[[NetworkSpec], Network]) -> None:
        """A follower's whole life: do shares until the first process closes. `network_of(spec)` is the model."""
        held: dict[NetworkSpec, dict[str, torch.Tensor]] = {}
        while True:
            box: list[Any] = [None]
            share: list[Any] = [None]
            with self._together():
                dist.broadcast_object_list(box, group=self._objects)
            header = box[0]
            if header["close"]:
                return
            network = network_of(header["spec"])
            if header["names"] is not None:
                weights = {name: torch.empty_like(network.trainable[name]) for name in header["names"]}
                with self._together():
                    for name in weights:
                        dist.broadcast(weights[name], 0)
                held[header["spec"]] = weights
            with self._together():
                dist.scatter_object_list(share, None, group=self._objects)
            self._do(network, held[header["spec"]], share[0])

    def _do(
        self, network: Network, weights: Mapping[str, torch.Tensor], work: Work[Any]
    ) -> tuple[list[Any], dict[str, torch.Tensor]]:
        """Everybody's part of a pass: results of all in the first process, gradients summed there."""
        try:
            network.activate(weights)
            result: Any = work.run(network)
        except BaseException as error:
            result = error
        gradients: dict[str, torch.Tensor] = {}
        if isinstance(result, Scored):  # gradients go by themselves, as tensors
            gradients, result = result.gradients, replace(result, gradients={})
        results: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(results, (result, list(gradients)), group=self._objects)
        names = {name for _, found in results for name in found}
        results = [result for result, _ in results]
        summed = {}
        if not any(isinstance(r, BaseException) for r in results):
            for name in [n for n in network.trainable if n in names]:  # in everybody's same order
                total = gradients.get(name)
                total = torch.zeros_like(network.trainable[name]) if total is None else total.contiguous()
                with self._together():
                    dist.reduce(total, 0)
                summed[name] = total
        return results, summed

    @contextmanager
    def _together(self) -> Generator[None]:
        """EngineGone where another process is no more: what they do together cannot go on."""
        try:
            yield
        except RuntimeError as error:
            raise EngineGone(
                f"process {self.rank} (from 0) of {self.size} lost the others: one has ended, and says why where it "
                f"could. The same command goes on from the last checkpoint ({str(error).splitlines()[0]})"
            ) from error

    def close(self) -> None:
        """Let the followers go, when the first process ends."""
        if self.rank == 0:
            with suppress(EngineGone), self._together():
                dist.broadcast_object_list([{"close": True}], group=self._objects)
        dist.destroy_process_group()


@cache
def _team(device: str) -> Team:
    return Team(device)
