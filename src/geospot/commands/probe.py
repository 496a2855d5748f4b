"""`geospot probe`: does a model see its pictures, and is it the one that was asked for?"""

from geospot.asking.eyesight import Probe, probe_subject
from geospot.asking.respondents import open_respondent
from geospot.asking.subject import Subject
from geospot.config import ProbeConfig
from geospot.errors import ModelError


def run(config: ProbeConfig) -> Probe:
    """Ask, print what came of it; ModelError where the model cannot be evaluated."""
    subject = Subject.of(config)
    with open_respondent(config, subject) as respondent:
        found = probe_subject(respondent, config, subject, seed=config.seed)
    print("\n".join(found.lines))
    if found.problem:
        raise ModelError(found.problem)
    print(f"{subject.title} sees its pictures")
    return found
