"""Labels of samples on their way to training: filled from the coordinates where a data set has none."""

from collections.abc import Sequence
from dataclasses import replace

from geospot.data.samples import Sample
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.earth.truth import LEVELS, LabelReport, normalise_truths


class LabelFiller:
    """Completes the places of samples, batch by batch, and counts what it found in `report`.

    A label that is there keeps its spelling, but a country's code is written out: it is what a model learns to say. A
    label that disagrees with the coordinates is the data set's truth and stays; it is counted.
    """

    def __init__(self):
        self.report = LabelReport()

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples with completed places."""
        places, report = normalise_truths([sample.place for sample in samples])
        self._count(report)
        return [
            replace(sample, place=self._complete(sample.place, place))
            for sample, place in zip(samples, places, strict=True)
        ]

    @staticmethod
    def _complete(given: Place, known: Place) -> Place:
        country = given.country
        if country is None or len(country) <= 3:
            gazetteer = Gazetteer.load()
            code = gazetteer.country_code(country or known.country or "")
            country = gazetteer.country_name(code) if code else country
        return replace(given, city=given.city or known.city, region=given.region or known.region, country=country)

    def _count(self, report: LabelReport) -> None:
        self.report.places += report.places
        for name in ("given", "filled", "unknown", "disagree"):
            totals, counts = getattr(self.report, name), getattr(report, name)
            for level in LEVELS:
                totals[level] += counts[level]

    @property
    def changed(self) -> bool:
        """Whether anything was filled, or found to be at odds with its coordinates."""
        return any(self.report.filled.values()) or any(self.report.disagree.values())
