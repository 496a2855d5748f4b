"""Ask a model about a set of pictures, batch by batch; every answer is kept at once and asked for only once."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from geospot.answer import Reply
from geospot.asking.cluster import Draws, read_draws
from geospot.asking.prior import Prior
from geospot.asking.requests import Question
from geospot.asking.respondents import Inquiry, Respondent
from geospot.data.samples import Sample
from geospot.errors import RunError
from geospot.files import FolderLock, JsonLines, write_json_atomic
from geospot.runs.config import typed


class AnswerLog:
    """The answers of an evaluation in a folder, in the lines of `answers.jsonl`, whatever stops the program.

    A line has the texts of answers to one picture; `members` says which they are where they are not all, and `about`
    how each ended, thoughts, tokens and the server's name of the model, where there is more to say than the text.

    `settings` say what was asked of what. A folder with the answers to other settings is refused: they must not mix.
    """

    def __init__(self, folder: str | Path, settings: dict, *, fresh: bool = False):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.folder)
        try:
            self._check(settings, fresh)
            self._lines = JsonLines(self.folder / "answers.jsonl")
            self._answers: dict[tuple[str, int], tuple[str, dict[int, Reply]]] = {}
            for row in self._lines.read():
                self._answers.setdefault((row["set"], row["i"]), (row["key"], {}))[1].update(_read_row(row))
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
        """Pictures with an answer."""
        return sum(1 for _, replies in self._answers.values() if replies)

    def count(self, set_name: str) -> int:
        """Pictures of a set with an answer."""
        return sum(1 for (name, _), (_, replies) in self._answers.items() if name == set_name and replies)

    def get(self, set_name: str, i: int, key: str) -> dict[int, Reply]:
        """Member -> reply to picture i of a set; RunError where another picture stood there."""
        found = self._answers.get((set_name, i))
        if found is None:
            return {}
        if found[0] != key:
            raise RunError(
                f"out={self.folder}: picture {i} of {set_name} was {found[0]!r} and is {key!r} now: the data has "
                "changed; give another folder, or resume=never to ask anew"
            )
        return found[1]

    def replies(self) -> Iterator[Reply]:
        """Every reply that it holds."""
        return (reply for _, replies in self._answers.values() for reply in replies.values())

    def add(self, set_name: str, rows: Iterable[tuple[int, str, Mapping[int, Reply]]]) -> None:
        """Keep replies (by member) to pictures (i, key) and wait until the disk has them."""
        for i, key, replies in rows:
            found = {m: replace(r, text=_utf8(r.text), thoughts=_utf8(r.thoughts)) for m, r in replies.items()}
            row: dict[str, Any] = {"set": set_name, "i": i, "key": key, "texts": [r.text for r in found.values()]}
            if list(found) != list(range(len(found))):
                row["members"] = list(found)
            if any(about := [reply.about() for reply in found.values()]):
                row["about"] = about
            self._lines.append(row)
            self._answers.setdefault((set_name, i), (key, {}))[1].update(found)
        self._lines.sync()


def _read_row(row: dict) -> dict[int, Reply]:
    """Member -> reply of a line; a request that failed is none: it is sent again."""
    texts = row["texts"]
    about = row.get("about") or [{}] * len(texts)
    replies = zip(row.get("members") or range(len(texts)), map(Reply.read, texts, about), strict=True)
    return {member: reply for member, reply in replies if reply.finish != "error"}


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is no UTF-8


def ask_set(
    respondent: Callable[[], Respondent],
    name: str,
    samples: Iterable[Sample],
    question: Question,
    log: AnswerLog,
    *,
    batch_size: int = 256,
    advance: Callable[[int], object] = lambda n: None,
    prior: Prior | None = None,
) -> Iterator[tuple[list[Sample], list[Draws], int]]:
    """Batches of samples with what the answers to each say, and of how many pictures an answer was asked for now.

    `respondent()` gives who answers; it is called once, and only if something has to be asked. `advance(n)` is called
    with each n pictures whose answers are complete.
    """
    asked = None
    members = range(question.num_samples)
    for start, part in _batches(samples, batch_size):
        known = [log.get(name, start + i, sample.key) for i, sample in enumerate(part)]
        missing = [tuple(m for m in members if m not in found) for found in known]
        todo = [Inquiry(start + i, part[i], wanted) for i, wanted in enumerate(missing) if wanted]
        advance(len(part) - len(todo))
        if todo:
            asked = asked or respondent()
            for arrived in asked.ask(todo, question):
                log.add(name, [(todo[p].number, todo[p].sample.key, replies) for p, replies in arrived.items()])
                advance(sum(_complete(log, name, todo[p], members) for p in arrived))
        found = [log.get(name, start + i, sample.key) for i, sample in enumerate(part)]
        yield part, [read_draws([of[m] for m in members if m in of], prior) for of in found], len(todo)


def _complete(log: AnswerLog, name: str, inquiry: Inquiry, members: range) -> bool:
    return all(m in log.get(name, inquiry.number, inquiry.sample.key) for m in members)


def _batches(samples: Iterable[Sample], size: int) -> Iterator[tuple[int, list[Sample]]]:
    iterator, start = iter(samples), 0
    while part := list(islice(iterator, size)):
        yield start, part
        start += len(part)
