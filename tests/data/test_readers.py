"""What a fuzzer found in the readers of tars, CSVs, JSON and Parquet: each is counted or refused in our own words.

`benchmarks/reliability/fuzz_readers.py` looks for more. The files are small; their first part names the reader.
"""

import time
from contextlib import suppress
from pathlib import Path

import pytest

from geospot.data.fields import Columns
from geospot.data.samples import SkipCounter
from geospot.data.sources import open_source
from geospot.data.stream import read_places
from geospot.errors import DataError, TableError
from geospot.scoring.tables import read_guesses, read_table_truths

FOUND = sorted((Path(__file__).parent / "readers").iterdir())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_is_read_or_refused(path):
    begun = time.process_time()
    with suppress(DataError):
        list(read_places(open_source(str(path)), Columns(), SkipCounter()))
    if path.suffix != ".tar":
        for read in (read_guesses, read_table_truths):
            with suppress(TableError):
                read(path)
    assert time.process_time() - begun < 30
