"""Text and places: the prompt, the target text, and the parser that reads what a model wrote."""

from geospot.answer.parse import (
    CONTRADICTION,
    EMPTY,
    ERRORS,
    LATITUDE_RANGE,
    LONGITUDE_RANGE,
    NO_COORDINATES,
    NO_LATITUDE,
    NO_LONGITUDE,
    NOT_A_NUMBER,
    ONLY_THINKING,
    TOO_LONG,
    Answer,
    parse_answer,
    read_answer,
)
from geospot.answer.prompt import FIELDS, MAX_CHARS, format_answer, in_form, prompt_text
from geospot.answer.reply import FAILURES, Reply, read_reply

__all__ = [
    "CONTRADICTION",
    "EMPTY",
    "ERRORS",
    "FAILURES",
    "FIELDS",
    "LATITUDE_RANGE",
    "LONGITUDE_RANGE",
    "MAX_CHARS",
    "NOT_A_NUMBER",
    "NO_COORDINATES",
    "NO_LATITUDE",
    "NO_LONGITUDE",
    "ONLY_THINKING",
    "TOO_LONG",
    "Answer",
    "Reply",
    "format_answer",
    "in_form",
    "parse_answer",
    "prompt_text",
    "read_answer",
    "read_reply",
]
