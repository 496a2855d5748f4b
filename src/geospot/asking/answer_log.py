"""Ask a model about a set of pictures, batch by batch; every answer is kept at once and asked for only once."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from geospot.asking.cluster import Draws, read_draws
from geospot.asking.requests import Question, ask_texts
from geospot.data.samples import Sample
from geospot.errors import RunError
from geospot.files import FolderLock, JsonLines, write_json_atomic
from geospot.models.prompt import Renderer
from geospot.runs.config import typed

if TYPE_CHECKING:
    from geospot.engine.protocols import SamplingClient


class AnswerLog:
    """The answers of an evaluation in a folder, a picture a line in `answers.jsonl`, whatever stops the program.

    `settings` say what was asked of what. A folder with the answers to other settings is refused: they must not mix.
    """

    def __init__(self, folder: str | Path, settings: dict, *, fresh: bool = False):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.folder)
        try:
            self._check(settings, fresh)
            self._lines = JsonLines(self.folder / "answers.jsonl")
            self._answers = {(row["set"], row["i"]): (row["key"], row["texts"]) for row in self._lines.read()}
        except BaseException:
            self._lock.release()
            raise

    def _check(self, settings: dict, fresh: bool) -> None:
        path = self.folder / "settings.json"
        if path.is_file() and not fresh:
            before = json.loads(path.read_text(encoding="utf-8"))
            for key in [*before, *settings]:
                if before.get(key) != settings.get(key):
                    raise RunError(
                        f"out={self.folder}: holds the answers to {key}={typed(before.get(key))}, and this is "
                        f"{key}={typed(settings.get(key))}; give another folder, or resume=never to ask anew"
                    )
            return
        (self.folder / "answers.jsonl").unlink(missing_ok=True)
        write_json_atomic(path, settings)

    def __enter__(self) -> "AnswerLog":
        return self

    def __exit__(self, *exc: object) -> None:
        self._lines.close()
        self._lock.release()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, set_name: str, i: int, key: str) -> list[str] | None:
        """The answers to picture i of a set; RunError where another picture stood there."""
        found = self._answers.get((set_name, i))
        if found is None:
            return None
        if found[0] != key:
            raise RunError(
                f"out={self.folder}: picture {i} of {set_name} was {found[0]!r} and is {key!r} now: the data has "
                "changed; give another folder, or resume=never to ask anew"
            )
        return found[1]

    def add(self, set_name: str, rows: Iterable[tuple[int, str, list[str]]]) -> None:
        """Keep the answers (texts) to pictures (i, key) and wait until the disk has them."""
        for i, key, texts in rows:
            texts = [text.encode("utf-8", "replace").decode() for text in texts]  # a lone surrogate is no UTF-8
            self._lines.append({"set": set_name, "i": i, "key": key, "texts": texts})
            self._answers[set_name, i] = key, texts
        self._lines.sync()


def ask_set(
    sampler: "Callable[[], SamplingClient]",
    renderer: Renderer,
    name: str,
    samples: Iterable[Sample],
    question: Question,
    log: AnswerLog,
    *,
    batch_size: int = 256,
) -> Iterator[tuple[list[Sample], list[Draws], int]]:
    """Batches of samples with what the answers to each say, and how many were asked for now, not found in the log.

    `sampler()` gives the sampling client; it is called once, and only if something has to be asked.
    """
    client = None
    for start, part in _batches(samples, batch_size):
        answers = [log.get(name, start + i, sample.key) for i, sample in enumerate(part)]
        todo = [i for i, found in enumerate(answers) if found is None]
        if todo:
            client = client or sampler()
            texts = ask_texts(client, renderer, [part[i] for i in todo], question, [start + i for i in todo])
            log.add(name, [(start + i, part[i].key, found) for i, found in zip(todo, texts, strict=True)])
            answers = [log.get(name, start + i, sample.key) for i, sample in enumerate(part)]
        yield part, [read_draws(texts or ()) for texts in answers], len(todo)


def _batches(samples: Iterable[Sample], size: int) -> Iterator[tuple[int, list[Sample]]]:
    iterator, start = iter(samples), 0
    while part := list(islice(iterator, size)):
        yield start, part
        start += len(part)
