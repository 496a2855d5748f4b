"""`python -m geospot COMMAND ...` is `geospot COMMAND ...`."""

from geospot.cli import main

main()
