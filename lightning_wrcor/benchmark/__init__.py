"""Measurements of this library itself, run with ``python -m lightning_wrcor.benchmark``."""

from lightning_wrcor.benchmark._compare import Agreement as Agreement
from lightning_wrcor.benchmark._report import CorrelationReport as CorrelationReport
from lightning_wrcor.benchmark.agreement import RunAgreement as RunAgreement
from lightning_wrcor.benchmark.agreement import compare_runs as compare_runs
from lightning_wrcor.benchmark.correlate import correlate as correlate
