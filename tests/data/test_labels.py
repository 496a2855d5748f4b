"""What a data set leaves out about its places is filled from the coordinates; what it says stays."""

from geospot.data.labels import LabelFiller
from geospot.data.samples import Sample
from geospot.earth.place import Place


def fill(*places: Place):
    filler = LabelFiller()
    return [s.place for s in filler([Sample(str(i), (), p) for i, p in enumerate(places)])], filler


def test_missing_labels_come_from_the_coordinates():
    [place], filler = fill(Place(45.76, 4.84))
    assert (place.city, place.country) == ("Lyon", "France")
    assert place.region
    assert filler.report.filled == {"country": 1, "region": 1, "city": 1}


def test_labels_that_are_there_keep_their_spelling():
    given = Place(45.76, 4.84, "Lyons", "Auvergne-Rhône-Alpes", "La France")
    places, filler = fill(given)
    assert places == [given]
    assert not filler.changed


def test_codes_are_written_out_and_namibia_is_one():
    places, _ = fill(Place(-22.57, 17.08, "Windhoek", None, "NA"), Place(37.77, -122.42, None, None, "USA"))
    assert [p.country for p in places] == ["Namibia", "United States"]


def test_a_label_at_odds_with_the_coordinates_is_kept_and_counted():
    [place], filler = fill(Place(45.76, 4.84, "Lyon", None, "Japan"))
    assert place.country == "Japan"
    assert filler.report.disagree["country"] == 1
    assert filler.changed


def test_the_open_ocean_stays_without_labels():
    [place], _ = fill(Place(30.0, -40.0))
    assert (place.city, place.region, place.country) == (None, None, None)
