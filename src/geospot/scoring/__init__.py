"""From truths and guesses to numbers: joining, reverse geocoding, metrics, reference rows. Runs without torch."""
