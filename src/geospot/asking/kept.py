"""Where calibrations are kept: with the checkpoint they belong to, or by the model's name in the cache."""

import re
from pathlib import Path

from geospot.asking.answer_log import Question
from geospot.asking.calibration import Calibration, Subject
from geospot.asking.subject import Subject as Asked
from geospot.errors import RunError
from geospot.files import cache_folder


def calibrated_subject(asked: Asked, question: Question) -> Subject:
    """What a calibration of this model, asked in this way, is for."""
    checkpoint = None if asked.checkpoint is None else Path(asked.checkpoint).name
    return Subject(
        asked.model_name, checkpoint, asked.step, question.num_samples, question.temperature, bool(asked.region)
    )


def calibration_path(asked: Asked, question: Question) -> Path:
    """Beside the checkpoint's own folder, so that it is not lost with a copy of the run; else in the cache."""
    name = f"n{question.num_samples}-t{question.temperature:g}{'-region' if asked.region else ''}.json"
    if asked.checkpoint is not None:
        path = Path(asked.checkpoint)
        return path.parent / f"{path.name}.calibration-{name}"
    model = re.sub(r"[^\w.-]+", "--", asked.model_name)
    return cache_folder() / "calibrations" / f"{model}-{name}"


def find_calibration(wanted: str, asked: Asked, question: Question) -> Calibration | None:
    """`wanted`: "auto" (the model's own, None without one), "none", or a file, which must be of this model."""
    if wanted == "none":
        return None
    path = calibration_path(asked, question) if wanted == "auto" else Path(wanted).expanduser()
    if wanted == "auto" and not path.is_file():
        return None
    found, subject = Calibration.load(path), calibrated_subject(asked, question)
    if found.subject != subject:
        differ = [
            f"{name} {getattr(found.subject, name)!r} (here {getattr(subject, name)!r})"
            for name in ("model_name", "checkpoint", "step", "samples", "temperature", "region")
            if getattr(found.subject, name) != getattr(subject, name)
        ]
        raise RunError(
            f"calibration={path}: it is of {', '.join(differ)}: its radius would be wrong. Make one by geospot "
            "calibrate, or say calibration=none"
        )
    return found
