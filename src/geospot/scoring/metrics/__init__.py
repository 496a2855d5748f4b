"""Metrics over a fixed evaluation set in which every answer counts, with bootstrap intervals.

Each metric comes twice. The plain keys are over all pictures: an answer that failed (NaN coordinates) scores 0, misses
every radius and every label, and enters `median_km` and `mean_km` as MAX_DISTANCE_KM, the greatest distance on Earth,
so that failing never pays. The keys under `answered/` are over the answers that gave coordinates.
`docs/metrics.md` has one line per key.
"""

from geospot.scoring.metrics.baselines import best_constant_place
from geospot.scoring.metrics.bootstrap import bootstrap_intervals, intervals, resample
from geospot.scoring.metrics.compare import Difference, difference, paired_differences
from geospot.scoring.metrics.groups import Group, by_group
from geospot.scoring.metrics.predictions import LEVELS, LOCATED, STATED, Predictions
from geospot.scoring.metrics.summary import METRICS, columns, summarize

__all__ = [
    "LEVELS",
    "LOCATED",
    "METRICS",
    "STATED",
    "Difference",
    "Group",
    "Predictions",
    "best_constant_place",
    "bootstrap_intervals",
    "by_group",
    "columns",
    "difference",
    "intervals",
    "paired_differences",
    "resample",
    "summarize",
]
