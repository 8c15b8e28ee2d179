"""Runs: from a Config to a finished directory, for whoever trains by command line."""

from tfreg.runs.builder import (
    Run,
    build,
    get_hparams,
    get_metadata,
    make_model,
    make_trainer,
    take_examples,
)
from tfreg.runs.runner import WorkerError, evaluate, show, train

__all__ = [
    "Run",
    "WorkerError",
    "build",
    "evaluate",
    "get_hparams",
    "get_metadata",
    "make_model",
    "make_trainer",
    "show",
    "take_examples",
    "train",
]
