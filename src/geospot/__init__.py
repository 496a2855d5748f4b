"""Teach a vision-language model to say where on Earth a picture was taken."""

__version__ = "0.1.0"
