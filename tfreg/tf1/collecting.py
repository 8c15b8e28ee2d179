"""TF1's functions on collections, for forward functions that run again and again.

    def forward(x):
        w = tf1.get_variable("w", [5, 3])
        tf1.add_to_collection("decayed", w)  # once, however often it runs
        return x @ w

The trap: what was added once to TF1's graph would be added in each pass, and a penalty
of the collection would grow from step to step.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import collections, regularizers
from tfreg.collections import ownership, scopes, store, terms
from tfreg.tf1 import variable_scopes, variables


@scopes.do_not_convert
def add_to_collection(name: Hashable, value: Any) -> None:
    """Appends a value to a collection.

    In a forward pass a variable is added as often as the pass adds it, whatever the
    passes before did, and leaves the collection with its model. Other values end with
    the step, as of `tfreg.add_to_collection`.

    Args:
        name: any hashable key, a `GraphKeys` name for the standard ones.
        value: anything; duplicates are kept.

    Raises:
        ValueError: an eager tensor for a losses collection outside a step.

    Source: `tf.compat.v1.add_to_collection`.
    """
    here = variable_scopes.find_pass()
    if here is None or not any(value is v for v in here.owner.variables):
        collections.add_to_collection(name, value)
        return
    key = name, id(value)
    here.added[key] += 1
    found = sum(value is item for item in collections.get_collection(name))
    if found < here.added[key]:
        store.get_default_store().add_owned(name, value)


def add_to_collections(names: Any, value: Any) -> None:
    """Appends a value to several collections; a str is one name.

    Args:
        names: one key, or an iterable of keys, each taken once.
        value: as for `add_to_collection`.

    Source: `tf.compat.v1.add_to_collections`.
    """
    for name in dict.fromkeys(variables.list_keys(names)):
        add_to_collection(name, value)


def apply_regularization(
    regularizer: terms.Regularizer, weights_list: Sequence[Any] | None = None
) -> tf.Tensor:
    """Adds the summed penalty of weights to REGULARIZATION_LOSSES, as one entry.

    In a forward pass it belongs to the step; outside a step the pass's penalty is in no
    total, and a total that should have counted it raises.

    Args, Returns, Raises: as for `tfreg.apply_regularization`.

    Source: `tf.contrib.layers.apply_regularization`.
    """
    here = variable_scopes.find_pass()
    if here is None or scopes.get_record() is not None:
        return regularizers.apply_regularization(regularizer, weights_list)
    # Not a term of the variables: the next pass would add it again.
    with scopes.step_scope():
        penalty = regularizers.apply_regularization(regularizer, weights_list)
    name = f"apply_regularization/Regularizer/{terms.get_name(regularizer)}"
    ownership.note_call(None, here.owner, store.get_default_store(), name)
    return penalty
