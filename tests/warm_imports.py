"""What the processes of warm_python.py have imported when they begin. Nothing is run: threads would not survive a fork."""

# ruff: noqa: F401

import lightning.pytorch
import timm
import torchmetrics

import lightning_wrcor.callback
import lightning_wrcor.cli
import lightning_wrcor.data
import lightning_wrcor.module
import lightning_wrcor.report
import lightning_wrcor.search
import lightning_wrcor.spaces
