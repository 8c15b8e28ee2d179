"""Regularized training in low-level TensorFlow 2.

    import tfreg

    regularizer = tfreg.l2_regularizer(1e-4)
    model = tfreg.models.MLP([128, 10], kernel_regularizer=regularizer)

Every name below is imported when it is first used (PEP 562): `import tfreg` alone costs
milliseconds, and imports no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfreg import (
        collections,
        data,
        layers,
        losses,
        models,
        optimizers,
        regularizers,
        rules,
        runs,
        sweeps,
        tf1,
        training,
    )
    from tfreg.collections import (
        GraphKeys,
        Store,
        add_loss,
        add_to_collection,
        add_to_collections,
        apply_regularization,
        clear_collection,
        get_all_collection_keys,
        get_collection,
        get_collection_ref,
        get_default_store,
        penalize_activity,
        random,
        step_scope,
    )
    from tfreg.layers import normalization
    from tfreg.optimizers import decay, gradients, schedules
    from tfreg.regularizers import (
        l1_l2_regularizer,
        l1_regularizer,
        l2_regularizer,
        l2_sp_regularizer,
        no_regularizer,
        sum_regularizer,
    )
    from tfreg.runs.finished import load_run
    from tfreg.runs.trainer import Trainer
    from tfreg.runs.weights import load_weights
    from tfreg.training import loop, step
    from tfreg.training.loop import Loop
    from tfreg.training.step import Step

__version__ = "0.1.0"

# Name -> the module that has it, or that it is.
_PLACES = {
    "GraphKeys": "tfreg.collections",
    "Loop": "tfreg.training.loop",
    "Step": "tfreg.training.step",
    "Store": "tfreg.collections",
    "Trainer": "tfreg.runs.trainer",
    "add_loss": "tfreg.collections",
    "add_to_collection": "tfreg.collections",
    "add_to_collections": "tfreg.collections",
    "apply_regularization": "tfreg.collections",
    "clear_collection": "tfreg.collections",
    "collections": "tfreg.collections",
    "data": "tfreg.data",
    "decay": "tfreg.optimizers",
    "get_all_collection_keys": "tfreg.collections",
    "get_collection": "tfreg.collections",
    "get_collection_ref": "tfreg.collections",
    "get_default_store": "tfreg.collections",
    "gradients": "tfreg.optimizers.gradients",
    "l1_l2_regularizer": "tfreg.regularizers",
    "l1_regularizer": "tfreg.regularizers",
    "l2_regularizer": "tfreg.regularizers",
    "l2_sp_regularizer": "tfreg.regularizers",
    "layers": "tfreg.layers",
    "loop": "tfreg.training.loop",
    "load_run": "tfreg.runs.finished",
    "load_weights": "tfreg.runs.weights",
    "losses": "tfreg.losses",
    "models": "tfreg.models",
    "no_regularizer": "tfreg.regularizers",
    "normalization": "tfreg.layers.normalization",
    "optimizers": "tfreg.optimizers",
    "penalize_activity": "tfreg.collections",
    "random": "tfreg.collections.random",
    "regularizers": "tfreg.regularizers",
    "rules": "tfreg.rules",
    "runs": "tfreg.runs",
    "schedules": "tfreg.optimizers.schedules",
    "step": "tfreg.training.step",
    "step_scope": "tfreg.collections",
    "sum_regularizer": "tfreg.regularizers",
    "sweeps": "tfreg.sweeps",
    "tf1": "tfreg.tf1",
    "training": "tfreg.training",
}

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tfreg' has no attribute {name!r}")
    place = _PLACES[name]
    module = importlib.import_module(place)
    value = module if place.rpartition(".")[2] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
