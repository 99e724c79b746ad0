"""Measurements, not tests: `python -m tests.bench` says how fast the real command is, beside other clients."""
