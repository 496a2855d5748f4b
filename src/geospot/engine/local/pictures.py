"""Pictures on their way into the model: decoded once, encoded by the vision tower once while it does not change."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from geospot.models.loading import Processing, decode_image, image_size


class LruBytes(OrderedDict):
    """A dictionary that forgets what was used longest ago once the tensors in it exceed `max_bytes`."""

    def __init__(self, max_bytes: int):
        super().__init__()
        self.max_bytes, self.held_bytes = max_bytes, 0

    def fetch(self, key):
        """The value, marked as used just now, or None."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        return None

    def keep(self, key, value: tuple[torch.Tensor, ...]) -> None:
        """Remember `value` as the newest."""
        self[key] = value
        self.held_bytes += _n_bytes(value)
        while self.held_bytes > self.max_bytes and len(self) > 1:
            self.held_bytes -= _n_bytes(self.popitem(last=False)[1])


def _n_bytes(tensors: tuple[torch.Tensor, ...]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


class Pictures:
    """Encodes pictures with a model's vision tower.

    With a frozen tower the features of a picture are kept (up to `cache_bytes`), so that the members of a group, the
    passes over a step's answers and every evaluation encode it once. With a tower in training they are made anew.
    """

    def __init__(self, model, processing: Processing, *, frozen: bool, cache_bytes: int = 1 << 30, batch: int = 64):
        self.model, self.processing, self.frozen, self.batch = model, processing, frozen, batch
        self._features = LruBytes(cache_bytes)
        self._counts: dict[bytes, int] = {}
        self.encoded = 0  # how many pictures went through the tower: what the cache saves shows here

    def count_tokens(self, data: bytes) -> int:
        """Image tokens that the encoded picture takes; raises ValueError where it cannot be read to its end."""
        key = hashlib.sha256(data).digest()
        if key not in self._counts:
            if len(self._counts) > 1_000_000:
                self._counts.clear()
            self._counts[key] = self.processing.count_image_tokens(*image_size(data))
        return self._counts[key]

    def _preprocess(self, pictures: Sequence[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        images = [decode_image(data) for data in pictures]
        out = self.processing.image_processor(images=images, return_tensors="pt")
        parameter = next(self.model.parameters())
        return out["pixel_values"].to(parameter.device, parameter.dtype), out["image_grid_thw"].to(parameter.device)

    def _encode(self, pictures: Sequence[bytes]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(features (n_tokens, hidden), grid (3,)) of each picture."""
        out = []
        for start in range(0, len(pictures), self.batch):
            pixels, grid = self._preprocess(pictures[start : start + self.batch])
            features = self.model.get_image_features(pixels, grid, return_dict=True).pooler_output
            self.encoded += len(grid)
            out += zip(features, grid, strict=True)
        return out

    def encode(self, pictures: Sequence[bytes]) -> tuple[BaseModelOutputWithPooling, torch.Tensor]:
        """Features of the pictures in order, as the model's forward takes them, and their grids (n, 3)."""
        keys = [hashlib.sha256(data).digest() for data in pictures]
        known = {key: self._features.fetch(key) for key in keys} if self.frozen else {}
        fresh = {key: data for key, data in zip(keys, pictures, strict=True) if known.get(key) is None}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            encoded = dict(zip(fresh, self._encode(list(fresh.values())), strict=True))
        if self.frozen:
            for key, value in encoded.items():
                # A copy: a view would keep the whole batch's tensor alive.
                self._features.keep(key, tuple(t.clone() for t in value))
        both = [encoded[key] if key in encoded else known[key] for key in keys]
        features = BaseModelOutputWithPooling(pooler_output=[f for f, _ in both])
        return features, torch.stack([grid for _, grid in both])
