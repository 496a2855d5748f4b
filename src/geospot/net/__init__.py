"""Bytes that survive a bad line: retries, range requests, files over http and on the Hugging Face hub."""
