"""Pictures on their way into the model: decoded once, encoded by the vision tower once while it does not change."""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from geospot.engine.local.preprocessing import Preprocessing
from geospot.engine.local.tower import FrozenTower, Seen
from geospot.models.loading import Processing
from geospot.pictures import image_size

MOST_TOKENS = 4096  # of pictures that go through the vision tower at once


class LruBytes(OrderedDict[Hashable, Any]):
    """A dictionary that forgets what was used longest ago once the tensors in it exceed `max_bytes`."""

    def __init__(self, max_bytes: int):
        super().__init__()
        self.max_bytes, self.held_bytes = max_bytes, 0

    def fetch(self, key: Hashable) -> Any:
        """The value, marked as used just now, or None."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        return None

    def keep(self, key: Hashable, value: Any) -> None:
        """Remember `value`, an `_Encoded` or a `Seen`, as the newest."""
        self[key] = value
        self.held_bytes += n_bytes(value)
        while self.held_bytes > self.max_bytes and len(self) > 1:
            self.held_bytes -= n_bytes(self.popitem(last=False)[1])


@dataclass(frozen=True)
class _Encoded:
    """A picture behind the vision tower: its features (n_tokens, hidden), those that go in behind deeper layers, and
    what else the model's forward wants to know of it (its grid)."""

    features: tuple[torch.Tensor, ...]
    extras: dict[str, torch.Tensor]

    def copy(self) -> "_Encoded":
        """Without the batch it was made in: a view would keep all of that alive."""
        return _Encoded(tuple(t.clone() for t in self.features), {k: t.clone() for k, t in self.extras.items()})


def n_bytes(kept: "_Encoded | Seen") -> int:
    """What a picture takes while it is kept."""
    groups = (kept.features, kept.extras) if isinstance(kept, _Encoded) else (kept.given, kept.others)
    return sum(t.numel() * t.element_size() for t in (*groups[0], *groups[1].values()))


@lru_cache(maxsize=2048)
def digest(data: bytes) -> bytes:
    """What a picture is known by: taken once a picture, though a step asks for it with each of its answers."""
    return hashlib.sha256(data).digest()


def preprocessing_of(model: Any, processing: Processing) -> Preprocessing:
    """What turns pictures into the inputs of a model's vision tower."""
    return Preprocessing(processing.image_processor, set(signature(model.model.get_image_features).parameters))


class Pictures:
    """Encodes pictures with a model's vision tower.

    With a frozen tower the features of a picture are kept (in `kept`, which several models share), so that the members
    of a group, the passes over a step's answers and every evaluation encode it once. Where only the projector behind
    it differs from the base model, what the tower makes of the picture is kept. With a tower in training all is made
    anew.
    """

    def __init__(
        self,
        model: Any,
        processing: Processing,
        kept: LruBytes,
        *,
        parts: Collection[str] = (),
        batch: int = 64,
        prepare: Preprocessing | None = None,
    ):
        """parts: of `options.PARTS`, those in which the model differs from the one that `kept` is of.

        prepare: the `preprocessing_of` the model, where it is known.
        """
        self.model, self.processing, self.batch = model, processing, batch
        self.frozen = not {"vision", "projector"} & {*parts}
        self.tower = FrozenTower(model) if "projector" in parts and "vision" not in parts else None
        self._kept = kept
        self._counts: dict[bytes, int] = {}
        # Not every family of models has grids or sizes: what the functions have parameters for decides.
        self.prepare = prepare or preprocessing_of(model, processing)
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
        parameter = next(self.model.parameters())
        return self.prepare(pictures, parameter.device, parameter.dtype)

    def _encode(self, pictures: Sequence[bytes]) -> list[_Encoded]:
        """What the vision tower makes of each picture, with a projector in training of what was kept of the tower's."""
        out = []
        for part in self._parts(pictures):
            out += self._behind_tower(part) or self._through(self._preprocess(part))
        return out

    def _through(self, inputs: dict[str, torch.Tensor]) -> list[_Encoded]:
        result = self.model.get_image_features(**inputs, return_dict=True)
        self.encoded += len(result.pooler_output)
        return self._split(result, inputs)

    def _split(self, result: Any, inputs: Mapping[str, torch.Tensor]) -> list[_Encoded]:
        """The result of `get_image_features`, picture by picture."""
        deep = getattr(result, "deepstack_features", None) or ()
        extras = {key: value for key, value in inputs.items() if key in self.forward_takes and key != "pixel_values"}
        self._in_one = isinstance(result.pooler_output, torch.Tensor)
        return [
            _Encoded((features, *(layer[i] for layer in deep)), {key: value[i] for key, value in extras.items()})
            for i, features in enumerate(result.pooler_output)
        ]

    def _behind_tower(self, pictures: Sequence[bytes]) -> list[_Encoded] | None:
        """Through the projector alone, the tower's part kept; None where the model is not built for that."""
        tower = self.tower
        if tower is None or not tower.is_known:
            return None
        keys = [("tower", digest(data)) for data in pictures]
        seen: dict[Hashable, Seen | None] = {key: self._kept.fetch(key) for key in keys}
        if fresh := {key: data for key, data in zip(keys, pictures, strict=True) if seen[key] is None}:
            inputs = self._preprocess(list(fresh.values()))
            if (rows := _rows(inputs, len(fresh))) is None:
                tower.is_known = False
                return None
            found = tower.look(inputs, rows)
            if not tower.agrees(inputs, found):
                return None
            self.encoded += len(fresh)
            for key, value in zip(fresh, found, strict=True):
                seen[key] = value
                self._kept.keep(key, value)
        every = [s for key in keys if (s := seen[key]) is not None]
        grids = {name: torch.cat([s.others[name] for s in every]) for name in every[0].others}
        return self._split(tower.features(every), grids)

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
        known: dict[bytes, _Encoded | None] = {key: self._kept.fetch(key) for key in keys} if self.frozen else {}
        fresh = {key: data for key, data in zip(keys, pictures, strict=True) if known.get(key) is None}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            encoded = dict(zip(fresh, self._encode(list(fresh.values())), strict=True))
        if self.frozen:
            for key, value in encoded.items():
                self._kept.keep(key, value.copy())
        known |= encoded
        every = [e for key in keys if (e := known[key]) is not None]
        pooled = [e.features[0] for e in every]
        features: Any = BaseModelOutputWithPooling()
        features.pooler_output = torch.stack(pooled) if self._in_one else pooled
        if len(every[0].features) > 1:
            features.deepstack_features = list(zip(*(e.features[1:] for e in every), strict=True))
        extras = {key: torch.stack([e.extras[key] for e in every]) for key in every[0].extras}
        return {"mm_encoder_outputs": {"image": features}} | extras


def _rows(inputs: Mapping[str, torch.Tensor], n: int) -> list[int] | None:
    """How many rows of pixels each of n pictures has; None where that cannot be told."""
    if (grid := inputs.get("image_grid_thw")) is not None:
        return grid.prod(1).tolist()
    return [1] * n if all(len(value) == n for value in inputs.values()) else None
