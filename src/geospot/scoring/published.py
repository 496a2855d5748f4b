"""What papers report, with source and what they leave out; and what their own answers give, read and scored here.

Figures are as printed in the source, on the same pictures only where the set is the same. A figure that was found in
no source is not here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geospot.earth.score import ACCURACY_RADII_KM
from geospot.scoring.metrics import TITLES

_NO_INTERVALS = "no intervals"
_NO_FAILURES = "no intervals, and not how many answers failed"
_STRICT = "a strict JSON reader: an answer that it refuses (185 of 934 by GPT-5) is a failed one; " + _NO_INTERVALS


@dataclass(frozen=True)
class Published:
    """A row of a table: `metrics` by the keys of `summarize` (and `acc_0.5km`), `source` where it stands, `left_out`
    what it does not say or count. `rescored`: of answers that are public, read and scored here.
    """

    data: str
    model: str
    metrics: dict[str, float]
    source: str
    left_out: str
    rescored: bool = False


def _within(*percent: float, radii: Sequence[float] = ACCURACY_RADII_KM) -> dict[str, float]:
    return {f"acc_{r:g}km": p / 100 for r, p in zip(radii, percent, strict=True)}


def _six(*percent: float) -> dict[str, float]:
    return _within(*percent, radii=(0.5, 2, 10, 25, 200, 750))


_MAP = "Ji et al. 2026, Thinking with Map, arXiv:2601.05432, table 4"
_ENVS = "HuggingEnvs 03-geoguesser, README (autumn 2026)"
_TURNS = "median of a multi-turn game on 200 tasks; episodes without a guess are counted apart"
PUBLISHED = (
    Published("im2gps3k", "GeoCLIP", _within(14.1, 34.5, 50.7, 69.7, 83.8), "Vivanco et al. 2023, arXiv:2309.16020",
              _NO_INTERVALS),
    Published("im2gps3k", "PIGEOTTO", _within(11.3, 36.7, 53.8, 72.4, 85.3), "Haas et al. 2024, arXiv:2307.05845",
              _NO_INTERVALS),
    Published("im2gps3k", "GRE", _within(11.3, 35.3, 51.7, 69.3, 85.7), "GRE Suite 2025, arXiv:2505.18700, table 2",
              _NO_FAILURES),
    Published("im2gps3k", "GLOBE", _within(9.8, 40.2, 56.2, 71.5, 82.4), "Li et al. 2025, arXiv:2506.14674",
              _NO_INTERVALS),
    Published("im2gps3k", "GeoRanker", _within(18.8, 45.1, 61.5, 76.3, 89.3), "Jia et al. 2025, arXiv:2505.13731",
              _NO_INTERVALS),
    Published("im2gps3k", "Geo-R", _within(18.1, 41.5, 58.3, 75.3, 86.4), "Wu et al. 2026, arXiv:2601.00388, as quoted "
              "by papernotes.org", _NO_INTERVALS),
    Published("osv5m", "OSV-5M baseline", {
        "geoguessr_score": 3361.0, "mean_km": 1814.0, "geo_country_acc": 0.680, "geo_region_acc": 0.394,
        "geo_area_acc": 0.103, "geo_city_acc": 0.059}, "Astruc et al. 2024, arXiv:2404.18873", _NO_INTERVALS),
    Published("geobench", "GPT-5", _six(33.30, 46.90, 59.64, 63.17, 67.13, 75.05), _MAP, _STRICT),
    Published("geobench", "GPT-o3", _six(33.08, 50.75, 61.99, 64.45, 67.67, 73.45), _MAP, _STRICT),
    Published("geobench", "Gemini-3-Pro with Google Search and Maps", _six(37.79, 47.22, 51.61, 53.64, 56.32, 59.10),
              _MAP, _STRICT),
    Published("geobench", "Qwen3-VL-235B-A22B", _six(19.38, 46.68, 66.60, 71.52, 78.05, 91.54), _MAP, _STRICT),
    Published("geobench", "GLOBE-7B", _six(11.21, 43.69, 69.15, 71.72, 78.50, 88.78), _MAP, _STRICT),
    Published("geobench", "GeoVista-7B with Google Search", _six(6.85, 26.55, 45.50, 51.17, 54.81, 58.35), _MAP,
              _STRICT),
    Published("geobench", "Thinking with Map, 4 answers and a verifier", _six(57.94, 69.16, 76.17, 77.57, 80.84, 89.02),
              _MAP, _STRICT),
    Published("geobench", "GPT-5, its public answers read by geospot", _within(38.3, 78.9, 93.9, radii=(0.5, 25, 750)),
              "95 % intervals 76.2 to 81.4 within 25 km, 92.2 to 95.3 within 750 km", "nothing: all 934 answers count",
              rescored=True),
    Published("geobench", "GeoVista-7B (all of its GeoBench, 1,132 pictures)", {
        "median_km": 2.35, "text_country_acc": 0.9264, "text_region_acc": 0.7960, "text_city_acc": 0.7268},
        "Wang et al. 2025, arXiv:2511.15705, table 2", _NO_FAILURES),
    Published("imageo2", "GPT-5", _six(11.14, 19.91, 28.12, 32.62, 50.62, 72.78), _MAP, _NO_FAILURES),
    Published("imageo2", "GPT-o3", _six(9.66, 18.76, 27.41, 30.85, 47.06, 67.04), _MAP, _NO_FAILURES),
    Published("imageo2", "Gemini-3-Pro with Google Search and Maps", _six(16.33, 27.33, 33.22, 37.00, 48.78, 62.67),
              _MAP, _NO_FAILURES),
    Published("imageo2", "Qwen3-VL-235B-A22B", _six(1.78, 5.66, 11.88, 15.76, 34.07, 62.38), _MAP, _NO_FAILURES),
    Published("imageo2", "GLOBE-7B", _six(0.33, 1.33, 4.77, 7.77, 31.74, 65.37), _MAP, _NO_FAILURES),
    Published("imageo2", "GeoVista-7B with Google Search", _six(0.22, 1.11, 3.77, 5.66, 12.54, 20.08), _MAP,
              _NO_FAILURES),
    Published("imageo2", "Thinking with Map, 4 answers and a verifier", _six(20.53, 22.64, 26.19, 30.19, 46.06, 75.69),
              _MAP, _NO_FAILURES),
    Published("huggingenvs", "claude-sonnet-5", {"median_km": 324.0}, _ENVS, _TURNS),
    Published("huggingenvs", "Qwen3.5-4B, GRPO (run 1)", {"median_km": 662.0}, _ENVS, _TURNS + " (0.5 %)"),
    Published("huggingenvs", "gpt-5.4-mini", {"median_km": 753.0}, _ENVS, _TURNS),
    Published("huggingenvs", "claude-haiku-4.5", {"median_km": 939.0}, _ENVS, _TURNS),
    Published("huggingenvs", "Qwen3.5-4B, untrained", {"median_km": 1226.0}, _ENVS, _TURNS + " (29.5 %)"),
)  # fmt: skip


def published_rows(data: str | None) -> list[Published]:
    """What papers report on a set (im2gps3k, osv5m, geobench, ...); on all of them where the set is not known."""
    known = {row.data for row in PUBLISHED}
    plain = "".join(c for c in (data or "").lower() if c.isalnum())
    name = next((name for name in sorted(known) if name in plain), None)
    return [row for row in PUBLISHED if name is None or row.data == name]


def published_notes(data: str | None) -> list[str]:
    """What papers report, in words: figures on other pictures do not belong in a table of one's own. What was scored
    here from their answers comes last and says so.
    """
    rows = sorted(published_rows(data), key=lambda row: row.rescored)
    return [
        f"{'Re-scored here' if row.rescored else 'Published'} on {row.data}: {row.model}, {_in_words(row.metrics)} "
        f"({row.source}). Left out: {row.left_out}."
        for row in rows
    ]


def _in_words(metrics: Mapping[str, float]) -> str:
    radii = {key: value for key, value in metrics.items() if key.endswith("km") and key.startswith("acc_")}
    parts = []
    if radii:
        names = " / ".join(f"{float(key[4:-2]):,g}" for key in radii)
        parts.append(f"{' / '.join(f'{100 * value:.1f}' for value in radii.values())} % within {names} km")
    for key, value in metrics.items():
        if key.endswith("_acc"):
            parts.append(f"{TITLES[key]} {100 * value:.1f} %")
        elif key not in radii:
            parts.append(f"{key.replace('_', ' ')} {value:,.4g}")
    return ", ".join(parts)
