"""A source as one part, its parts one behind the other: what a stream then reads is in the source's own order."""

from collections.abc import Iterator
from dataclasses import replace

from geospot.data.records import Record, Skip, Source

PART = 1 << 48  # a cursor is the part's number times this, plus the cursor in it


class InOrder(Source):
    """Reads `source` from its first part to its last."""

    def __init__(self, source: Source):
        self.source = source
        self.spec, self.remote, self.revision = source.spec, source.remote, source.revision
        self.retries = source.retries
        self.parts = [source.identity()]

    def read(self, part: int, start: int = 0) -> Iterator[Record | Skip]:
        """All records from a cursor on."""
        first, cursor = divmod(start, PART)
        for i in range(first, len(self.source.parts)):
            for item in self.source.read(i, cursor):
                yield (
                    replace(item, start=i * PART + item.start, end=i * PART + item.end)
                    if isinstance(item, Record)
                    else item
                )
            cursor = 0

    def fetch(self, part: int, start: int, end: int) -> Record:
        """One record again."""
        i, cursor = divmod(start, PART)
        return replace(self.source.fetch(i, cursor, end - i * PART), start=start, end=end)
