"""Plugs: the geolocation task for other evaluators, each a small file over `plugs.pictures` and the scoring room.

Each imports its framework, so a plug is imported by name only: `geospot.plugs.inspect_task`.
"""
