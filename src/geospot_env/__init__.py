"""The name under which verifiers finds the taskset: vf-eval geospot_env. See `geospot.plugs.verifiers_env`."""

from geospot.plugs.verifiers_env import GeolocationTaskset, NullHarness

__all__ = ["GeolocationTaskset", "NullHarness"]
