"""A place: coordinates and, where known, the names of its city, region and country."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a picture was taken. `country` is a name or an ISO-3166 code; None means not known."""

    lat: float  # degrees, -90..90
    lon: float  # degrees, -180..180
    city: str | None = None
    region: str | None = None
    country: str | None = None
