"""Names of countries, regions and cities: any usual spelling resolves, nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.earth.countries import _cldr_names, countries
from geospot.earth.folding import MAX_NAME_CHARS, fold, is_blank
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.regions import regions


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Côte d’Ivoire", "cote divoire"),
        ("  SAINT-Denis ", "saint denis"),
        ("U.S.A.", "usa"),
        ("St.Louis", "st louis"),
        ("Xi'an", "xian"),
        ("İstanbul", "istanbul"),
        ("Łódź", "lodz"),
        ("Straße", "strasse"),
        ("Trinidad & Tobago", "trinidad and tobago"),
        ("ガンビア", "ガンビア"),  # dakuten is no accent
        ("ﾄﾙｺ", "トルコ"),  # half width
        ("भारत", "भारत"),
        ("대한민국", "대한민국"),
        ("Paris\u200b", "paris"),
        ("!?", ""),
        ("x" * (MAX_NAME_CHARS + 1), ""),
    ],
)
def test_fold(text, folded):
    assert fold(text) == folded


@given(st.text(max_size=MAX_NAME_CHARS))
def test_fold_is_idempotent(text):
    once = fold(text)
    assert fold(once) == once or len(once) > MAX_NAME_CHARS


def test_packed_names_are_folded_as_the_code_folds():
    """Fails when `fold` changed and scripts/build_names.py was not run again."""
    names = list(_cldr_names())
    assert len(names) > 25_000
    assert [n for n in names if fold(n) != n] == []


@pytest.mark.parametrize("blank", [None, float("nan"), "", "  ", "nan", "NaN", "None", "null", "Unknown", "N/A", "-"])
def test_blank(blank):
    assert is_blank(blank)


@pytest.mark.parametrize("name", ["NA", "Paris", "0", "Nan Province", "x" * 1000])
def test_not_blank(name):
    assert not is_blank(name)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (
            "US",
            "US|USA|U.S.|U.S.A.|United States|the United States of America|America|usa|États-Unis|Соединенные Штаты",
        ),
        ("NL", "NL|NLD|Netherlands|The Netherlands|Holland|Nederland|Kingdom of the Netherlands|オランダ|荷兰"),
        ("CI", "Ivory Coast|Côte d'Ivoire|Cote d’Ivoire|COTE D'IVOIRE|Republic of Côte d'Ivoire|Elfenbeinküste"),
        ("DE", "Deutschland|Germany|Federal Republic of Germany|Allemagne|Германия|德国|ドイツ|Almanya|Bundesrepublik"),
        ("RU", "Россия|Russia|Russian Federation|RUS|俄罗斯|Russland|रूस"),
        ("JP", "日本|Japan|JPN|Nippon|Япония|जापान|اليابان"),
        ("TR", "Türkiye|Turkiye|Turkey|TÜRKİYE|Republic of Turkey|Турция"),
        ("CZ", "Czechia|Czech Republic|Česko|Česká republika|CZE"),
        ("GB", "UK|U.K.|Great Britain|England|Scotland|Wales|Northern Ireland|GBR|Royaume-Uni|英国"),
        ("MM", "Burma|Myanmar|Myanmar (Burma)"),
        ("SZ", "Swaziland|Eswatini|Kingdom of Eswatini"),
        ("MK", "Macedonia|North Macedonia|Republic of North Macedonia"),
        ("CD", "DRC|DR Congo|Zaire|Democratic Republic of the Congo|Congo-Kinshasa|Congo, Democratic Republic of the"),
        ("CG", "Republic of the Congo|Congo-Brazzaville|Congo, Republic of the"),
        ("KR", "South Korea|Republic of Korea|대한민국|한국|Korea, Republic of|韩国"),
        ("KP", "North Korea|DPRK|Democratic People's Republic of Korea"),
        ("TZ", "Tanzania, United Republic of|United Republic of Tanzania|Tanzania"),
        ("IR", "Iran, Islamic Republic of|Islamic Republic of Iran|Persia|ایران"),
        ("BO", "Plurinational State of Bolivia|Bolivia, Plurinational State of|Bolivia"),
        ("VN", "Viet Nam|Vietnam|Việt Nam"),
        ("NA", "NA|Namibia|NAM"),
        ("CV", "Cape Verde|Cabo Verde"),
        ("TL", "East Timor|Timor-Leste"),
        ("GM", "Gambia|The Gambia|Republic of The Gambia"),
        ("MX", "Mexico|México|United Mexican States|Estados Unidos Mexicanos"),
        ("TW", "Taiwan|臺灣|Republic of China"),
        ("CN", "China|中国|People's Republic of China|PRC"),
        ("AU", "Australia|AUS|Commonwealth of Australia"),
        ("AT", "Austria|Österreich|Republic of Austria"),
        ("GE", "Georgia|Republic of Georgia|საქართველო"),
        ("VA", "Vatican|Holy See|Vatican City"),
        ("XK", "Kosovo|XK|Kosova"),
    ],
)
def test_country_names(code, names):
    found = {name: countries().code(name) for name in names.split("|")}
    assert found == dict.fromkeys(found, code)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a", "x", "no", "in", "is", "of", "republic", "Republic of", "the", "state", "united", "Ger", "many",
     "France, Germany", "France Germany", "France/Germany", "all of them", "Earth", "Europe", "ustralia", "nan", "ZZ",
     "AN", "Frаnce", "Ρoland", None, 3, "France " * 1000],
)  # fmt: skip
def test_what_is_no_country(name):
    """Among them homoglyphs: a Cyrillic а in France, a Greek capital rho in Poland."""
    assert countries().candidates(name) == ()


def test_shared_names_keep_all_their_candidates():
    assert set(countries().candidates("Korea")) == {"KR", "KP"}
    assert set(countries().candidates("Congo")) == {"CG", "CD"}


def test_every_country_resolves_from_its_codes_and_its_name():
    for code, row in countries().table.items():
        assert countries().code(code) == code
        assert countries().code(row["name"]) == code
        assert not row["iso3"] or countries().code(row["iso3"]) == code
        assert countries().name(code) == row["name"]


def test_unknown_code_has_no_name():
    with pytest.raises(KeyError):
        countries().name("ZZ")


@pytest.mark.parametrize(
    ("name", "country", "code"),
    [
        ("California", "US", "US.CA"),
        ("CA", "US", "US.CA"),
        ("US-CA", "US", "US.CA"),
        ("State of California", "US", "US.CA"),
        ("Kalifornien", "US", "US.CA"),
        ("Washington State", "US", "US.WA"),
        ("Bavaria", "DE", "DE.02"),
        ("Bayern", "DE", "DE.02"),
        ("Île-de-France", "FR", "FR.11"),
        ("ile de france", "FR", "FR.11"),
        ("Katalonien", "ES", "ES.56"),
        ("Province of Ontario", "CA", "CA.08"),
        ("Osaka Prefecture", "JP", "JP.32"),
        ("Moscow", "RU", "RU.48"),
        ("Moscow Oblast", "RU", "RU.47"),
    ],
)
def test_region_names(name, country, code):
    assert regions().candidates(name, country) == (code,)


def test_regions_resolve_only_in_their_country_and_only_whole():
    assert regions().candidates("California", "MX") == ()
    for name in ("", "a", "Cal", "California, Texas", "01", None):
        assert regions().candidates(name, "US") == ()


def test_ambiguous_region_keeps_all_candidates():
    """The city and the province of Buenos Aires."""
    assert set(regions().candidates("Buenos Aires", "AR")) == {"AR.01", "AR.07"}


def test_cities_resolve_through_alternate_names():
    cities = Gazetteer.load().cities
    germany = int(next(i for i, c in enumerate(cities.country_codes) if c == "DE"))
    munich = cities.called("München", germany)[0]
    for name in ("Munich", "muenchen", "Monaco di Baviera", "慕尼黑", "Мюнхен"):
        assert cities.called(name, germany)[0] == munich, name
    assert len(cities.called("Neustadt", germany)) > 1
    assert len(cities.called("Mun", germany)) == 0
