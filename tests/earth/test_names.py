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


TAILS = {
    "Bahamas (the)": "BS",
    "Bouvet I.": "BV",
    "Cocos (Keeling) Islands (the)": "CC",
    "The Republic of Korea": "KR",
    "The Republic of the Congo": "CG",
    "Congo (DRC)": "CD",
    "Eswatini (formerly Swaziland)": "SZ",
    "North Macedonia (formerly known as Macedonia)": "MK",
    "Myanmar (also known as Burma)": "MM",
    "Czechia, aka Czech Republic": "CZ",
    "Georgia (Caucasus)": "GE",
    "Kosovo (disputed)": "XK",
    "Congo, Rep.": "CG",
    "Cook Is.": "CK",
    "Curaçao (Netherlands)": "CW",
    "Christmas I.": "CX",
    "Czech Rep.": "CZ",
    "Germany (Deutschland)": "DE",
    "Bavaria, Germany": "DE",
    "Egypt, Arab Rep.": "EG",
    "Spain (Catalonia)": "ES",
    "Ethiopia(excludes Eritrea)": "ET",
    "Falkland Is.": "FK",
    "Falkland Islands (the) [Malvinas]": "FK",
    "Micronesia (Federated States of)": "FM",
    "France (FR)": "FR",
    "🇫🇷": "FR",
    "France 🇫🇷": "FR",
    "FR - France": "FR",
    "France (likely)": "FR",
    "England, United Kingdom": "GB",
    "Scotland (United Kingdom)": "GB",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f": "GB",
    "Northern Ireland, UK": "GB",
    "Georgia (country)": "GE",
    "Guiana (French)": "GF",
    "Greenland (Denmark)": "GL",
    "Kingdom of Denmark (Greenland)": "GL",
    "Guinea, Africa": "GN",
    "Guam (U.S. territory)": "GU",
    "Hong Kong S.A.R.": "HK",
    "Hong Kong SAR, China": "HK",
    "China, Hong Kong SAR": "HK",
    "Ireland (Republic of)": "IE",
    "Ireland, Republic of": "IE",
    "Iran (Islamic Republic of)": "IR",
    "Jersey, UK": "JE",
    "Japan (日本)": "JP",
    "Kenya, Africa": "KE",
    "Korea (the Democratic People's Republic of)": "KP",
    "Korea (the Republic of)": "KR",
    "South Korea (Republic of Korea)": "KR",
    "Cayman Is.": "KY",
    "Moldova (the Republic of)": "MD",
    "Marshall Is.": "MH",
    "Myanmar/Burma": "MM",
    "Macau SAR": "MO",
    "Macao S.A.R": "MO",
    "Macao SAR, China": "MO",
    "New Caledonia, France": "NC",
    "Niger (the)": "NE",
    "Netherlands (the)": "NL",
    "Netherlands (Kingdom of the)": "NL",
    "Papua New Guinea": "PG",
    "Pitcairn Is.": "PN",
    "Puerto Rico, USA": "PR",
    "Puerto Rico (US)": "PR",
    "Réunion (France)": "RE",
    "Serbia, Europe": "RS",
    "Solomon Is.": "SB",
    "Svalbard Is.": "SJ",
    "Türkiye (Turkey)": "TR",
    "Taiwan, China": "TW",
    "China, Taiwan Province of China": "TW",
    "Crimea, Ukraine": "UA",
    "USA (United States)": "US",
    "Georgia, USA": "US",
    "United States of America (the)": "US",
    "Venezuela, RB": "VE",
    "U.S. Virgin Is.": "VI",
    "Virgin Islands (U.S.)": "VI",
}
TAILS |= {  # the short forms of Natural Earth and the World Bank
    name: code
    for code, names in {
        "EH": "W. Sahara", "CD": "Dem. Rep. Congo|Congo, Dem. Rep.", "DO": "Dominican Rep.",
        "TF": "Fr. S. Antarctic Lands",
        "GQ": "Eq. Guinea", "SZ": "eSwatini", "CY": "N. Cyprus", "BA": "Bosnia and Herz.", "SS": "S. Sudan",
        "CF": "Central African Rep.", "MP": "N. Mariana Is.", "GS": "S. Geo. and the Is.",
        "IO": "Br. Indian Ocean Ter.",
        "VG": "British Virgin Is.",
        "TC": "Turks and Caicos Is.",
        "HM": "Heard I. and McDonald Is.", "BL": "St-Barthélemy",
        "PF": "Fr. Polynesia", "WF": "Wallis and Futuna Is.", "FO": "Faeroe Is.", "AG": "Antigua and Barb.",
        "VC": "St. Vin. and Gren.", "ST": "São Tomé and Principe", "AX": "Åland", "MK": "N. Macedonia|Macedonia, FYR",
        "KP": "Dem. Rep. Korea|Korea, Dem. People's Rep.", "KR": "Korea, Rep.", "IR": "Iran, Islamic Rep.",
        "GM": "Gambia, The", "FM": "Micronesia, Fed. Sts.", "YE": "Yemen, Rep.", "SO": "Somalia, Fed. Rep.",
        "KG": "Kyrgyz Republic", "MF": "St. Martin (French part)", "SX": "Sint Maarten (Dutch part)", "LA": "Lao PDR",
    }.items()
    for name in names.split("|")
}  # fmt: skip


@pytest.mark.parametrize(("name", "code"), TAILS.items())
def test_brackets_tails_flags_and_short_forms(name, code):
    assert countries().candidates(name) == (code,)


@pytest.mark.parametrize("name", ["France (formerly Germany)", "France, aka Spain", "Kosovo (Germany)"])
def test_another_countrys_name_in_brackets_is_none(name):
    assert countries().candidates(name) == ()


CONTRADICTORY = [
    "🇫🇷 Germany",
    "🇫🇷🇩🇪",
    "Papua",
    "France, Germany",
    "France/Germany",
    "France (Germany)",
    "Georgia (state)",
    "Mexico, USA",
    "Channel Islands",
    "France or Germany",
    "France, Belgium, Germany",
    "Islands",
    "the",
    "Europe",
    "SAR",
    "Siachen Glacier",
]


@pytest.mark.parametrize("name", CONTRADICTORY)
def test_names_whose_parts_disagree_are_none(name):
    assert countries().candidates(name) == ()


@given(st.text(st.sampled_from("FranceGermanyUSA ()/,;.-🇫🇷é"), max_size=MAX_NAME_CHARS))
def test_no_name_breaks_the_table(name):
    assert all(code in countries().codes for code in countries().candidates(name))


def test_a_region_is_known_by_its_full_name_and_without_the_word_for_its_kind():
    assert regions().known("Bavaria")
    assert regions().known("State of Bavaria")
    assert not regions().known("Atlantis")
    assert not regions().known(None)
    # What some country has, whatever the words for its kind, is known.
    for code, title in regions().title.items():
        for name in (title, f"Province of {title}", f"{title} Oblast"):
            assert regions().known(name) >= bool(regions().candidates(name, code[:2])), (code, name)
    assert regions().candidates("Lyon", "ZZ") == ()
