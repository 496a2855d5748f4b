"""From photos to guesses that people can use: candidates, calibrated radii, and the forms they are written in."""
