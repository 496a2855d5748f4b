"""Facts about the planet: distances, scores, places and their names. Imports nothing else of geospot but `files`."""
