"""`geospot calibrate`: learn from held-out pictures how large a radius must be, and how well it holds."""

from pathlib import Path

import numpy as np

from geospot.asking.calibration import Calibration, calibrate, calibrated_subject, calibration_path
from geospot.asking.cluster import Draws
from geospot.asking.consensus import guesses_of_draws
from geospot.asking.subject import Subject
from geospot.commands.ask import ask, question_of
from geospot.config import CalibrateConfig
from geospot.earth.distance import haversine_km
from geospot.progress import table
from geospot.scoring.truths import Truths


def run(config: CalibrateConfig) -> Calibration:
    """Ask, learn, print the reliability, write the file."""
    subject = Subject.of(config)
    question = question_of(config, subject.region)
    out = Path(config.out or f"runs/calibrate-{subject.title}-n{config.samples}")
    keys, places, draws = [], [], []

    def keep(name: str, samples: list, answers: list[Draws]) -> None:
        keys.extend(f"{name}/{sample.key}" for sample in samples)
        places.extend(sample.place for sample in samples)
        draws.extend(answers)

    ask(config, subject, out, keep)
    truths = Truths.of(keys, places)
    guesses, spread_km = guesses_of_draws(subject.title, keys, draws)
    km = haversine_km(truths.lat, truths.lon, guesses.lat, guesses.lon)
    data = config.data or "bluemarble"
    found = calibrate(km, spread_km, truths.place, calibrated_subject(subject, question), data)
    path = Path(config.file).expanduser() if config.file else calibration_path(subject, question)
    found.save(path)
    failed = int(np.isnan(km).sum())
    print(f"\n{len(km):,} pictures of {data}, {failed} without an answer. The radius of guesses that it has not seen:")
    print(reliability_table(found))
    print(f"\nwrote {path}; geospot guess samples={config.samples} finds it")
    return found


def reliability_table(calibration: Calibration) -> str:
    """Stated against found, a line a probability."""
    return table(
        {
            "stated": f"{100 * r.probability:g}%",
            "holds the truth": f"{100 * r.coverage:.1f}% [{100 * r.low:.1f}, {100 * r.high:.1f}]",
            "median radius km": f"{r.median_radius_km:.0f}",
        }
        for r in calibration.reliability
    )
