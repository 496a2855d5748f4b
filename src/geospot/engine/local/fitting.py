"""Micro-batches that become smaller where memory runs out, and stay so."""

from collections.abc import Callable, Sequence

import torch

from geospot.engine.local.inputs import Row, micro_batches


class TokenBudget:
    """How many tokens a training pass takes at once."""

    def __init__(self, max_tokens: int):
        self.max_tokens = max_tokens

    def run(self, rows: Sequence[Row], indices: Sequence[int], work: Callable[[list[int]], None]) -> None:
        """Call `work` with indices of rows, batch by batch; a batch that is too large for memory comes again in halves.

        `work` must leave nothing behind when it fails. What does not fit even alone raises torch's own error, with what
        to set instead.
        """
        batches = [[indices[i] for i in b] for b in micro_batches([rows[i] for i in indices], self.max_tokens)]
        while batches:
            batch = batches.pop(0)
            tokens = sum(len(rows[i].tokens) for i in batch)
            try:
                work(batch)
                continue
            except (torch.OutOfMemoryError, MemoryError) as error:
                if len(batch) == 1:
                    raise MemoryError(
                        f"one sequence of {tokens} tokens does not fit into memory: set gradient_checkpointing=true, "
                        "or a smaller max_pixels"
                    ) from error
            # Behind the handler: the error holds the failed pass's tensors alive.
            torch.cuda.empty_cache()
            self.max_tokens = max(1, min(self.max_tokens, tokens) // 2)
            print(
                f"a training pass of {tokens} tokens was too large for the memory: max_batch_tokens={self.max_tokens}"
            )
            half = len(batch) // 2
            batches = [batch[:half], batch[half:], *batches]
