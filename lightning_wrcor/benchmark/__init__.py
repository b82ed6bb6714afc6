"""Measurements of this library itself, run with ``python -m lightning_wrcor.benchmark``."""
