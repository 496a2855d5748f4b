"""Places in the form of a link or a code: map links, geo: addresses, Plus Codes, WKT points and ISO 6709.

Providers whose links put the longitude first are named here. A Plus Code is decoded in twenty lines of our own (its
specification is fixed): the package that does it would be one more dependency of the light install.
"""

import re
from urllib.parse import unquote

from geospot.answer.coordinates import in_range
from geospot.answer.regex import lazy

Pair = tuple[float | str, float | str]

_N = r"([+-]?[0-9]{1,3}(?:\.[0-9]{1,20})?)"
_DECIMAL = r"([+-]?[0-9]{1,3}\.[0-9]{1,20})"
_CODE = "23456789CFGHJMPQRVWX"
# Where a link, a code or a standard's form begins in a text; `read_link` says what it means.
LINK = (
    r"(?i:https?://|(?<![\w.])(?:www\.|maps\.|(?:openstreetmap|osm|google|bing|yandex)\.[a-z]{2,3}/)"
    r"|(?<!\w)geo:(?=[+-]?[0-9]))[^\s<>\"'`|{}]{1,1500}+"
)
PLUS_CODE = (
    rf"(?<![\w+])(?i:[23456789C][2-9CFGHJMPQRV](?:[{_CODE}]{{6}}|[{_CODE}]{{4}}00|[{_CODE}]{{2}}0000|000000)"
    rf"\+(?:[{_CODE}]{{2,7}})?)(?![\w+])"
)
_WHOLE, _PART = r"[+-]?[0-9]{1,3}(?:\.[0-9]{1,20})?", r"(?:\.[0-9]{1,12})?"
WKT = rf"(?<!\w)(?i:POINT)[ ]?(?:[ ]Z[ ]?)?\([ ]{{0,2}}{_WHOLE}[ ]{{1,3}}{_WHOLE}[ )]"
ISO_6709 = (
    rf"(?<![\w.+/-])[+-][0-9]{{2}}{_PART}[+-][0-9]{{3}}{_PART}(?:[+-][0-9]{{1,6}}{_PART})?(?:CRS\w{{1,12}})?/(?![\w/])"
)

_LON_FIRST = lazy(r"(?:^|[./])(?:yandex|ya|2gis|amap|gaode)\.", re.IGNORECASE)
_PARAMS = "q|query|destination|daddr|viewpoint|cbll|coordinates?|loc|location|position|point|pt|where1|to|rtext|text"
_AREAS = "ll|sll|cp|center|sp|map|m|c"
_PAIR = rf"{_DECIMAL}(?:[ +]{{0,3}}[,~_ +;/]|%2C)[ +]{{0,3}}{_DECIMAL}"
# In the order of trust: the marked place, then the middle of what is shown. With each pattern: whether the provider's
# order counts.
_READINGS = (
    (lazy(rf"!3d{_N}!4d{_N}(?!.{{0,800}}!3d)"), False),
    (lazy(rf"[?&#;](?:m?lat|latitude)={_N}&(?:m?lon|m?lng|long|longitude)={_N}", re.IGNORECASE), False),
    (lazy(rf"[?&](?:whatshere\[point\]|pt|position|point)=(?:[a-z.:]{{0,8}}){_PAIR}", re.IGNORECASE), True),
    (lazy(rf"[?&](?:{_PARAMS})=(?:loc:|ll\.|@)?{_PAIR}", re.IGNORECASE), False),
    (
        lazy(
            rf"/(?:place|search|dir|l|map|point|marker|geo)/[^?#]{{0,120}}?(?<![0-9.@+-])(?<![0-9],){_PAIR}",
            re.IGNORECASE,
        ),
        True,
    ),
    (lazy(rf"[?&#](?:{_AREAS})=(?:point\.)?{_PAIR}", re.IGNORECASE), True),
    (lazy(rf"@{_N},{_N}"), False),
    (lazy(rf"//[^?#]{{0,200}}?/{_PAIR}(?=[/?#,]|\Z)"), True),
    (lazy(rf"#(?:map=)?[0-9.]{{1,5}}/{_DECIMAL}/{_DECIMAL}"), False),
)
_X_Y = lazy(rf"[?&]x={_DECIMAL}&y={_DECIMAL}")  # mapy.cz
_GEO = lazy(rf"geo:{_N},{_N}(?![0-9.])", re.IGNORECASE)
_GEOHACK = lazy(
    r"params=([0-9.]{1,12})_(?:([0-9.]{1,12})_)?(?:([0-9.]{1,12})_)?([NS])_"
    r"([0-9.]{1,12})_(?:([0-9.]{1,12})_)?(?:([0-9.]{1,12})_)?([EW])"
)
_ISO_PARTS = lazy(r"([+-][0-9]{2}(?:\.[0-9]+)?)([+-][0-9]{3}(?:\.[0-9]+)?)")


def read_link(link: str) -> Pair | None:
    """The place of a map link, a geo: address or a Plus Code as (lat, lon), each degrees or a reason; None for none."""
    if "://" not in link[:8] and re.fullmatch(PLUS_CODE, link):
        return _plus_code(link.upper())
    link = unquote(link).rstrip(").,]*_;")
    geo = _GEO.match(link)
    if geo and (float(geo[1]), float(geo[2])) != (0, 0):
        return _pair(geo[1], geo[2])
    hack = _GEOHACK.search(link)
    if hack:
        return _geohack(hack)
    xy = _X_Y.search(link)
    if xy:
        return _pair(xy[2], xy[1])
    host = link.partition("://")[2].partition("/")[0] or link.partition("/")[0]
    for pattern, by_provider in _READINGS:
        match = pattern.search(link)
        if match:
            swapped = by_provider and _LON_FIRST.search(host)
            return _pair(match[2], match[1]) if swapped else _pair(match[1], match[2])
    return _pair(geo[1], geo[2]) if geo else None


def read_standard(text: str) -> Pair:
    """A WKT point (longitude first) or an ISO 6709 string (latitude first) as (lat, lon)."""
    if parts := _ISO_PARTS.match(text):
        return _pair(*parts.groups())
    lon, lat = re.findall(r"[+-]?[0-9]+(?:\.[0-9]+)?", text)[:2]
    return _pair(lat, lon)


def _pair(lat: str | float, lon: str | float) -> Pair:
    return in_range(float(lat), "lat"), in_range(float(lon), "lon")


def _geohack(match: re.Match) -> Pair | None:
    def degrees(parts: tuple[str, ...], side: str) -> float:
        size = sum(float(part) / 60**i for i, part in enumerate(parts) if part)
        return -size if side in "SW" else size

    try:
        return _pair(degrees(match.group(1, 2, 3), match[4]), degrees(match.group(5, 6, 7), match[8]))
    except ValueError:  # "1.2.3"
        return None


def _plus_code(code: str) -> Pair:
    """The middle of the area of a full Open Location Code (its specification: github.com/google/open-location-code)."""
    digits = code.replace("+", "").rstrip("0")
    lat, lon, size_lat, size_lon = -90.0, -180.0, 400.0, 400.0
    for i in range(0, min(len(digits), 10), 2):
        size_lat, size_lon = size_lat / 20, size_lon / 20
        lat, lon = lat + _CODE.index(digits[i]) * size_lat, lon + _CODE.index(digits[i + 1]) * size_lon
    for digit in digits[10:]:  # a grid of five rows and four columns each
        row, column = divmod(_CODE.index(digit), 4)
        size_lat, size_lon = size_lat / 5, size_lon / 4
        lat, lon = lat + row * size_lat, lon + column * size_lon
    return _pair(round(min(lat + size_lat / 2, 90.0), 8), round(lon + size_lon / 2, 8))
