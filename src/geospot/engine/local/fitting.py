"""Work that is done in smaller parts where memory runs out, and stays so."""

import gc
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch

from geospot.engine.local.inputs import Row, micro_batches, padded_tokens

P = ParamSpec("P")
T = TypeVar("T")

# What torch says in a plain RuntimeError: its allocator on a CPU; cuBLAS, which has workspaces of its own.
_SIGNS = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


def attempt(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, None] | tuple[Any, BaseException]:
    """Call `work`: (what it returns, None), or (None, the error) where memory ran out; any other error is raised.

    The error comes without its traceback, whose frames would hold all that the failed work had allocated.
    """
    try:
        return work(*args, **kwargs), None
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        failure = error.with_traceback(None)
    gc.collect()  # objects that refer to themselves
    torch.cuda.empty_cache()
    return None, failure


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in _SIGNS)


class TokenBudget:
    """How many tokens a training pass takes at once."""

    def __init__(self, max_tokens: int):
        self.max_tokens = max_tokens

    def run(
        self,
        rows: Sequence[Row],
        indices: Sequence[int],
        work: Callable[[list[int]], None],
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Call `work` with indices of rows, batch by batch; where one is too large for memory, it and all that are left
        come again in smaller ones.

        `work` must leave nothing behind when it fails. MemoryError, with what to set, for what does not fit even alone.
        """
        batches = self._batches(rows, indices)
        while batches:
            batch = batches[0]
            _, failure = attempt(work, batch)
            if failure is None:
                del batches[0]
                if batches:
                    between()
                continue
            tokens = padded_tokens([rows[i] for i in batch])
            if len(batch) == 1:
                raise MemoryError(
                    f"one sequence of {tokens} tokens does not fit into memory: set gradient_checkpointing=true, "
                    "or a smaller max_pixels"
                ) from failure
            self.max_tokens = max(1, min(self.max_tokens, tokens // 2))
            print(
                f"a training pass of {tokens} tokens was too large for the memory: max_batch_tokens={self.max_tokens}"
            )
            batches = self._batches(rows, [i for batch in batches for i in batch])

    def _batches(self, rows: Sequence[Row], indices: Sequence[int]) -> list[list[int]]:
        return [[indices[i] for i in b] for b in micro_batches([rows[i] for i in indices], self.max_tokens)]
