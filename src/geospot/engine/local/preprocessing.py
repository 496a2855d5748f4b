"""Encoded pictures as a vision tower's input: the numbers of transformers' image processor, without its way there.

transformers' processors turn a picture into floating-point numbers first and copy those several times, in one thread:
21 to 48 ms for 512 x 512 pixels. Here the processor only resizes, several pictures at once; pixels stay bytes until
they are on the device, where they are cut into patches, rescaled and normalised.
"""

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch

from geospot.pictures import decode_image

Batch = dict[str, torch.Tensor]
_PROBES = ((61, 87), (112, 56))  # height, width of two pictures that show whether a way gives the processor's numbers
_THREADS = 8
_ROWS = 128  # patches of 14 x 14 pixels whose numbers fit into a core's cache


class Preprocessing:
    """Calls like an image processor, on encoded pictures. `takes`: the inputs that the vision tower wants."""

    def __init__(self, image_processor: Any, takes: Collection[str]):
        self.processor, self.takes = image_processor, takes
        self.way = next((way for way in (self._patches, self._planes) if self._agrees(way)), self._whole)

    def __call__(self, pictures: Sequence[bytes], device: torch.device | str, dtype: torch.dtype) -> Batch:
        """The inputs of the vision tower for pictures, floating-point ones in `dtype`.

        BadSample for one that cannot be decoded to its end.
        """
        images = self._each(decode_image, pictures)
        batch = self.way(images, torch.device(device)) or self._whole(images, torch.device(device))
        return {
            key: value.to(device, dtype if value.is_floating_point() else None)
            for key, value in batch.items()
            if key in self.takes
        }

    # -- the ways, of images (height, width, 3); None where they do not fit together ----------------------------------

    def _patches(self, images: Sequence[np.ndarray], device: torch.device) -> Batch | None:
        """For Qwen-VL's and its relatives': the patches of all pictures in a row, (n_patches, 3 x time x y x x)."""
        p = self.processor
        patch, merge, time = p.patch_size, p.merge_size, p.temporal_patch_size

        def resized(image: np.ndarray) -> np.ndarray:
            planes = image.transpose(2, 0, 1)
            return p.resize(planes, size=p.size, resample=p.resample, factor=patch * merge) if p.do_resize else planes

        cuts, grids = [], []
        for image in self._each(resized, images):
            planes = torch.from_numpy(np.ascontiguousarray(image)).to(device)
            y, x = planes.shape[1] // patch, planes.shape[2] // patch
            cut = planes.view(3, y // merge, merge, patch, x // merge, merge, patch).permute(1, 4, 2, 5, 0, 3, 6)
            cuts.append(cut.reshape(y * x, 3, patch * patch))
            grids.append([1, y, x])
        out = torch.empty(sum(map(len, cuts)), 3, time, patch * patch, device=device)
        # A few at a time, and into their place at once: new memory costs a processor more than the arithmetic.
        pieces = [piece for cut in cuts for piece in (cut.split(_ROWS) if device.type == "cpu" else [cut])]
        for place, piece in zip(out.split([len(piece) for piece in pieces]), pieces, strict=True):
            place.copy_(self._normalised(piece[..., None])[..., 0][:, :, None])
        return {"pixel_values": out.flatten(1), "image_grid_thw": torch.tensor(grids)}

    def _planes(self, images: Sequence[np.ndarray], device: torch.device) -> Batch | None:
        """For those that give each picture as (..., 3, height, width): all but the arithmetic is the processor's."""

        def processed(image: np.ndarray) -> Batch:
            return self._whole([image], device, do_rescale=False, do_normalize=False)

        parts = self._each(processed, images)
        if any(part[key].shape[1:] != parts[0][key].shape[1:] for part in parts for key in parts[0]):
            return None  # in one batch the processor would pad them
        batch = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        if batch["pixel_values"].dtype != torch.uint8:
            return None
        return batch | {"pixel_values": self._normalised(batch["pixel_values"].to(device))}

    def _whole(self, images: Sequence[np.ndarray], device: torch.device, **options: bool) -> Batch:
        """The processor itself."""
        # Said rather than guessed by the processor: one row or column of pixels could be taken for the channels.
        given = {"input_data_format": "channels_last", "return_tensors": "pt"}
        return dict(self.processor(images=list(images), **given, **options))

    # -- their parts --------------------------------------------------------------------------------------------------

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (..., 3, height, width) -> float32, rounded where transformers rounds."""
        p = self.processor
        values = (pixels.double() * p.rescale_factor).float() if p.do_rescale else pixels.float()
        if p.do_normalize:
            mean, std = (
                torch.tensor(part, device=pixels.device)[:, None, None] for part in (p.image_mean, p.image_std)
            )
            values = values.sub_(mean).div_(std)
        return values

    def _agrees(self, way: Any) -> bool:
        """Whether a way gives the processor's own output for two pictures of noise."""
        noise = np.random.default_rng(0)
        images = [noise.integers(0, 256, (*size, 3), dtype=np.uint8) for size in _PROBES]
        want = self._whole(images, torch.device("cpu"))
        try:
            got = way(images, torch.device("cpu"))
        except Exception:  # a processor that is built otherwise: whatever it raises, it is run itself
            return False
        return got is not None and all(
            key in got and got[key].shape == value.shape and torch.allclose(got[key].float(), value.float(), atol=1e-5)
            for key, value in want.items()
            if key in self.takes
        )

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="geospot-pictures")

    def _each(self, work: Any, items: Sequence[Any]) -> list[Any]:
        """The work of each item; several at once, since decoding and resizing let other threads run."""
        return list(self._pool.map(work, items)) if len(items) > 1 else [work(item) for item in items]
