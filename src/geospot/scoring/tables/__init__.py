"""Tables that others made (predictions, truths): CSV, JSON lines, JSON, Parquet; every oddity is told."""

from geospot.errors import TableError
from geospot.scoring.tables.formats import RawTable, read_raw
from geospot.scoring.tables.predictions import read_guesses, read_table_truths

__all__ = ["RawTable", "TableError", "read_guesses", "read_raw", "read_table_truths"]
