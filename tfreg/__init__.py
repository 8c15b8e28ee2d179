"""Regularized training in low-level TensorFlow 2."""

from tfreg import (
    data,
    layers,
    loop,
    losses,
    models,
    normalization,
    optimizers,
    regularizers,
    rules,
    schedules,
    step,
    tf1,
)
from tfreg.collections import (
    add_loss,
    add_to_collection,
    add_to_collections,
    clear_collection,
    get_all_collection_keys,
    get_collection,
    get_collection_ref,
)
from tfreg.regularizers import (
    apply_regularization,
    l1_l2_regularizer,
    l1_regularizer,
    l2_regularizer,
    no_regularizer,
    sum_regularizer,
)
from tfreg.scopes import step_scope
from tfreg.store import GraphKeys, Store, get_default_store

__all__ = [
    "GraphKeys",
    "Store",
    "add_loss",
    "add_to_collection",
    "add_to_collections",
    "apply_regularization",
    "clear_collection",
    "data",
    "get_all_collection_keys",
    "get_collection",
    "get_collection_ref",
    "get_default_store",
    "l1_l2_regularizer",
    "l1_regularizer",
    "l2_regularizer",
    "layers",
    "loop",
    "losses",
    "models",
    "normalization",
    "no_regularizer",
    "optimizers",
    "regularizers",
    "rules",
    "schedules",
    "step",
    "step_scope",
    "sum_regularizer",
    "tf1",
]
