"""Whether a picture is of the kind that a radius was calibrated on: a test against the calibration's own pictures.

A conformal test for outliers (Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 51,
2023): how far a picture's features lie from the mean of one half of the calibration's pictures (Mahalanobis) is ranked
among the same distances of the other half. A picture of their kind is refused with probability ALPHA or less, whatever
the features are; how many of another kind are found depends on how different they look.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALPHA = 0.02
_SIDE = 64  # pixels; light and detail are measured on pictures of this size
_FLAT = 0.005  # change of light that is none
_SCORES = 1000  # of the other half's distances are kept
_SHARE = 0.05  # of each variance, added to it, so that no combination of features is infinitely strange
# The least variance of a feature; of the size and the shape, in which many sets do not vary at all.
_LEAST, _LEAST_SIZE, _LEAST_SHAPE = 0.01**2, 0.25**2, 0.1**2
_DIGITS = 5


def picture_features(pictures: Sequence[bytes]) -> np.ndarray:
    """(F,) what the pictures of a place look like, whatever they show: light, colour, detail, sky above ground, size.

    The mean over the pictures.
    """
    return np.mean([_features(picture) for picture in pictures], axis=0)


def _features(picture: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        whole = image.convert("RGB")
    width, height = whole.size
    colours = np.asarray(whole.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64) / 255
    red, green, blue = np.moveaxis(colours, -1, 0)
    light, saturation = 0.299 * red + 0.587 * green + 0.114 * blue, colours.max(axis=2) - colours.min(axis=2)
    tints, third = (light, blue - light, red - light), _SIDE // 3
    found = [tint.mean() for tint in tints] + [tint.std() for tint in tints] + [saturation.mean(), saturation.std()]
    found += [*np.percentile(light, [5, 95]), light[:third].std() - light[-third:].std()]
    found += [tint[:third].mean() - tint[-third:].mean() for tint in tints]
    for size in (64, 32, 16, 8):
        blocks = light.reshape(size, _SIDE // size, size, _SIDE // size).mean(axis=(1, 3))
        rows, columns = (np.log(_change(blocks, axis) + _FLAT) for axis in (0, 1))
        found += [(rows + columns) / 2, rows - columns]
    full = np.asarray(whole.convert("L"), np.float64) / 255
    sharp, coarse = (sum(_change(full, axis, n) for axis in (0, 1)) for n in (2, 1))
    found += [np.log((sharp + _FLAT) / (coarse + _FLAT)), np.log(width * height), abs(np.log(width / height))]
    return np.array(found)


def _change(light: np.ndarray, axis: int, n: int = 1) -> float:
    """The mean n-th difference of light along an axis; 0 for a picture too narrow to have one."""
    steps = np.abs(np.diff(light, n, axis=axis))
    return float(steps.mean()) if steps.size else 0.0


@dataclass(frozen=True)
class Likeness:
    """What the pictures of a calibration look like.

    `mean` (F,) and `whitening` (F, F) turn features into a distance; `scores`, ascending, are the distances of other
    pictures of the calibration; `spread_km` is the widest spread of the answers to any of them.
    """

    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    scores: tuple[float, ...]
    spread_km: float

    @classmethod
    def of(cls, features: np.ndarray, spread_km: np.ndarray) -> "Likeness":
        """From the features (N, F) and spreads (N,) of N pictures, four or more; NaN spreads are those of no answer."""
        order = np.random.default_rng(0).permutation(len(features))
        one, other = features[order[: len(order) // 2]], features[order[len(order) // 2 :][:_SCORES]]
        mean, least = one.mean(axis=0), np.full(features.shape[1], _LEAST)
        least[-2:] = _LEAST_SIZE, _LEAST_SHAPE
        spread = np.cov(one.T) + np.diag(np.maximum(_SHARE * one.var(axis=0), least))
        whitening = np.linalg.inv(np.linalg.cholesky(spread)).round(_DIGITS)
        scores = np.sort(np.linalg.norm((other - mean.round(_DIGITS)) @ whitening.T, axis=1)).round(_DIGITS)
        widest = float(np.nanmax(spread_km)) if np.isfinite(spread_km).any() else 0.0
        return cls(tuple(mean.round(_DIGITS).tolist()), tuple(map(tuple, whitening.tolist())),
                   tuple(scores.tolist()), widest)  # fmt: skip

    @classmethod
    def of_json(cls, value: dict) -> "Likeness":
        """From plain JSON; KeyError or TypeError where it is none."""
        whitening = tuple(map(tuple, value["whitening"]))
        return cls(tuple(value["mean"]), whitening, tuple(value["scores"]), float(value["spread_km"]))

    def p_value(self, features: np.ndarray) -> float:
        """How probable a picture as strange as this is among those of the kind: 1 / (scores + 1) or more."""
        score = np.linalg.norm(np.array(self.whitening) @ (np.asarray(features) - np.array(self.mean)))
        return (1 + int(np.sum(np.array(self.scores) >= score - 10**-_DIGITS))) / (len(self.scores) + 1)

    def unlike(self, features: np.ndarray, spread_km: float) -> str:
        """Why a picture is not of the kind; "" where nothing speaks against it.

        Where the calibration's pictures are too few to tell ALPHA, one that is stranger than all of them is refused.
        """
        p = self.p_value(features)
        if p <= max(ALPHA, 1 / (len(self.scores) + 1)):
            return f"this one does not look like them (p = {p:.2g})"
        if spread_km > 1.01 * self.spread_km:
            return f"the answers to this one lie farther apart ({spread_km:,.0f} km) than those to any of them"
        return ""
