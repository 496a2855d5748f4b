"""Does a model see its pictures? Three test pictures, the name that the server answers under, and an answer's form."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geospot.answer import Reply, read_reply
from geospot.asking.requests import Question
from geospot.asking.respondents import Inquiry, Respondent
from geospot.asking.subject import Subject
from geospot.config import GuesserConfig
from geospot.data.samples import Sample
from geospot.earth.place import Place

if TYPE_CHECKING:
    from PIL import Image

# Written large; each of them is also a sensible picture to ask the real question about.
WORDS = (
    "LISBON", "NAIROBI", "QUITO", "OSLO", "HANOI", "LIMA", "DAKAR", "PERTH", "TBILISI", "BOGOTA", "VIENNA", "MANILA",
    "HAVANA", "DUBLIN", "ACCRA", "RIGA", "TUNIS", "SEOUL", "CUSCO", "TURIN", "KRAKOW", "MUSCAT", "DENVER", "OSAKA",
)  # fmt: skip
COLOURS = {
    "red": (210, 20, 20), "green": (20, 150, 40), "blue": (20, 50, 210), "yellow": (250, 220, 20),
    "purple": (120, 20, 150), "orange": (250, 130, 10),
}  # fmt: skip
ASK_WORD = "Which word is written in this picture? Answer with that word only."
ASK_COLOUR = "Which colour fills this picture? Answer with the name of one colour only."
_SIDE = 448
_ANY_COLOUR = re.compile(rf"\b({'|'.join([*COLOURS, 'white', 'black', 'gr[ae]y', 'violet', 'pink', 'brown'])})\b")
# What may follow a model's name where a server says which version of it answers.
_VERSION = re.compile(r"(?:[-@:._](?:\d{2,8}|\d+(?:\.\d+)?|v\d+|latest|preview|exp|stable))*")
_BLIND = re.compile(
    r"(?:image|vision|multi-?modal|picture).{0,80}(?:not support|unsupported|not available|not allowed|not enabled|"
    r"only text|not a )|(?:not support|unsupported|not a|not accept|cannot|only text|no).{0,60}(?:image|vision|"
    r"multi-?modal|picture)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Probe:
    """What came of it. `problem` says why the model cannot be evaluated, "" where it can; `lines` are for people."""

    problem: str
    lines: tuple[str, ...]


def word_picture(word: str) -> bytes:
    """PNG: the word, black on white, as wide as the picture allows."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_SIDE, _SIDE), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=_SIDE / 5)
    left, _, right, _ = draw.textbbox((0, 0), word, font=font)
    font = ImageFont.load_default(size=0.9 * (_SIDE / 5) * _SIDE / (right - left))
    draw.text((_SIDE / 2, _SIDE / 2), word, fill="black", font=font, anchor="mm")
    return _png(image)


def field_picture(colour: tuple[int, int, int]) -> bytes:
    """PNG: one colour."""
    from PIL import Image

    return _png(Image.new("RGB", (_SIDE, _SIDE), colour))


def _png(image: "Image.Image") -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def probe(
    respondent: Respondent, question: Question, *, where: str, name: str, may_be: str | None = None, seed: int = 0
) -> Probe:
    """Ask about a word, a colour field and a blank picture, and the real question about the first.

    where: the server, for people; name: the model that was asked for; may_be: another name that is as good.
    """
    rng = np.random.default_rng(seed)
    word, colour = str(rng.choice(WORDS)), str(rng.choice(list(COLOURS)))
    blank = field_picture((255, 255, 255))
    asked = [(word_picture(word), ASK_WORD), (field_picture(COLOURS[colour]), ASK_COLOUR), (blank, ASK_COLOUR),
             (word_picture(word), question.text)]  # fmt: skip
    replies: list[Reply] = []
    for i, (picture, text) in enumerate(asked):
        sample = Sample(f"probe {i}", (picture,), Place(float("nan"), float("nan")))
        one = replace(question, text=text, num_samples=1, temperature=0.0)
        (found,) = respondent.ask([Inquiry(i, sample, (0,))], one)
        reply = found[0][0]
        if reply.finish == "error":
            return Probe(_unanswered(where, name, reply), ())
        replies.append(reply)
    read_word = reads_word(replies[0].text, word)
    read_colour, read_blank = names_colour(replies[1].text, colour), names_colour(replies[2].text, "white")
    served = next((reply.served for reply in replies if reply.served), "")
    lines = [
        f"a picture of the word {word}: {_shown(replies[0])} ({_mark(read_word)})",
        f"a picture that is {colour}: {_shown(replies[1])} ({_mark(read_colour)})",
        f"a picture that is blank: {_shown(replies[2])} ({_mark(read_blank)})",
        f"the server answers as {served or 'a model that it does not name'}; {name} was asked for",
        _form(replies[3], question),
    ]
    # Who always says the same colour without looking is wrong about one of the two.
    if not (read_word or (read_colour and read_blank)):
        return Probe(_unseen(where, name, word, replies), tuple(lines))
    if served and not (same_model(name, served) or (may_be and same_model(may_be, served))):
        problem = (
            f"{where} answers as {served}, and {name} was asked for: another model stands behind the name. Name the "
            f"one that is meant, or accept this one with served_name={served}"
        )
        return Probe(problem, tuple(lines))
    return Probe("", tuple(lines))


def probe_subject(respondent: Respondent, config: GuesserConfig, subject: Subject, *, seed: int = 0) -> Probe:
    """The probe of a subject, which `respondent` answers for."""
    question = subject.question(config, 1, 0.0, seed)
    name, where = (subject.model_name, "this engine") if subject.api is None else (subject.api.name, subject.api.where)
    return probe(respondent, question, where=where, name=name, may_be=config.served_name, seed=seed)


def reads_word(text: str, word: str) -> bool:
    """Whether an answer has the word, however it is written."""
    return word.lower() in re.sub(r"[^a-z]", "", text.lower())


def names_colour(text: str, colour: str) -> bool:
    """Whether the first colour that an answer names is this one, and the only one."""
    return set(_ANY_COLOUR.findall(text.lower())) == {colour}


def same_model(asked: str, served: str) -> bool:
    """Whether a server's name of a model is the one asked for, a version of it, or its file."""
    one, other = _plain(asked), _plain(served)
    return any(
        long.startswith(short) and _VERSION.fullmatch(long[len(short) :]) is not None
        for short, long in ((one, other), (other, one))
    )


def _plain(name: str) -> str:
    return re.sub(r"\.(gguf|bin|safetensors)$", "", name.lower().replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])


def _shown(reply: Reply) -> str:
    text = " ".join(reply.text.split())
    tokens = "" if reply.tokens_in is None else f", {reply.tokens_in:,} tokens in"
    end = "" if reply.finish == "stop" else f", {read_reply(reply).error}"
    return f"{text[:60] + '...' if len(text) > 63 else text!r}{end}{tokens}"


def _mark(right: bool) -> str:
    return "right" if right else "wrong"


def _form(reply: Reply, question: Question) -> str:
    answer = read_reply(reply)
    if answer.ok:
        return f"an answer's form: read as {answer.lat:.2f}, {answer.lon:.2f}"
    hint = f"; max_tokens={question.max_tokens} may be too few" if reply.finish == "length" else ""
    return f"an answer's form: no place could be read in {_shown(reply)} ({answer.error}{hint})"


def _unseen(where: str, name: str, word: str, replies: Sequence[Reply]) -> str:
    return (
        f"{name} at {where} does not see its pictures: asked for the word in a picture of {word} it said "
        f"{_shown(replies[0])}, for the colour of a picture {_shown(replies[1])}, of a blank one {_shown(replies[2])}. "
        "Is it a model for text, or are pictures dropped on the way? probe=false evaluates it all the same"
    )


def _unanswered(where: str, name: str, reply: Reply) -> str:
    if _BLIND.search(reply.detail):
        return f"{name} at {where} takes no pictures, it is a model for text: {reply.detail}"
    return f"{name} at {where} does not answer: {reply.detail}"
