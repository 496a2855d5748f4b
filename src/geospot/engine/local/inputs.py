"""From `ModelInput`s to padded tensors: tokens, pictures, and the prefix that the members of a group share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from tinker import types


@dataclass(frozen=True)
class Tokens:
    """A model input with every picture written out as image tokens.

    ids: (N,) int64; is_image: (N,) bool; pictures: the encoded images in order; pictures_end: first position after
    the last image token.
    """

    ids: np.ndarray
    is_image: np.ndarray
    pictures: tuple[bytes, ...]
    pictures_end: int

    def __len__(self) -> int:
        return len(self.ids)


def to_tokens(
    model_input: types.ModelInput, image_token_id: int | None, count_image_tokens: Callable[[bytes], int]
) -> Tokens:
    """Write out a `ModelInput`; `count_image_tokens(data)` says how many tokens a picture takes.

    Raises ValueError for an empty text chunk, a wrong `expected_tokens`, an image token in the text, or a kind of
    chunk that this engine does not know, as the service does.
    """
    ids, is_image, pictures, end = [], [], [], 0
    for chunk in model_input.chunks:
        if isinstance(chunk, types.EncodedTextChunk):
            if not len(chunk.tokens):
                raise ValueError("empty text chunk: leave it out of the ModelInput")
            tokens = np.asarray(chunk.tokens, dtype=np.int64)
            if image_token_id is not None and (tokens == image_token_id).any():
                raise ValueError("a text chunk holds the image token: pictures are given as ImageChunk")
            ids.append(tokens)
            is_image.append(np.zeros(len(tokens), dtype=bool))
        elif isinstance(chunk, types.ImageChunk):
            if image_token_id is None:
                raise ValueError("this model takes no pictures")
            n = count_image_tokens(chunk.data)
            if chunk.expected_tokens is not None and chunk.expected_tokens != n:
                raise ValueError(f"expected_tokens={chunk.expected_tokens}: the picture takes {n} tokens")
            ids.append(np.full(n, image_token_id, dtype=np.int64))
            is_image.append(np.ones(n, dtype=bool))
            pictures.append(chunk.data)
            end = sum(map(len, ids))
        else:
            raise ValueError(f"a chunk of type {type(chunk).__name__}: only text and image chunks are supported")
    if not ids:
        raise ValueError("an empty ModelInput")
    return Tokens(np.concatenate(ids), np.concatenate(is_image), tuple(pictures), end)


@dataclass(frozen=True)
class Row:
    """One sequence of a scoring pass.

    targets: (N,) or (N, K) int64, what each position should predict; scored: bool of the same shape, where that counts;
    also: where its log-probability is reported although it does not count. Positions before `split` form the prefix,
    which rows with the same prefix share.
    """

    tokens: Tokens
    targets: np.ndarray
    scored: np.ndarray
    also: np.ndarray | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing counts and nothing is reported."""
        return not (self.scored.any() or (self.also is not None and self.also.any()))

    @cached_property
    def split(self) -> int:
        """After the first position that counts, or after the last picture where that comes later."""
        counts = self.scored.reshape(len(self.tokens), -1).any(1)
        first = int(np.argmax(counts)) if counts.any() else len(self.tokens) - 1
        return max(first + 1, self.tokens.pictures_end)

    @cached_property
    def prefix_key(self) -> tuple:
        """Equal for rows whose prefixes are equal, pictures included."""
        return self.tokens.ids[: self.split].tobytes(), self.tokens.pictures


@dataclass(frozen=True)
class ScoringBatch:
    """Rows to score in one pass, their shared prefixes told apart.

    heads: one row for each of the U different prefixes; group: (B,), each row's prefix; scored: what counts, row after
    row; also: what is only reported, each once where rows share a prefix; also_at: its place in `also` for each
    position that is reported, row after row.
    """

    rows: Sequence[Row]
    heads: list[Row]
    group: np.ndarray
    scored: "Places"
    also: "Places"
    also_at: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "ScoringBatch":
        """Find the shared prefixes and where the scored positions are."""
        first: dict[tuple, int] = {}
        heads, group = [], []
        for row in rows:
            u = first.setdefault(row.prefix_key, len(first))
            if u == len(heads):
                heads.append(row)
            group.append(u)
        group = np.asarray(group)
        nowhere = np.zeros(0, dtype=bool)
        also = Places.of(rows, [nowhere if row.also is None else row.also for row in rows], group)
        also, also_at = also.distinct()
        return cls(rows, heads, group, Places.of(rows, [row.scored for row in rows], group), also, also_at)

    @property
    def suffixes(self) -> list[np.ndarray]:
        """The token ids behind each row's prefix."""
        return [row.tokens.ids[row.split :] for row in self.rows]


@dataclass(frozen=True)
class Places:
    """K positions of a batch and what they should predict: (K,) arrays.

    in_prefix: whether it stands in a prefix; owner: which prefix, else which row; at: where in it, or behind it.
    """

    targets: np.ndarray
    in_prefix: np.ndarray
    owner: np.ndarray
    at: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row], masks: Sequence[np.ndarray], group: np.ndarray) -> "Places":
        """Where the masks are set, row after row."""
        where = [np.nonzero(mask)[0] for mask in masks]
        chosen = [
            row.targets[mask] if mask.size else row.targets[:0].ravel() for row, mask in zip(rows, masks, strict=True)
        ]
        row_of, at = np.repeat(np.arange(len(rows)), [len(w) for w in where]), np.concatenate(where)
        split = np.array([row.split for row in rows])[row_of]
        inside = at < split
        return cls(
            np.concatenate(chosen), inside, np.where(inside, group[row_of], row_of), np.where(inside, at, at - split)
        )

    def distinct(self) -> tuple["Places", np.ndarray]:
        """Each place once, and where each of these is among them."""
        keys = np.stack([self.in_prefix, self.owner, self.at, self.targets], 1).astype(np.int64)
        _, first, back = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return Places(self.targets[first], self.in_prefix[first], self.owner[first], self.at[first]), back.reshape(-1)

    def index(self, of_prefix: np.ndarray, of_row: np.ndarray) -> np.ndarray:
        """Where each place is in hidden states, from where each prefix and what follows it in each row begin there."""
        start = np.zeros(len(self.at), dtype=np.int64)
        start[self.in_prefix] = of_prefix[self.owner[self.in_prefix]]
        start[~self.in_prefix] = of_row[self.owner[~self.in_prefix]]
        return start + self.at


def micro_batches(rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
    """Indices of `rows` in batches of at most `max_tokens` padded tokens, rows of one prefix kept together if they fit.

    Sorted by length, so that little is padded; a row longer than the budget gets a batch of its own. Deterministic.
    """
    order = sorted(
        range(len(rows)), key=lambda i: (rows[i].split, rows[i].prefix_key, len(rows[i].tokens) - rows[i].split, i)
    )
    batches: list[list[int]] = []
    current: list[int] = []
    prefixes: set = set()
    longest_prefix = longest_suffix = 0
    for i in order:
        row = rows[i]
        new_prefixes = len(prefixes | {row.prefix_key})
        p, s = max(longest_prefix, row.split), max(longest_suffix, len(row.tokens) - row.split)
        if current and new_prefixes * p + (len(current) + 1) * s > max_tokens:  # as `padded_tokens` counts
            batches.append(current)
            current, prefixes = [], set()
            p, s = row.split, len(row.tokens) - row.split
        current.append(i)
        prefixes.add(row.prefix_key)
        longest_prefix, longest_suffix = p, s
    return [*batches, current] if current else batches


def padded_tokens(rows: Sequence[Row]) -> int:
    """What a batch of `rows` counts: each different prefix once, and all that follows them, padded."""
    longest_prefix, longest_suffix = (
        max(n) for n in zip(*((r.split, len(r.tokens) - r.split) for r in rows), strict=True)
    )
    return len({row.prefix_key for row in rows}) * longest_prefix + len(rows) * longest_suffix


def pad(rows: Sequence[np.ndarray], value: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack 1-d arrays into (B, longest) int64; returns them with their attention mask (B, longest)."""
    longest = max(map(len, rows), default=0)
    out = np.full((len(rows), longest), value, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        where = slice(longest - len(row), longest) if left else slice(0, len(row))
        out[i, where], mask[i, where] = row, 1
    return torch.from_numpy(out), torch.from_numpy(mask)
