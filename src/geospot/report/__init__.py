"""A run as one self-contained HTML file: tables with intervals, world map, curves, examples, configuration."""

from geospot.report.charts import Chart, Series
from geospot.report.document import Example, StageAnswer, pick_examples, write_report
from geospot.report.metric_tables import Row, Table

__all__ = ["Chart", "Example", "Row", "Series", "StageAnswer", "Table", "pick_examples", "write_report"]
