"""Which country a place is in where states disagree, or where a territory has a code of its own.

The default follows ISO-3166 and GeoNames: a territory with its own code is its own country (Puerto Rico is PR, Réunion
RE, Hong Kong HK, Western Sahara EH, Kosovo XK), a disputed area goes where GeoNames, and so most data sets, put it.
This is a choice about labels, not about right. Pass `claims={"crimea": "RU"}` to `Gazetteer.load` to choose otherwise.
When answers are scored, each claimant is accepted as agreeing with coordinates in a disputed area.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """An area that states disagree on: its default country and all that are accepted there (ISO-3166 alpha-2)."""

    default: str | None
    accepted: tuple[str, ...]


# Only areas that Natural Earth draws as polygons of their own can be moved. Borders inside a polygon (the Golan Heights
# in Israel's north, Aksai Chin in China, Arunachal Pradesh in India, Hala'ib in Egypt) follow its de facto line.
CLAIMS = {
    "crimea": Claim("UA", ("UA", "RU")),
    "western_sahara": Claim("EH", ("EH", "MA")),
    "somaliland": Claim("SO", ("SO",)),
    "northern_cyprus": Claim("CY", ("CY", "TR")),
    "akrotiri_dhekelia": Claim("CY", ("CY", "GB")),
    "kosovo": Claim("XK", ("XK", "RS")),
    "taiwan": Claim("TW", ("TW", "CN")),
    "palestine": Claim("PS", ("PS", "IL")),
    "falklands": Claim("FK", ("FK", "GB", "AR")),
    "siachen": Claim("IN", ("IN", "PK")),
    "guantanamo": Claim("CU", ("CU", "US")),
    "baykonur": Claim("KZ", ("KZ", "RU")),
    "spratly": Claim(None, ("CN", "VN", "PH", "MY", "TW", "BN")),
}


def resolve_claims(overrides: dict[str, str | None] | None) -> dict[str, str | None]:
    """The country of each claimed area; ValueError for an area that is not in CLAIMS."""
    unknown = set(overrides or ()) - CLAIMS.keys()
    if unknown:
        raise ValueError(f"claims has {sorted(unknown)}: the areas that can be assigned are {sorted(CLAIMS)}")
    return {name: claim.default for name, claim in CLAIMS.items()} | (overrides or {})
