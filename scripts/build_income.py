#!/usr/bin/env python
"""Make src/geospot/earth/data/income.tsv: the income group of each country, as Natural Earth gives it.

    apt-get download r-cran-rnaturalearthdata && dpkg -x r-cran-rnaturalearthdata_*.deb rne
    uv run --with rdata python scripts/build_income.py rne

Natural Earth (public domain; the Debian package is CC0) repeats the World Bank's income classes as of about 2012 in its
field `income_grp`; "High income: OECD" and "nonOECD" are one group here. Lines: ISO-3166 alpha-2 code, tab, group.
"""

import lzma
import struct
import sys
from pathlib import Path

import rdata

TARGET = Path(__file__).parent.parent / "src/geospot/earth/data/income.tsv"
TABLE = "usr/lib/R/site-library/rnaturalearthdata/data/Rdata"
WITHOUT_CODE = {"KOS": "XK"}  # the other areas without a code are parts of countries
XZ = {"format": lzma.FORMAT_RAW, "filters": [{"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME}]}


def read_lazy(folder: Path, name: str):
    """One object of an R lazy-load database: an offset and a length in the .rdx; size, kind and data in the .rdb."""
    offset, length = map(int, rdata.read_rds(folder / f"{TABLE}.rdx")["variables"][name])
    raw = (folder / f"{TABLE}.rdb").read_bytes()[offset : offset + length]
    size, kind = struct.unpack(">Ic", raw[:5])
    if kind != b"Z":
        raise ValueError(f"{name} is packed as {kind!r}, not as xz")
    data = lzma.decompress(raw[5:], **XZ)
    if len(data) != size:
        raise ValueError(f"{name} unpacks to {len(data)} bytes, not {size}")
    return rdata.conversion.convert(rdata.parser.parse_data(data))


def main() -> None:
    countries = read_lazy(Path(sys.argv[1]), "countries50").data
    rows = {}
    for alpha2, alpha3, group in zip(countries["iso_a2"], countries["adm0_a3"], countries["income_grp"], strict=True):
        code = alpha2 if isinstance(alpha2, str) and len(alpha2) == 2 else WITHOUT_CODE.get(alpha3)
        if code:
            rows[str(code)] = str(group).split(". ", 1)[1].split(":")[0].lower()
    TARGET.write_text("".join(f"{code}\t{group}\n" for code, group in sorted(rows.items())), encoding="utf-8")
    print(f"{TARGET}: {len(rows)} countries")


if __name__ == "__main__":
    main()
