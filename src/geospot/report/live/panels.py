"""Which curves of a run the page shows, and in which units."""

from dataclasses import dataclass
from typing import Any

PHASES = ("eval", "data", "sample", "reward", "update")


@dataclass(frozen=True)
class Line:
    """A series of a panel: the key of metrics.jsonl (after `SET/` where `per_set`), and what it is called."""

    key: str
    name: str
    band: bool = False  # with an interval: KEY_low, KEY_high


@dataclass(frozen=True)
class Panel:
    """A diagram over the steps. `per_set`: its lines are drawn for each held-out set."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    log: bool = False
    per_set: bool = False


PANELS = (
    Panel("Median distance, held-out", "km", (Line("median_km", "", band=True),), log=True, per_set=True),
    Panel("Reward, its scale tightens", "", (Line("reward", "reward"),)),
    Panel("Reward by part", "mean, 0 to 1", tuple(
        Line(f"reward_{part}", part) for part in ("coordinate", "country", "region", "city"))),
    Panel("Median distance of the sampled answers", "km", (
        Line("train/median_km", "median"), Line("train/best_of_group_km", "best of a group")), log=True),
    Panel("Tau", "km", (Line("tau_km", "tau"),), log=True),
    Panel("Weights of the reward", "", (Line("coord_weight", "coordinates"), Line("hierarchy_weight", "labels"))),
    Panel("Entropy", "nats per token", (Line("entropy", "entropy"),)),
    Panel("Groups without signal", "share", (Line("groups_without_signal", "share"),)),
    Panel("Loss", "", (Line("loss", "loss"),)),
    Panel("Norm of the gradient", "", (Line("grad_norm", "norm"),)),
    Panel("Seconds per step", "s", (
        *(Line(f"time/{phase}", phase) for phase in PHASES), Line("step_seconds", "step"))),
    Panel("Score, held-out", "points of 5,000", (Line("geoguessr_score", "", band=True),), per_set=True),
)  # fmt: skip

_KEYS = frozenset(line.key for panel in PANELS for line in panel.lines if not panel.per_set)
_ENDINGS = frozenset(
    f"/{line.key}{end}" for panel in PANELS if panel.per_set for line in panel.lines for end in ("", "_low", "_high")
)


def wanted(row: dict[str, Any]) -> dict[str, Any]:
    """What the panels show of a line of metrics.jsonl."""
    return {
        key: value
        for key, value in row.items()
        if key == "step" or key in _KEYS or (f"/{key.rpartition('/')[2]}" in _ENDINGS and not key.startswith("train/"))
    }


def panels_json() -> list[dict[str, Any]]:
    """The panels as the page reads them."""
    return [
        {"title": p.title, "unit": p.unit, "log": p.log, "perSet": p.per_set,
         "lines": [{"key": line.key, "name": line.name, "band": line.band} for line in p.lines]}
        for p in PANELS
    ]  # fmt: skip
