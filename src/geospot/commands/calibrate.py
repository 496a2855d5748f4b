"""`geospot calibrate`: learn from held-out pictures how large a radius must be, and how well it holds."""

from pathlib import Path

import numpy as np

from geospot.asking.calibration import Calibration, calibrate, calibrated_subject, calibration_path
from geospot.asking.cluster import Draws
from geospot.asking.consensus import guesses_of_draws
from geospot.asking.likeness import picture_features
from geospot.asking.subject import Subject
from geospot.commands.ask import ask, own_folder, question_of
from geospot.config import CalibrateConfig
from geospot.data.samples import Sample
from geospot.earth.distance import haversine_km
from geospot.progress import table
from geospot.scoring.truths import Truths


def run(config: CalibrateConfig) -> Calibration:
    """Ask, learn, print the reliability, write the file."""
    subject = Subject.of(config)
    question = question_of(config, subject)
    out = own_folder(config, f"runs/calibrate-{subject.title}-n{config.samples}")
    keys, places, draws, features, sets = [], [], [], [], {}

    def keep(name: str, samples: list[Sample], answers: list[Draws]) -> None:
        sets[name] = None
        features.extend(picture_features(sample.pictures) for sample in samples)
        keys.extend(f"{name}/{sample.key}" for sample in samples)
        places.extend(sample.place for sample in samples)
        draws.extend(answers)

    ask(config, subject, out, keep)
    truths = Truths.of(keys, places)
    guesses, spread_km = guesses_of_draws(subject.title, keys, draws)
    km = haversine_km(truths.lat, truths.lon, guesses.lat, guesses.lon)
    data = config.data or "bluemarble"
    found = calibrate(
        km, spread_km, truths.place, calibrated_subject(subject, question), data, tuple(sets), np.array(features)
    )
    path = Path(config.file).expanduser() if config.file else calibration_path(subject, question)
    found.save(path)
    failed = int(np.isnan(km).sum())
    print(f"\n{len(km):,} pictures of {found.made_on}, {failed} without an answer. The radius of guesses that it has "
          "not seen:")  # fmt: skip
    print(reliability_table(found))
    print(f"\nwrote {path}; geospot guess samples={config.samples} finds it. It holds for pictures like those of "
          f"{found.made_on}: a guess says so, and gives no radius to a picture that looks different")  # fmt: skip
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
