"""The penalties that `total_loss` collects, for authors of losses and ports from TF1.

A term belongs to its variables, a loss of a step to the step. A store holds the
collections of TF1.
"""

from tfreg.collections.functions import (
    add_loss,
    add_to_collection,
    add_to_collections,
    apply_regularization,
    clear_collection,
    get_all_collection_keys,
    get_collection,
    get_collection_ref,
    penalize_activity,
)
from tfreg.collections.scopes import step_scope
from tfreg.collections.store import GraphKeys, Store, get_default_store

__all__ = [
    "GraphKeys",
    "Store",
    "add_loss",
    "add_to_collection",
    "add_to_collections",
    "apply_regularization",
    "clear_collection",
    "get_all_collection_keys",
    "get_collection",
    "get_collection_ref",
    "get_default_store",
    "penalize_activity",
    "step_scope",
]
