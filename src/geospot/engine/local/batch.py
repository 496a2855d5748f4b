"""Sample requests of one snapshot that run together, between other work: some join later, some are let go."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from tinker import types

from geospot.engine.local.fitting import attempt
from geospot.engine.local.options import NetworkSpec
from geospot.engine.local.sample_request import Listener, SampleRequest
from geospot.engine.local.sampler import Running
from geospot.engine.local.work import Host, Sampling

# A prompt, how many answers, how they are drawn, and who hears of their tokens as they come.
Payload = tuple[types.ModelInput, int, types.SamplingParams, Listener | None]


@dataclass(frozen=True)
class Snapshot:
    """Weights to sample with: what `save_weights_and_get_sampling_client` froze."""

    spec: NetworkSpec
    weights: Mapping[str, torch.Tensor]
    key: int


class SampleBatch:
    """A `turns.Batch`. All of a service share the room that there is for caches."""

    def __init__(self, service: Host, snapshot: Snapshot):
        self._service, self._snapshot = service, snapshot
        self._network = service.network(snapshot.spec)
        self._running: Running | None = None
        self._requests: dict[int, SampleRequest] = {}  # by ticket, until they are done
        self._n_tickets = 0
        service.sampled.add(self)

    @property
    def is_idle(self) -> bool:
        """Nothing is left to do."""
        return not self._requests

    @property
    def positions(self) -> int:
        """What its caches hold."""
        return 0 if self._running is None else self._running.positions

    def add(self, payload: Payload) -> int:
        """Let a request join; ValueError where the prompt is none for the model."""
        prompt, num_samples, params, listener = payload
        request = SampleRequest(self._network.tokens(prompt), num_samples, params, listener)
        ticket, self._n_tickets = self._n_tickets, self._n_tickets + 1
        self._requests[ticket] = request
        if self._running is not None:
            self._running.add(ticket, request)
        return ticket

    def drop(self, ticket: int) -> None:
        """Let a request go."""
        del self._requests[ticket]
        if self._running is not None:
            self._running.drop(ticket)

    def advance(self, stop: Callable[[], bool]) -> dict[int, types.SampleResponse]:
        """Go on, a token at least, until `stop`; the answers that are whole by then, by ticket."""
        network = self._network = self._service.network(self._snapshot.spec)
        network.activate(self._snapshot.weights)
        finished: dict[int, types.SampleResponse] = {}
        while self._requests:
            limit = network.max_sample_tokens
            _, failure = attempt(self._go_on, limit, stop, finished)
            if failure is None:
                return finished
            # All anew, with less at a time: each request's random numbers come from its own seed.
            self._running = None
            work = Sampling(list(self._requests.values()), self._snapshot.key)
            network.max_sample_tokens = work.fewer(network, limit, failure)
        return finished

    def _go_on(self, limit: int, stop: Callable[[], bool], finished: dict[int, types.SampleResponse]) -> None:
        running = self._running
        if running is None:
            running = Running(self._network, self._snapshot.key)
            for ticket, request in self._requests.items():
                running.add(ticket, request)
            self._running = running
        else:
            running.resume()
        others = sum(batch.positions for batch in self._service.sampled if batch is not self)
        while not running.is_idle:
            for ticket in running.step(limit - others):
                del self._requests[ticket]
                finished[ticket] = types.SampleResponse(sequences=running.answers.pop(ticket))
            if stop() or finished:
                return
