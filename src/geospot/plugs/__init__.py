"""Plugs: the geolocation task for other evaluators and trainers, each a small file over `plugs.pictures` and `worth`.

Each imports its framework, so a plug is imported by name only: `geospot.plugs.inspect_task`.
"""
