"""A run as one self-contained HTML file: tables with intervals, world map, curves, examples, configuration."""

from geospot.report.charts import Chart, Series
from geospot.report.examples import Example, StageAnswer, pick_examples
from geospot.report.page import write_report
from geospot.report.tables import Row, Table

__all__ = ["Chart", "Example", "Row", "Series", "StageAnswer", "Table", "pick_examples", "write_report"]
