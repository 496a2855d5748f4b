"""Metrics over a fixed evaluation set in which every answer counts, with bootstrap intervals.

Each metric comes twice. The plain keys are over all pictures: an answer that failed (NaN coordinates) scores 0, misses
every radius and every label, and enters `median_km` and `mean_km` as MAX_DISTANCE_KM, the greatest distance on Earth,
so that failing never pays. The keys under `answered/` are over the answers that gave coordinates.
`docs/metrics.md` has one line per key.
"""

from geospot.scoring.metrics.bootstrap import resample
from geospot.scoring.metrics.groups import Group, by_group
from geospot.scoring.metrics.intervals import Difference, bootstrap_intervals, difference, intervals, paired_differences
from geospot.scoring.metrics.summary import LEVELS, LOCATED, METRICS, STATED, TITLES, Predictions, columns, summarize

__all__ = [
    "LEVELS",
    "LOCATED",
    "METRICS",
    "STATED",
    "TITLES",
    "Difference",
    "Group",
    "Predictions",
    "bootstrap_intervals",
    "by_group",
    "columns",
    "difference",
    "intervals",
    "paired_differences",
    "resample",
    "summarize",
]
