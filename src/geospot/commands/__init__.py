"""One module per command of `geospot`."""
