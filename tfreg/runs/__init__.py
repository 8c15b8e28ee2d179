"""Runs: from a Config to a finished directory, for whoever trains by command line.

Every name is imported when it is first used (PEP 562), so that `runs.config` and
`runs.directories` come without TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfreg.runs import config, console, directories, results, runner
    from tfreg.runs.runner import (
        Run,
        WorkerError,
        build,
        evaluate,
        get_facts,
        get_hparams,
        make_model,
        show,
        take_examples,
        train,
        train_in,
    )

_MODULES = ("config", "console", "directories", "results", "runner")
_NAMES = (
    "Run",
    "WorkerError",
    "build",
    "evaluate",
    "get_facts",
    "get_hparams",
    "make_model",
    "show",
    "take_examples",
    "train",
    "train_in",
)

__all__ = [*_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tfreg.runs.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module("tfreg.runs.runner"), name)
    raise AttributeError(f"module 'tfreg.runs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
