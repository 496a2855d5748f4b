"""Pictures on their way into the model: decoded once, encoded by the vision tower once while it does not change."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from geospot.models.loading import Processing
from geospot.pictures import decode_image, image_size

MOST_TOKENS = 4096  # of pictures that go through the vision tower at once


class LruBytes(OrderedDict[bytes, "_Encoded"]):
    """A dictionary that forgets what was used longest ago once the tensors in it exceed `max_bytes`."""

    def __init__(self, max_bytes: int):
        super().__init__()
        self.max_bytes, self.held_bytes = max_bytes, 0

    def fetch(self, key: bytes) -> "_Encoded | None":
        """The value, marked as used just now, or None."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        return None

    def keep(self, key: bytes, value: "_Encoded") -> None:
        """Remember `value` as the newest."""
        self[key] = value
        self.held_bytes += value.n_bytes
        while self.held_bytes > self.max_bytes and len(self) > 1:
            self.held_bytes -= self.popitem(last=False)[1].n_bytes


@dataclass(frozen=True)
class _Encoded:
    """A picture behind the vision tower: its features (n_tokens, hidden), those that go in behind deeper layers, and
    what else the model's forward wants to know of it (its grid)."""

    features: tuple[torch.Tensor, ...]
    extras: dict[str, torch.Tensor]

    @property
    def n_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.features, *self.extras.values()))

    def copy(self) -> "_Encoded":
        """Without the batch it was made in: a view would keep all of that alive."""
        return _Encoded(tuple(t.clone() for t in self.features), {k: t.clone() for k, t in self.extras.items()})


@lru_cache(maxsize=2048)
def digest(data: bytes) -> bytes:
    """What a picture is known by: taken once a picture, though a step asks for it with each of its answers."""
    return hashlib.sha256(data).digest()


class Pictures:
    """Encodes pictures with a model's vision tower.

    With a frozen tower the features of a picture are kept (up to `cache_bytes`), so that the members of a group, the
    passes over a step's answers and every evaluation encode it once. With a tower in training they are made anew.
    """

    def __init__(
        self,
        model: Any,
        processing: Processing,
        *,
        frozen: bool,
        cache_bytes: int = 1 << 30,
        batch: int = 64,
    ):
        self.model, self.processing, self.frozen, self.batch = model, processing, frozen, batch
        self._features = LruBytes(cache_bytes)
        self._counts: dict[bytes, int] = {}
        # Not every family of models has grids or sizes: what the functions are named for decides.
        self._encoder_takes = set(signature(model.model.get_image_features).parameters)
        self.forward_takes = set(signature(model.model.forward).parameters) - {"pixel_values"}
        self._in_one = False  # whether the model hands on the features of all pictures as one tensor
        self.encoded = 0  # how many pictures went through the tower: what the cache saves shows here

    def count_tokens(self, data: bytes) -> int:
        """Image tokens that the encoded picture takes; raises ValueError where it cannot be read to its end."""
        key = digest(data)
        if key not in self._counts:
            if len(self._counts) > 1_000_000:
                self._counts.clear()
            self._counts[key] = self.processing.count_image_tokens(*image_size(data))
        return self._counts[key]

    def _preprocess(self, pictures: Sequence[bytes]) -> dict[str, torch.Tensor]:
        images = [decode_image(data) for data in pictures]
        # Said rather than guessed by the processor: one row or column of pixels could be taken for the channels.
        out = self.processing.image_processor(images=images, input_data_format="channels_last", return_tensors="pt")
        parameter = next(self.model.parameters())
        return {
            key: value.to(parameter.device, parameter.dtype if value.is_floating_point() else None)
            for key, value in out.items()
            if key in self._encoder_takes
        }

    def _encode(self, pictures: Sequence[bytes]) -> list[_Encoded]:
        """What the vision tower makes of each picture."""
        out = []
        for part in self._parts(pictures):
            inputs = self._preprocess(part)
            result = self.model.get_image_features(**inputs, return_dict=True)
            deep = getattr(result, "deepstack_features", None) or ()
            extras = {key: value for key, value in inputs.items() if key in self.forward_takes}
            self.encoded += len(result.pooler_output)
            self._in_one = isinstance(result.pooler_output, torch.Tensor)
            for i, features in enumerate(result.pooler_output):
                encoded = features, *(layer[i] for layer in deep)
                out.append(_Encoded(encoded, {key: value[i] for key, value in extras.items()}))
        return out

    def _parts(self, pictures: Sequence[bytes]) -> Iterator[list[bytes]]:
        """At most `batch` pictures, and at most `MOST_TOKENS` of them, at a time."""
        part: list[bytes] = []
        held = 0
        for data in pictures:
            tokens = self.count_tokens(data)
            if part and (len(part) == self.batch or held + tokens > MOST_TOKENS):
                yield part
                part, held = [], 0
            part.append(data)
            held += tokens
        if part:
            yield part

    def encode(self, pictures: Sequence[bytes]) -> dict[str, Any]:
        """The pictures in order, as the model's forward takes them."""
        keys = [digest(data) for data in pictures]
        known: dict[bytes, _Encoded | None] = {key: self._features.fetch(key) for key in keys} if self.frozen else {}
        fresh = {key: data for key, data in zip(keys, pictures, strict=True) if known.get(key) is None}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            encoded = dict(zip(fresh, self._encode(list(fresh.values())), strict=True))
        if self.frozen:
            for key, value in encoded.items():
                self._features.keep(key, value.copy())
        known |= encoded
        every = [e for key in keys if (e := known[key]) is not None]
        pooled = [e.features[0] for e in every]
        features: Any = BaseModelOutputWithPooling()
        features.pooler_output = torch.stack(pooled) if self._in_one else pooled
        if len(every[0].features) > 1:
            features.deepstack_features = list(zip(*(e.features[1:] for e in every), strict=True))
        extras = {key: torch.stack([e.extras[key] for e in every]) for key in every[0].extras}
        return {"mm_encoder_outputs": {"image": features}} | extras
