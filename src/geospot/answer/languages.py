"""Coordinates of other languages in English letters: "Latitud: 40,4° Norte", "широта", "纬度", "57,7° øst".

`to_english` rewrites a text that `coordinates.plain` has made plain, one character for one, so that positions stay
those of the text itself: a key becomes one of the KEYS, a hemisphere N, S, E or W, a unit °, ' or ", each padded with
spaces. Only what is unmistakable is rewritten: hemispheres and units behind a number, words that are also ordinary
ones ("Land", "Breite") only as keys before a colon. Names are never read from the rewritten text.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache, lru_cache

from geospot.answer.coordinates import mark_parts
from geospot.answer.letters import ONE_MEANING, letter_sides
from geospot.answer.regex import lazy

# One private character stands for the key of each kind of field; `plain` removes them from what a model writes.
KEYS = dict(
    zip(("lat", "lon", "pair", "swapped", "city", "region", "country"), map(chr, range(0xE0A0, 0xE0A7)), strict=True)
)
# A number that is said to be a latitude or longitude behind it: "27.5° latitude", "48,1 Grad Breite".
LATITUDE_SAID, LONGITUDE_SAID = "\ue0b0", "\ue0b1"
PRIVATE = range(0xE0A0, 0xE0C0)

# Words as `plain` leaves them: without the accents of Latin and Greek letters, but with ö and ø. One line a family:
# Romance; German, Dutch, Nordic; Slavic; others in Latin letters; Greek; Arabic, Persian, Hebrew; Indian.
_WORDS = {
    "lat": "latitud|latitudine|latitudinea|latitudo|latituden|φ"
    "|breitengrad|breddegrad|breddgrad|breedtegraad"
    "|szerokosc|широта|широты|шырата"
    "|enlem|platums|platuma|gjeresia|leveysaste|leveyspiiri|szelesseg|szelessegi fok|vi do|lintang"
    "|πλατος|γεωγραφικο πλατος"
    "|خط العرض|دائرة العرض|عرض جغرافیایی|عرض جغرافيايي|عرض بلد|קו רוחב"
    "|अक्षांश|অক্ষাংশ",
    "lon": "longitud|longitudine|longitudinea|longituden|λ"
    "|langengrad|laengengrad|lengdegrad|længdegrad|langdgrad|lengtegraad"
    "|długosc|dlugosc|долгота|долготы|довгота|даўгата"
    "|boylam|garums|ilguma|gjatesia|pituusaste|pituuspiiri|hosszusag|hosszusagi fok|kinh do|bujur"
    "|μηκος|γεωγραφικο μηκος"
    "|خط الطول|طول جغرافیایی|طول جغرافيايي|طول بلد|קו אורך"
    "|देशांतर|देशान्तर|দ্রাঘিমাংশ",
    "pair": "coordenadas|coordonnees|coordenadas gps|coordinate gps|coordonnees gps|coordonate|coordonatele"
    "|koordinaten|koordinate|coördinaten|coordinaten|koordinater|koordinaatit"
    "|wspołrzedne|wspolrzedne|souradnice|suradnice|koordinatak|координаты|координати|каардынаты"
    "|koordinatlar|koordinat|toa do"
    "|συντεταγμενες|الإحداثيات|إحداثيات|احداثيات|الاحداثيات|مختصات|קואורדינטות|निर्देशांक|স্থানাঙ্ক",
    "city": "ciudad|localidad|municipio|ville|commune|citta|comune|localita|cidade"
    "|gemeinde|miasto|miejscowosc|mesto|varos|kaupunki|oras|sehir|kota|thanh pho"
    "|город|місто|горад|град|πολη|المدينة|مدينة|شهر|עיר|शहर|শহর",
    "region": "estado|provincia|comunidad autonoma|departamento|departement|regione|regiao|comunidad"
    "|bundesland|provinz|kanton|provincie|wojewodztwo|bölge|bolge|eyalet|provinsi"
    "|регион|область|регіон|περιοχη|περιφερεια|المنطقة|المحافظة|الولاية|استان|אזור|מחוז|राज्य|রাজ্য",
    "country": "pais|pays|paese|nazione"
    "|panstwo|orszag|ulke|negara|quoc gia"
    "|страна|країна|държава|краіна|χωρα|البلد|الدولة|دولة|کشور|מדינה|ארץ|देश|দেশ",
}  # fmt: skip
# Words that mean other things too: keys before a colon only.
_WEAK = {
    "lat": "breite|geographische breite|bredde|breedte|sirka|zemepisna sirka|sirina"
    "|geografska sirina|zemljepisna sirina|laius|laiuskraad|географска ширина|ширина|عرض|رוחב|רוחב|العرض",
    "lon": "lange|laenge|geographische lange|lengde|længde|langd|lengte|delka|zemepisna delka|dlzka"
    "|zemepisna dlzka|dolzina|zemljepisna dolzina|geografska dolzina|duzina|geografska duzina"
    "|pikkus|pikkuskraad|дължина|географска дължина|дужина|географска дужина|طول|אורך|الطول",
    "pair": "ubicacion|localizacion|posicion|localisation|posizione|localizacao|posicao|standort|konum"
    "|posisjon|sijainti"
    "|местоположение|расположение|الموقع|מיקום|स्थान",
    "city": "stadt|ort|stad|plaats|by",
    "country": "land|staat|stato|kraj|zeme|maa",
}
# Scripts without spaces between words; a hemisphere may stand inside the word ("北纬").
# Single characters are the ends of many names, so they are keys alone before a colon.
_ALONE = "(?<![\u3400-\u9fff]){}(?=[ *_]{{0,4}}:)"
_UNSPACED = {
    "swapped": "经纬度|經緯度|経緯度|경위도",
    "pair": "坐标|坐標|座標|座标|좌표|พิกัด|緯度経度|纬度经度|緯度・経度|位置|위치",
    "lat": "纬度|緯度|위도|ละติจูด|[北南][纬緯](?!度)|[북남]위",
    "lon": "经度|經度|経度|경도|ลองจิจูด|[东東西][经經経](?!度)|[동서]경",
    "city": "城市|都市|市町村|도시|เมือง|" + _ALONE.format("市"),
    "region": "地区|地區|省份|都道府県|地域|지역|จังหวัด|" + _ALONE.format("[省州県]"),
    "country": "国家|國家|国名|국가|나라|ประเทศ|" + _ALONE.format("[国國]"),
}
_SIDES = {
    "N": "north(?:ern)?|norte|nord|norden|n[oö]rdliche?r?|noord|noorder|norr|kuzey|polnoc\\w{0,3}|połnoc\\w{0,3}"
    "|pohjoista|eszaki?|bac|utara|lu|nb|n\\. ?br\\.|s\\. ?s\\."
    "|север\\w{0,4}|с\\. ?ш\\.?|сш|пн\\.? ?ш\\.?|північн\\w{1,3}|βορει\\w{1,2}|βορρα|شمال\\w{0,2}"
    "|צפון|उत्तर|উত্তর|เหนือ|sever\\w{0,3}|sjever\\w{0,2}|ziemel\\w{0,2}|s\\. ?g\\. ?s\\.",
    "S": "south(?:ern)?|sur(?! [a-z])|sud|suden|sul|s[uü]dliche?r?|zuid|zuider|syd|s[oø]r|s[oö]der|guney"
    "|poludni\\w{0,3}|południ\\w{0,3}|etelaa?\\w{0,3}|deli|nam|selatan|ls|zb|s\\. ?br\\.|j\\. ?s\\."
    "|юг\\w?|южн\\w{1,3}|ю\\. ?ш\\.?|юш|пд\\.? ?ш\\.?|південн\\w{1,3}|νοτι\\w{1,2}|νοτου"
    "|جنوب\\w{0,2}|דרום|दक्षिण|দক্ষিণ|ใต้|jug|jih|juzn\\w{1,3}|jizn\\w{1,2}|j\\. ?g\\. ?s\\.",
    "E": "east(?:ern)?|este|est(?! [a-z])|leste|ost|osten|[oö]stliche?r?|oost|ooster|[oöø]st|öster"
    "|dogu|wschod\\w{0,3}|itaista"
    "|keleti?|dong|timur|bt|ol|[oö]\\. ?l\\.|v\\. ?d\\."
    "|восток\\w?|восточн\\w{1,3}|в\\. ?д\\.?|вд|сх\\.? ?д\\.?|східн\\w{1,3}|ανατολικ\\w{1,2}"
    "|شرق\\w{0,2}|מזרח|पूर्व|পূর্ব|ตะวันออก|vzhod\\w{0,3}|vychod\\w{0,2}|istok|istocn\\w{1,3}|изток"
    "|источн\\w{1,3}|у\\. ?д\\.?|v\\. ?g\\. ?d\\.",
    "W": "west(?:ern)?|oeste|ovest|ouest|westen|westliche?r?|wester|vast|vest|bati|zachod\\w{0,3}"
    "|lansi\\w{0,3}|lantta"
    "|nyugati?|tay|barat|bb|wl|w\\. ?l\\.|z\\. ?d\\."
    "|запад\\w?|западн\\w{1,3}|з\\. ?д\\.?|зд|зх\\.? ?д\\.?|західн\\w{1,3}|δυτικ\\w{1,2}"
    "|غرب\\w{0,2}|מערב|पश्चिम|পশ্চিম|ตะวันตก|zapad\\w{0,3}|z\\. ?g\\. ?d\\.",
}  # fmt: skip
_GREEK: dict[str, str] = dict(
    zip("ΒΝΑΔ", "NSEW", strict=True)
)  # two of them look like N and B, so only beside Greek words
_UNITS = {
    "°": "degrees?|degs?\\.?|grados?|grad[ei]?|graus?|degres?|derecesi|derece|graden|grader|stopni|stupn\\w{1,2}"
    "|fok|astetta|градус\\w{0,2}"
    "|град\\.|μοιρες|درجة|درجه|מעלות|अंश|डिग्री|度|도|องศา",
    "'": "minutos?|minut[eiy]?|minuten|minuutes|dakika|минут\\w?|мин\\.|دقيقة|دقیقه|分|분",
    '"': "segundos?|second[ei]|secondes|sekund[eny]?|sekunden|saniye|секунд\\w?|сек\\.|ثانية|ثانیه|秒|초",
}
_AXIS = (
    "(?:of |de |di |da )?(?:geographical |geographic )?(?:latitudine|latitude|latitud|lat|longitudine|longitude"
    "|longitud|lon|lng|breedte|breite|lange|bredde|lengte|lengde|широты|долготы|широта|долгота|szelesseg|hosszusag)"
)  # fmt: skip
_AXIS_SAID = lazy(
    rf"(?<=[0-9°'\"])[ \t]{{0,14}}({_AXIS})(?!\w)"
    r"(?!\.?[\s\"'*_:=~≈(]{0,6}(?:(?:is|of|at|about|es|ist|est|è|guess)[\s:=~≈]{1,4})?[-+]?[.]?[0-9])",
    re.IGNORECASE,
)
_AS_KEY = r"(?=\.?[ \t]{0,3}(?:\([^()\n]{0,40}\))?[*_\"'`\\]{0,4}[ \t]{0,24}[:=|])"


def _longest_first(words: str) -> str:
    return "|".join(sorted(words.split("|"), key=len, reverse=True))


def _groups(table: dict[str, str]) -> str:
    return "|".join(f"(?P<{kind}>{_longest_first(words)})" for kind, words in table.items())


_KEY = lazy(
    rf"(?<!\w)(?=[^\W\d_])(?:و)?(?:{_groups(_WORDS)})(?:[ ](?:geogr|coğr|cogr|геогр)\w{{0,10}})?(?!\w)", re.IGNORECASE
)
_KEY_WEAK = lazy(rf"(?<!\w)(?=[^\W\d_])(?:{_groups(_WEAK)}){_AS_KEY}", re.IGNORECASE)
_KEY_UNSPACED = lazy(rf"(?=[\u0e00-\u9fff\uac00-\ud7af])(?:{_groups(_UNSPACED)})")
_BEHIND_NUMBER = r"(?<=[0-9°'\"])[ \t]{0,14}"
_SIDE = lazy(
    rf"{_BEHIND_NUMBER}\(?(?:{_AXIS}[ ](?!\w{{1,12}}[ :=]{{1,3}}[-+]?[0-9]))?"
    rf"(?:{'|'.join(f'(?P<{side}>{_longest_first(words)})' for side, words in _SIDES.items())})"
    rf"(?:er[ ]?)?(?!\w)(?:[ \t]{{1,2}}{_AXIS}(?!\w)\.?)?"
    rf"|{_BEHIND_NUMBER}\(?(?P<letter>[NSEW])[ \t]{{1,2}}{_AXIS}(?!\w)\.?",
    re.IGNORECASE,
)
_SIDE_WORD = lazy("|".join(f"(?P<{side}>{_longest_first(words)})" for side, words in _SIDES.items()), re.IGNORECASE)
_COMPOUND = lazy(  # "40° noorderbreedte", "5° oosterlengte"
    rf"{_BEHIND_NUMBER}(?:(?P<N>noorderbreedte)|(?P<S>zuiderbreedte)|(?P<E>oosterlengte)|(?P<W>westerlengte))",
    re.IGNORECASE,
)
_GREEK_LETTER = lazy(r"(?<=[0-9°'\"])([ \t]{0,2})([ΒΝΑΔ])(?!\w)")
_GREEK_KEY = lazy("πλατος|μηκος|συντεταγμενες|χωρα", re.IGNORECASE)
_ENGLISH_LABEL = lazy(r"(?<![^\W_])(?:city|country)(?![^\W_])", re.IGNORECASE)
_UNIT = lazy(
    r"(?<=[0-9])[ \t]{0,2}(?:"
    + "|".join(f"(?P<{name}>{_longest_first(_UNITS[sign])})" for name, sign in zip("dms", "°'\"", strict=True))
    + r")(?![^\W0-9_\u3000-\u9fff\uac00-\ud7af])",
    re.IGNORECASE,
)
_MINUS = lazy(r"(?<![0-9°] )(?<!\w)(?:minus|negative|menos|moins|meno|минус)[ ]{1,2}(?=[0-9]|\.[0-9])", re.IGNORECASE)
_UNIT_SIGNS: dict[str | None, str] = dict(zip("dms", "°'\"", strict=True))
# O is east in German, Dutch and the Nordic languages, west in the Romance ones: the keys of the text decide.
_O = lazy(r"(?:(?<=[0-9°'\"])([ \t]{0,2})|(?<=[(\[])())O(?![\w'])")
_EAST_O = lazy(
    r"(?<!\w)(?=[^\W\d_])(?:geographische|breitengrad|langengrad|breite|lange|stadt|koordinaten"
    "|coördinaten|coordinaten|breedtegraad"
    r"|lengtegraad|bundesland|gemeinde|plaats|deutschland|osterreich|land)(?!\w)",
    re.IGNORECASE,
)
_WEST_O = lazy(
    r"(?<!\w)(?=[^\W\d_])(?:latitudi?n?e?|longitudi?n?e?|coordenadas|coordonnees|coordinate|ciudad"
    "|pais|ville|pays|citta|paese|norte"
    r"|cidade)(?!\w)",
    re.IGNORECASE,
)


def _side_of(match: re.Match) -> str:
    return match.group("letter").upper() if match.lastgroup == "letter" else match.lastgroup or ""


def hemisphere(word: str) -> str | None:
    """N, S, E or W as a word of any of the languages says it ("Oeste", "северная", "N"); None for another word."""
    if word.upper() in ("N", "S", "E", "W"):
        return word.upper()
    match = _SIDE_WORD.fullmatch(word)
    return match.lastgroup if match else None


def key_hemisphere(word: str) -> str | None:
    """The hemisphere inside a key of an unspaced script: "北纬" is north."""
    return ONE_MEANING.get(word[:1]) if word[:1] in "北南东東西북남동서" and len(word) == 2 else None


def _pad(sign: str, length: int) -> str:
    return sign.rjust(length)


def _rewritten(pattern: re.Pattern[str], put: Callable[[re.Match[str]], str], flat: str) -> str:
    """`pattern.sub(put, flat)`. Where the text has no letters but those of ASCII, a look without regard to the case is
    the slow part, and few texts have what is looked for: its pattern in small letters says so ten times as fast.
    """
    small = _small(flat)
    if small is not None and not _in_small_letters(pattern).search(small):
        return flat
    return pattern.sub(put, flat)


@lru_cache(maxsize=8)  # it is asked for by one pattern after the other
def _small(flat: str) -> str | None:
    """A text in small letters; None where it has others than those of ASCII."""
    return flat.lower() if flat.replace("°", "").isascii() else None


@cache
def _in_small_letters(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(pattern.pattern.replace("[NSEW]", "[nsew]"), pattern.flags & ~re.IGNORECASE)


def to_english(flat: str) -> str:
    """A plain text with coordinates of other languages as English writes them; same length as the input."""
    said = flat = _rewritten(_MINUS, lambda m: _pad("-", len(m[0])), mark_parts(flat))
    flat = _rewritten(_UNIT, lambda m: _pad(_UNIT_SIGNS[m.lastgroup], len(m[0])), flat)
    flat = _rewritten(_COMPOUND, lambda m: _pad(m.lastgroup or "", len(m[0])), flat)
    flat = _rewritten(_SIDE, lambda m: _pad(_side_of(m), len(m[0])), flat)
    flat = _rewritten(_AXIS_SAID, _said_axis, flat)
    if "O" in flat and ((east := bool(_EAST_O.search(said))) or _WEST_O.search(said)):
        flat = _O.sub(lambda m: (m[1] or "") + ("E" if east else "W"), flat)
    if not flat.isascii():
        flat = _KEY_UNSPACED.sub(_unspaced_key, flat)
    flat = letter_sides(flat)
    if not flat.isascii() and _GREEK_KEY.search(flat):
        flat = _GREEK_LETTER.sub(lambda m: m[1] + _GREEK[m[2]], flat)
    flat = _rewritten(_KEY, _spaced_key, flat)
    english = _ENGLISH_LABEL.search(flat)  # beside them "Land: arid" is no country
    return _rewritten(
        _KEY_WEAK, lambda m: m[0] if english and m.lastgroup in ("city", "country") else _spaced_key(m), flat
    )


def _said_axis(match: re.Match) -> str:
    return _pad(
        LATITUDE_SAID if re.search("lat|bre|шир|szel", match[1], re.IGNORECASE) else LONGITUDE_SAID, len(match[0])
    )


def _spaced_key(match: re.Match) -> str:
    return KEYS[match.lastgroup or ""].rjust(len(match[0]))


def _unspaced_key(match: re.Match) -> str:
    side = key_hemisphere(match[0])  # kept behind the key, where a note stands
    return (KEYS[match.lastgroup or ""] + (side or "")).ljust(len(match[0]))


def all_words() -> Iterable[str]:
    """Every word that is known, for tests: as (kind, word) they are read as keys."""
    return [word for table in (_WORDS, _WEAK, _UNSPACED) for words in table.values() for word in words.split("|")]
