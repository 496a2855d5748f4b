"""One colour has one meaning, for readers with any colour vision: distances measured in OKLab, deficiencies simulated.

The bound is five times what a trained eye can just tell apart side by side (about 2 in units of a hundredth).
"""

import re
from importlib import resources
from itertools import combinations

import numpy as np
import pytest

STYLE = resources.files("geospot.report").joinpath("style.css").read_text(encoding="utf-8")
# Linear RGB; Machado, Oliveira and Fernandes 2009, severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
# Ottosson 2020.
TO_LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_OKLAB = [
    [0.2104542553, 0.793617785, -0.0040720468],
    [1.9779984951, -2.428592205, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.808675766],
]


def colours(scheme: str) -> dict[str, np.ndarray]:
    """The style sheet's colours by name as linear RGB (3,), 0 to 1; the dark scheme's over the light one's."""
    blocks = re.findall(r":root \{(.*?)\n *\}", STYLE, re.S)
    light, dark = (dict(re.findall(r"--(\w+): #(\w{6})[ ;]", block)) for block in blocks)
    values = light | (dark if scheme == "dark" else {})
    rgb = {name: np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255 for name, code in values.items()}
    return {name: np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for name, c in rgb.items()}


def apart(a: np.ndarray, b: np.ndarray, vision: str) -> float:
    def oklab(colour: np.ndarray) -> np.ndarray:
        seen = np.clip(np.array(VISION[vision]) @ colour, 0, 1)
        return np.array(TO_OKLAB) @ np.cbrt(np.array(TO_LMS) @ seen)

    return 100 * float(np.linalg.norm(oklab(a) - oklab(b)))


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    """WCAG 2.2."""
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ c) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_distances_can_be_told_apart(scheme, vision):
    found = colours(scheme)
    dots = [found[f"d{i}"] for i in range(5)]
    assert min(apart(a, b, vision) for a, b in combinations(dots, 2)) > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_colour_of_a_distance_is_nearly_that_of_a_curve(scheme):
    found = colours(scheme)
    assert min(apart(found[f"d{i}"], found[f"s{j}"], "normal") for i in range(5) for j in range(4)) > 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_from_what_is_behind_them(scheme):
    found = colours(scheme)
    for behind in ("paper", "card", "sea"):
        assert contrast(found["ink"], found[behind]) >= 7
        assert contrast(found["muted"], found[behind]) >= 4.5
        assert contrast(found["edge"], found[behind]) >= 3  # of buttons
    assert contrast(found["ink"], found["land"]) >= 3  # the rim of every dot
    assert contrast(found["place"], found["land"]) >= 3


def test_a_figure_for_a_paper_has_the_colours_of_the_page():
    figures = pytest.importorskip("geospot.report.figures")
    named = dict(re.findall(r"--([ds]\d): (#\w{6})", STYLE[: STYLE.index("@media")]))
    assert list(figures.DISTANCE_COLOURS) == [named[f"d{i}"] for i in range(5)]
    assert list(figures.MODEL_COLOURS) == [named[f"s{i}"] for i in range(4)]
