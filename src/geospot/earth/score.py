"""The GeoGuessr score and the usual accuracy radii."""

import numpy as np

# 5000 * exp(-d / decay); 1492.7 km is the constant of the research code (PIGEON, OSV-5M): the world map's
# diagonal of 14,916.862 km over 10 agrees with it within one point.
WORLD_SCORE_DECAY_KM = 1492.7
MAX_SCORE = 5000.0

# Street, city, region, country, continent; a distance equal to the radius counts as a hit.
ACCURACY_RADII_KM = (1, 25, 200, 750, 2500)


def geoguessr_score(distance_km, decay_km: float = WORLD_SCORE_DECAY_KM):
    """Points in [0, 5000] for a guess `distance_km` away; a missing distance (NaN) scores 0."""
    distance_km = np.asarray(distance_km, dtype=np.float64)
    return MAX_SCORE * np.exp(-np.where(np.isnan(distance_km), np.inf, distance_km) / decay_km)
