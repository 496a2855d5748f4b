"""Reverse geocoding: known places, borders, coasts, poles, the date line, and the policy for disputed areas."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.earth.borders import ROW_DEG
from geospot.earth.distance import destination, haversine_km
from geospot.earth.gazetteer import CLAIMS, COAST_KM, Gazetteer


@pytest.fixture(scope="module")
def gazetteer():
    return Gazetteer.load()


PLACES = [
    # lat, lon, country, region, city
    (48.8534, 2.3488, "FR", "Île-de-France", "Paris"),
    (37.7749, -122.4194, "US", "California", "San Francisco"),
    (-33.8688, 151.2093, "AU", "New South Wales", "Sydney"),
    (35.6895, 139.6917, "JP", "Tokyo", "Tokyo"),
    (-22.5594, 17.0832, "NA", "Khomas Region", "Windhoek"),
    (51.5074, -0.1278, "GB", "England", "London"),
    (18.4655, -66.1057, "PR", None, "San Juan"),
    (-20.8823, 55.4504, "RE", None, "Saint-Denis"),
    (41.9033, 12.4534, "VA", None, "Vatican City"),
    (42.6629, 21.1655, "XK", None, "Pristina"),
    (27.1500, -13.2000, "EH", None, "Laayoune"),
    (22.3193, 114.1694, "HK", None, None),
    (43.7384, 7.4246, "MC", None, None),
    (78.2232, 15.6267, "SJ", None, None),
]


@pytest.mark.parametrize(("lat", "lon", "country", "region", "city"), PLACES)
def test_known_places(gazetteer, lat, lon, country, region, city):
    at = gazetteer.locate(lat, lon)
    assert at.country[0] == country
    assert region is None or at.region[0] == region
    assert city is None or at.city[0] == city
    assert at.offshore_km[0] == 0 or at.offshore_km[0] < 2


@pytest.mark.parametrize(
    ("lat", "lon", "country"),
    [
        (47.5596, 7.5886, "CH"),  # Basel
        (47.5908, 7.6450, "DE"),  # Lörrach, 8 km from it
        (31.8200, -106.4300, "US"),  # El Paso
        (31.6600, -106.4245, "MX"),  # Juárez, 18 km from it
        (-25.5163, -54.5854, "BR"),  # Foz do Iguaçu
        (-25.5972, -54.5786, "AR"),  # Puerto Iguazú, across the river
        (49.8728, 8.6512, "DE"),
        (48.5734, 7.7521, "FR"),  # Strasbourg
        (48.5750, 7.8200, "DE"),  # Kehl
    ],
)
def test_near_borders_the_polygon_decides(gazetteer, lat, lon, country):
    assert gazetteer.locate(lat, lon).country[0] == country


def test_city_is_the_nearest_within_the_country(gazetteer):
    """By brute force over all cities of the country."""
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-55, 70, 300), rng.uniform(-180, 180, 300)
    at, cities = gazetteer.locate(lat, lon), gazetteer.cities
    assert (at.city_row >= 0).sum() > 50
    for i in np.flatnonzero(at.city_row >= 0):
        rows = np.flatnonzero(cities.country_codes[cities.country] == at.country[i])
        km = haversine_km(lat[i], lon[i], cities.lat[rows], cities.lon[rows])
        assert at.distance_km[i] == pytest.approx(km.min(), abs=1e-6)


def test_large_and_small_batches_agree(gazetteer):
    """A large batch is reordered and split between threads."""
    rng = np.random.default_rng(1)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, 50_000))), rng.uniform(-180, 180, 50_000)
    lat[7] = lon[11] = np.nan
    whole = gazetteer.locate(lat, lon)
    for i in [*range(0, 50_000, 1000), 7, 11]:
        one = gazetteer.locate(lat[i], lon[i])
        assert (one.country[0], one.region[0], one.city[0]) == (whole.country[i], whole.region[i], whole.city[i])


def test_off_the_coast(gazetteer):
    biarritz = 43.48, -1.56  # a straight shore; the sea is west-northwest
    for km, expected in ((5, "FR"), (18, "FR"), (40, None)):
        lat, lon = destination(*biarritz, 300, km)
        at = gazetteer.locate(lat, lon)
        assert at.country[0] == expected, km
        assert np.isnan(at.offshore_km[0]) == (expected is None)
        if expected:
            assert 0 < at.offshore_km[0] <= COAST_KM


def test_open_ocean_is_nowhere(gazetteer):
    at = gazetteer.locate([0, -45, 30, 90], [-30, -120, -50, 0])
    for names in (at.country, at.region, at.region_code, at.city):
        assert list(names) == [None] * 4
    assert np.isnan(at.distance_km).all()
    assert np.isnan(at.offshore_km).all()


def test_missing_coordinates_are_nowhere(gazetteer):
    at = gazetteer.locate([np.nan, 48.85, np.inf], [2.35, np.nan, 0])
    assert list(at.country) == [None] * 3
    assert gazetteer.locate([], []).country.shape == (0,)


def test_poles_and_date_line(gazetteer):
    assert gazetteer.locate(-90, 0).country[0] == "AQ"
    assert gazetteer.locate(90, 0).country[0] is None
    taveuni = gazetteer.locate([-16.85] * 4, [-180.0, 180.0, 179.999, -179.999])
    assert set(taveuni.country) == {"FJ"}


@given(st.integers(-90_000, 90_000), st.integers(-180_000, 179_999), st.sampled_from([-720, -360, 360, 720]))
def test_longitude_wraps(lat, lon, turn):
    """Whole turns change nothing. Points lie off the grid of the packed borders, which rounding could cross."""
    lat, lon = lat / 1000, lon / 1000 + 0.0002
    one, other = Gazetteer.load().locate(lat, lon), Gazetteer.load().locate(lat, lon + turn)
    assert one.country[0] == other.country[0]
    assert one.city_row[0] == other.city_row[0]


def test_rows_of_latitude_are_as_narrow_as_documented():
    assert pytest.approx(0.01) == ROW_DEG


@pytest.mark.parametrize(
    ("claim", "lat", "lon", "other"),
    [
        ("crimea", 44.95, 34.10, "RU"),
        ("western_sahara", 23.70, -15.93, "MA"),
        ("northern_cyprus", 35.30, 33.40, "TR"),
        ("kosovo", 42.66, 21.16, "RS"),
        ("somaliland", 9.56, 44.06, None),
        ("palestine", 31.90, 35.20, "IL"),
    ],
)
def test_disputed_areas_follow_the_policy(gazetteer, claim, lat, lon, other):
    at = gazetteer.locate(lat, lon)
    assert at.country[0] == CLAIMS[claim].default
    assert set(CLAIMS[claim].accepted) <= gazetteer.accepted(at.polygon[0])


def test_policy_can_be_overridden(gazetteer):
    moved = Gazetteer(claims={"crimea": "RU"}).locate(44.95, 34.10)
    assert (moved.country[0], moved.city[0]) == ("RU", gazetteer.locate(44.95, 34.10).city[0])
    assert gazetteer.locate(44.95, 34.10).country[0] == "UA"
    with pytest.raises(ValueError, match="crimae"):
        Gazetteer.load(claims={"crimae": "RU"})


def test_regions_follow_geonames(gazetteer):
    """The region of a point at a city is the city's own, for a sample of cities (for all: benchmarks/earth.py)."""
    cities = gazetteer.cities
    rows = np.random.default_rng(0).choice(len(cities), 5000, replace=False)
    truth = gazetteer.region_codes[cities.admin1[rows]]
    at = gazetteer.locate(cities.lat[rows], cities.lon[rows])
    assert np.mean(at.region_code == truth) > 0.97
    assert np.mean(at.country == cities.country_codes[cities.country[rows]]) > 0.99


def test_light_to_import():
    code = (
        "import sys, geospot.reward, geospot.earth.truth; print([m for m in ('torch', 'tinker') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
