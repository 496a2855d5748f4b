"""The sequences of a sampling batch: what was drawn for each, and what ends it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tinker import types

from geospot.engine.local.drawing import choose
from geospot.engine.local.sample_request import SampleRequest
from geospot.models.loading import Processing


class Rows:
    """The sequences in the batch, one row each: what was sampled for them and what ends them, in tensors."""

    def __init__(
        self,
        members: Sequence[tuple[int, int]],
        requests: Mapping[int, SampleRequest],
        draws: Mapping[int, np.ndarray],
        processing: Processing,
        device: str,
    ):
        """members: (request, member) of each row; draws: the uniform numbers of each request, (members, max_tokens)."""
        self.members, self.requests = list(members), requests
        own = [requests[q] for q, _ in members]
        # One column more than is asked for: what is still drawn for a finished row falls behind its end.
        longest, n = max(q.max_tokens for q in own) + 1, len(own)
        uniforms = np.zeros((n, longest))
        for row, (q, member) in enumerate(members):
            uniforms[row, : requests[q].max_tokens] = draws[q][member]
        stops = [_stops(q.params.stop, processing) for q in own]
        ids = np.full((n, max(1, *(len(s) for s, _ in stops)) if n else 1), -1)
        for row, (stop_ids, _) in enumerate(stops):
            ids[row, : len(stop_ids)] = stop_ids
        self.strings = [strings for _, strings in stops]
        self.searched = np.zeros(n, dtype=np.int64)

        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        self.table = {
            "tokens": torch.zeros(n, longest, dtype=torch.int64, device=device),
            "logprobs": torch.zeros(n, longest, device=device),
            "uniforms": torch.from_numpy(uniforms).to(device, torch.float64 if device == "cpu" else None),
            "stop_ids": torch.from_numpy(ids).to(device),
            "temperature": column([q.params.temperature for q in own]),
            "top_k": column([q.params.top_k for q in own]),
            "top_p": column([q.params.top_p for q in own]),
            "limit": column([q.max_tokens for q in own], torch.int64),
            "length": torch.zeros(n, 1, dtype=torch.int64, device=device),
            "done": torch.zeros(n, 1, dtype=torch.bool, device=device),
            "stopped": torch.zeros(n, 1, dtype=torch.bool, device=device),
        }
        self._look()

    def __len__(self) -> int:
        return len(self.members)

    def _look(self) -> None:
        """What holds for all rows, once a change of the batch."""
        own = [self.requests[q].params for q, _ in self.members]
        self.untempered = all(p.temperature == 1 for p in own)
        self.untruncated = all(p.top_p >= 1 and p.top_k == -1 for p in own)
        self.with_strings = [row for row, strings in enumerate(self.strings) if strings]

    def extend(self, other: "Rows") -> None:
        """Add rows that join."""
        self.members += other.members
        self.strings = [*self.strings, *other.strings]
        self.searched = np.concatenate([self.searched, other.searched])
        for name, mine in self.table.items():
            theirs = other.table[name]
            width = max(mine.shape[1], theirs.shape[1])
            fill = -1 if name == "stop_ids" else 0
            wide = (torch.nn.functional.pad(t, (0, width - t.shape[1]), value=fill) for t in (mine, theirs))
            self.table[name] = torch.cat(list(wide))
        self._look()

    def keep(self, rows: np.ndarray) -> None:
        """Let all rows go but these."""
        self.members = [self.members[row] for row in rows]
        self.strings = [self.strings[row] for row in rows]
        self.searched = self.searched[rows]
        index = torch.from_numpy(rows).to(self.table["done"].device)
        self.table = {name: t[index] for name, t in self.table.items()}
        self._look()

    def add(self, logits: torch.Tensor) -> torch.Tensor:
        """Draw a token for every row that goes on; returns the tokens (B,), of finished rows without meaning."""
        t = self.table
        at = t["length"]
        temperature = None if self.untempered else t["temperature"]
        truncation = None if self.untruncated else (t["top_k"], t["top_p"])
        tokens, logprobs = choose(logits, t["uniforms"].gather(1, at)[:, 0], temperature, truncation)
        going = ~t["done"]
        t["tokens"].scatter_(1, at, tokens[:, None])
        t["logprobs"].scatter_(1, at, logprobs[:, None])
        t["length"] += going
        hit = (tokens[:, None] == t["stop_ids"]).any(1, keepdim=True) & going
        t["stopped"] |= hit
        t["done"] |= hit | (t["length"] >= t["limit"])
        return tokens

    def tell(self) -> None:
        """Let those who listen hear of the tokens so far."""
        for row, (q, member) in enumerate(self.members):
            if (listener := self.requests[q].listener) is not None and not self.table["done"][row]:
                listener(member, self.table["tokens"][row, : int(self.table["length"][row])].tolist())

    def search_strings(self, tokenizer: Any) -> None:
        """End rows whose text holds one of their stop strings at the token that completed it."""
        for row in self.with_strings:
            length = int(self.table["length"][row])
            tokens = self.table["tokens"][row, :length].tolist()
            if any(stop in tokenizer.decode(tokens) for stop in self.strings[row]):
                ends = range(int(self.searched[row]) + 1, length + 1)
                text_until = ((n, tokenizer.decode(tokens[:n])) for n in ends)
                first = next(n for n, text in text_until if any(stop in text for stop in self.strings[row]))
                self.table["length"][row] = first
                self.table["stopped"][row] = self.table["done"][row] = True
                length = first
            self.searched[row] = length

    def sequences(self, rows: np.ndarray) -> list[types.SampledSequence]:
        """Finished rows as the API gives them."""
        index = torch.from_numpy(rows).to(self.table["done"].device)
        names = ("tokens", "logprobs", "length", "stopped")
        tokens, logprobs, lengths, stopped = (self.table[name][index].cpu().numpy() for name in names)
        return [
            types.SampledSequence(
                stop_reason="stop" if stopped[i, 0] else "length",
                sequence_id=f"{self.members[row][0]}-{self.members[row][1]}",
                tokens_np=tokens[i, : lengths[i, 0]].astype(np.int32),
                logprobs_np=logprobs[i, : lengths[i, 0]].copy(),
            )
            for i, row in enumerate(rows)
        ]


def _stops(
    stop: str | Sequence[str] | Sequence[int] | None, processing: Processing
) -> tuple[list[int], tuple[str, ...]]:
    """Token ids and strings that end an answer; the end of the turn where nothing is given."""
    if stop is None:
        return processing.stop_token_ids, ()
    if isinstance(stop, str):
        return [], (stop,)
    return [s for s in stop if not isinstance(s, str)], tuple(s for s in stop if isinstance(s, str))
