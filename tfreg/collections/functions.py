"""TF1's functions for collections, on the default store.

    with tfreg.step_scope():
        tfreg.add_to_collection("my_tensors", logits)  # ends with the step
        tfreg.get_collection(tfreg.GraphKeys.REGULARIZATION_LOSSES, scope="dense_0/")

The trap: `tf.compat.v1.add_to_collection` in eager code keeps a stale constant, which
enters every later total. Here it is refused, and the error says what to write.
"""

from collections.abc import Hashable, Iterable
from typing import Any

import tensorflow as tf

from tfreg.collections import ownership, parts, scopes, store, terms


def add_to_collection(name: Hashable, value: Any) -> None:
    """Appends a value to a collection.

    In a step (a tf.function's trace or `step_scope`) it ends with the step, unless it
    is a tf.Variable; outside one it stays until it is cleared.

    Args:
        name: any hashable key, a `GraphKeys` name for the standard ones.
        value: anything; duplicates are kept.

    Raises:
        ValueError: an eager tensor for a losses collection outside a step.

    Source: `tf.compat.v1.add_to_collection`.
    """
    store.get_default_store().add_to_collection(name, value)


def add_to_collections(names: Hashable | Iterable[Hashable], value: Any) -> None:
    """Appends a value to several collections; a str is one name.

    Args:
        names: one key, or an iterable of keys, each taken once.
        value: as for `add_to_collection`.

    Source: `tf.compat.v1.add_to_collections`.
    """
    several = isinstance(names, Iterable) and not isinstance(names, str)
    each: Iterable = dict.fromkeys(names) if several else [names]  # type: ignore
    for name in each:
        add_to_collection(name, value)


def get_collection(name: Hashable, scope: str | None = None) -> list:
    """Returns a new list of a collection's values; never makes the collection.

    REGULARIZATION_LOSSES holds every term, evaluated now, and this step's losses.

    Args:
        name: the collection's key.
        scope: regular expression that an item's name must match at its beginning;
            items without a name are left out.

    Source: `tf.compat.v1.get_collection`.
    """
    return store.get_default_store().get_collection(name, scope)


def get_collection_ref(name: Hashable) -> list:
    """Returns the live list of a collection, in a step that of the step.

    What layers put into WEIGHTS and BIASES is not in it: it goes with the layer.

    Raises:
        ValueError: for REGULARIZATION_LOSSES, whose terms are evaluated when read.

    Source: `tf.compat.v1.get_collection_ref`.
    """
    return store.get_default_store().get_collection_ref(name)


def clear_collection(name: Hashable) -> None:
    """Forgets the values of a collection; terms are no longer collected either.

    Source: `tf.Graph.clear_collection`.
    """
    store.get_default_store().clear_collection(name)


def get_all_collection_keys() -> list[Hashable]:
    """Returns the keys of all collections that have values.

    Source: `tf.Graph.get_all_collection_keys`, which lists strings alone.
    """
    return store.get_default_store().get_all_collection_keys()


@scopes.do_not_convert
def add_loss(value: tf.Tensor, name: str = "loss") -> None:
    """Adds a loss of this step to REGULARIZATION_LOSSES, which `total_loss` sums.

    In a method of a tf.Module or of a Keras layer it belongs to that module, and so to
    the total of every model that holds it. In eager code outside a step it is dropped
    there, so that prediction works; a plain function must be in a step.

    Args:
        value: floating scalar, a mean over this replica's examples.
        name: what `get_collection(..., scope=...)` filters by.

    Raises:
        ValueError: not a scalar, or outside a step in a plain function.

    Source: `keras.layers.Layer.add_loss`.
    """
    owner = parts.find_owner()
    ownership.add_loss(value, name, owner, store.get_default_store())


@scopes.do_not_convert
def penalize_activity(
    regularizer: terms.Regularizer, outputs: tf.Tensor, name: str = "activity"
) -> None:
    """Adds the penalty of outputs, divided by the batch size, to this step.

    It is what a layer's `activity_regularizer` adds, for outputs of anything else.

    Args:
        regularizer: callable, tensor -> scalar tensor or None.
        outputs: floating `[batch, ...]`.
        name: what `get_collection(..., scope=...)` filters by.

    Raises:
        ValueError: not a scalar, or outside a step in a plain function.

    Source: `activity_regularizer` of `tf.compat.v1.layers`.
    """
    penalty = terms.measure_activity(regularizer, outputs)
    if penalty is not None:
        owner = parts.find_owner()
        ownership.add_loss(penalty, name, owner, store.get_default_store())
