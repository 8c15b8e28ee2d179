"""Runs: from a Config to a finished directory, for whoever trains by command line."""

from tfreg.runs.runner import (
    Run,
    WorkerError,
    build,
    evaluate,
    get_facts,
    get_hparams,
    make_model,
    show,
    train,
    train_in,
)

__all__ = [
    "Run",
    "WorkerError",
    "build",
    "evaluate",
    "get_facts",
    "get_hparams",
    "make_model",
    "show",
    "train",
    "train_in",
]
