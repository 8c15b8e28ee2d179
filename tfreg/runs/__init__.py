"""Runs: from a Config to a finished directory, the basis of the commands.

Every name is imported when it is first used (PEP 562), so that `runs.config` and
`runs.directories` don't import TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfreg.runs import (
        builder,
        config,
        console,
        directories,
        finished,
        history,
        hooks,
        inputs,
        results,
        runner,
        scoring,
        trainer,
        weights,
    )
    from tfreg.runs.builder import (
        Run,
        build,
        get_hparams,
        initialize,
        make_model,
        make_trainer,
        take_examples,
    )
    from tfreg.runs.finished import load_run
    from tfreg.runs.runner import evaluate, show, train
    from tfreg.runs.trainer import Trainer
    from tfreg.runs.weights import load_weights

_MODULES = (
    "builder",
    "config",
    "console",
    "directories",
    "finished",
    "history",
    "hooks",
    "inputs",
    "results",
    "runner",
    "scoring",
    "trainer",
    "weights",
)
# Name -> the module that defines it.
_PLACES = {
    "Run": "builder",
    "Trainer": "trainer",
    "build": "builder",
    "evaluate": "runner",
    "get_hparams": "builder",
    "initialize": "builder",
    "load_run": "finished",
    "load_weights": "weights",
    "make_model": "builder",
    "make_trainer": "builder",
    "show": "runner",
    "take_examples": "builder",
    "train": "runner",
}

__all__ = [*_MODULES, *_PLACES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tfreg.runs.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'tfreg.runs' has no attribute {name!r}")
    module = importlib.import_module(f"tfreg.runs.{_PLACES[name]}")
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
