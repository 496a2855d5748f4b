"""Asking a model about pictures: requests, the log of answers, consensus, calibrated radii, the Guesser."""
