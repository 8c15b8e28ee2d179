"""What `total_loss` collects: for whoever writes a loss or ports one from TF1.

Terms hang on variables, a step's losses on the step; a store holds TF1's collections.
"""

from tfreg.collections.functions import (
    add_loss,
    add_to_collection,
    add_to_collections,
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
    "clear_collection",
    "get_all_collection_keys",
    "get_collection",
    "get_collection_ref",
    "get_default_store",
    "penalize_activity",
    "step_scope",
]
