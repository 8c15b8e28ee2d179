"""TF1's functions on collections, for forward functions that run many times.

    def forward(x):
        w = tf1.get_variable("w", [5, 3])
        tf1.add_to_collection("decayed", w)  # once, however often forward runs
        return x @ w

The trap: TF1 ran a forward function once, to build a graph. Run in each step, it would
add its variables to the collection again, and the collection's penalty would grow.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import collections
from tfreg.collections import ownership, scopes, store, terms
from tfreg.tf1 import variable_scopes, variables


def _find_values() -> dict[Hashable, list] | None:
    """Returns the values of the pass by key, None in a step or outside a pass."""
    current = variable_scopes.find_pass()
    return None if current is None or scopes.get_record() else current.values


@scopes.do_not_convert
def add_to_collection(name: Hashable, value: Any) -> None:
    """Appends a value to a collection.

    A forward pass adds a variable only if an earlier pass hasn't; the variable leaves
    the collection with its model. Other values live for one step, as with
    `tfreg.add_to_collection`; in eager code outside a step, for one pass.

    Args:
        name: any hashable key, a `GraphKeys` name for the standard ones.
        value: anything; duplicates are kept.

    Raises:
        ValueError: an eager tensor for a losses collection outside a step.

    Source: `tf.compat.v1.add_to_collection`.
    """
    current, values = variable_scopes.find_pass(), _find_values()
    if current is None or not any(value is v for v in current.owner.variables):
        if values is None or isinstance(value, tf.Variable) or _is_losses(name):
            collections.add_to_collection(name, value)
        else:
            values.setdefault(name, []).append(value)
        return
    key = name, id(value)
    current.added[key] += 1
    count = sum(value is item for item in collections.get_collection(name))
    if count < current.added[key]:
        store.get_default_store().add_owned(name, value)


def _is_losses(name: Hashable) -> bool:
    return isinstance(name, str) and name.endswith("losses")  # Refused in eager code.


@scopes.do_not_convert
def get_collection(name: Hashable, scope: str | None = None) -> list:
    """Returns a new list of the values in a collection.

    In eager code outside a step also those of the pass; otherwise as
    `tfreg.get_collection`.

    Args:
        name: key of the collection.
        scope: regular expression, matched at the beginning of each item's name; items
            without a name are excluded.

    Source: `tf.compat.v1.get_collection`.
    """
    values = (_find_values() or {}).get(name, [])
    if scope is not None:
        values = [v for v in values if ownership.matches(scope, store.get_name(v))]
    return [*collections.get_collection(name, scope), *values]


@scopes.do_not_convert
def clear_collection(name: Hashable) -> None:
    """Removes the values of a collection, including the terms.

    Source: `tf.Graph.clear_collection`.
    """
    collections.clear_collection(name)
    (_find_values() or {}).pop(name, None)


def add_to_collections(names: Any, value: Any) -> None:
    """Appends a value to several collections; a str is one name.

    Args:
        names: one key, or an iterable of keys; duplicates are ignored.
        value: as for `add_to_collection`.

    Source: `tf.compat.v1.add_to_collections`.
    """
    for name in dict.fromkeys(variables.list_keys(names)):
        add_to_collection(name, value)


def apply_regularization(
    regularizer: terms.Regularizer, weights_list: Sequence[Any] | None = None
) -> tf.Tensor:
    """Adds the summed penalty of weights to REGULARIZATION_LOSSES, as one entry.

    In a forward pass the penalty belongs to the step. A pass outside a step adds no
    penalty, and a total that should have counted it raises. The arguments, the result
    and the errors are those of `tfreg.apply_regularization`.

    Source: `tf.contrib.layers.apply_regularization`.
    """
    current = variable_scopes.find_pass()
    if current is None or scopes.get_record() is not None:
        return collections.apply_regularization(regularizer, weights_list)
    # Not as a term of the variables: the next pass would add another one.
    with scopes.step_scope():
        penalty = collections.apply_regularization(regularizer, weights_list)
    name = f"apply_regularization/Regularizer/{terms.get_name(regularizer)}"
    ownership.note_call(None, current.owner, store.get_default_store(), name)
    return penalty


def get_or_create_global_step() -> tf.Variable:
    """Returns the default store's count of updates, an int64 scalar variable.

    Source: `tf.compat.v1.train.get_or_create_global_step`.
    """
    steps = collections.get_collection(store.GraphKeys.GLOBAL_STEP)
    if steps:
        return steps[0]
    with tf.init_scope(), tf.name_scope(""):
        step = tf.Variable(
            tf.zeros([], tf.int64),
            trainable=False,
            name="global_step",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
    for key in (store.GraphKeys.GLOBAL_STEP, store.GraphKeys.GLOBAL_VARIABLES):
        collections.add_to_collection(key, step)
    return step
