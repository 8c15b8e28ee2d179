"""TF1's functions for collections, on the default store.

    with tfreg.step_scope():
        tfreg.add_to_collection("my_tensors", logits)  # ends with the step
        tfreg.get_collection(tfreg.GraphKeys.REGULARIZATION_LOSSES, scope="dense_0/")

The trap: `tf.compat.v1.add_to_collection` in eager code keeps a stale constant, which
enters every later total. tfreg raises instead, and the error says what to write.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import ownership, parts, scopes, store, terms


def add_to_collection(name: Hashable, value: Any) -> None:
    """Appends a value to a collection.

    In a step (a trace of a tf.function, or `step_scope`) the value is removed at the
    end of the step, unless it is a tf.Variable. Outside a step it stays until the
    collection is cleared.

    Args:
        name: any hashable key, a `GraphKeys` name for the standard ones.
        value: anything; duplicates are kept.

    Raises:
        ValueError: an eager tensor is added to a collection of losses outside a step.

    Source: `tf.compat.v1.add_to_collection`.
    """
    store.get_default_store().add_to_collection(name, value)


def add_to_collections(names: Hashable | Iterable[Hashable], value: Any) -> None:
    """Appends a value to several collections; a str is one name.

    Args:
        names: one key, or an iterable of keys; duplicates count once.
        value: as for `add_to_collection`.

    Raises:
        ValueError: as for `add_to_collection`.

    Source: `tf.compat.v1.add_to_collections`.
    """
    several = isinstance(names, Iterable) and not isinstance(names, str)
    each: Iterable = dict.fromkeys(names) if several else [names]  # type: ignore
    for name in each:
        add_to_collection(name, value)


def get_collection(name: Hashable, scope: str | None = None) -> list:
    """Returns a new list of the values in a collection.

    The values of REGULARIZATION_LOSSES are all terms, evaluated now, and the losses of
    this step. An unknown key gives an empty list.

    Args:
        name: key of the collection.
        scope: regular expression, matched at the beginning of each item's name; items
            without a name are excluded.

    Source: `tf.compat.v1.get_collection`.
    """
    return store.get_default_store().get_collection(name, scope)


def get_collection_ref(name: Hashable) -> list:
    """Returns the live list of a collection; in a step, the list of the step.

    The variables that layers put into WEIGHTS and BIASES are not in it: they belong to
    the layers.

    Args:
        name: key of the collection.

    Raises:
        ValueError: the key is REGULARIZATION_LOSSES, whose terms are evaluated on each
            read.

    Source: `tf.compat.v1.get_collection_ref`.
    """
    return store.get_default_store().get_collection_ref(name)


def clear_collection(name: Hashable) -> None:
    """Removes the values of a collection, including the terms.

    Args:
        name: key of the collection.

    Source: `tf.Graph.clear_collection`.
    """
    store.get_default_store().clear_collection(name)


def get_all_collection_keys() -> list[Hashable]:
    """Returns the keys of all collections that have values.

    Source: `tf.Graph.get_all_collection_keys`, which lists only strings.
    """
    return store.get_default_store().get_all_collection_keys()


@scopes.do_not_convert
def add_loss(value: tf.Tensor, name: str = "loss") -> None:
    """Adds a loss of this step to REGULARIZATION_LOSSES, which `total_loss` sums.

    A loss added in a method of a tf.Module or Keras layer belongs to that module, and
    counts in the total of every model that contains it. In eager code outside a step
    such a loss is dropped, so that prediction works. A plain function may add a loss
    only inside a step.

    Args:
        value: floating scalar, a mean over the examples of this replica.
        name: the name that `get_collection(..., scope=...)` matches.

    Raises:
        ValueError: `value` isn't a scalar, or a plain function adds it outside a step.

    Source: `keras.layers.Layer.add_loss`.
    """
    owner = parts.find_owner()
    ownership.add_loss(value, name, owner, store.get_default_store())


@scopes.do_not_convert
def penalize_activity(
    regularizer: terms.Regularizer, outputs: tf.Tensor, name: str = "activity"
) -> None:
    """Adds the penalty of outputs, divided by the batch size, to this step.

    It is the counterpart of a layer's `activity_regularizer`, for any other outputs.

    Args:
        regularizer: callable, tensor -> scalar tensor or None.
        outputs: floating `[batch, ...]`.
        name: the name that `get_collection(..., scope=...)` matches.

    Raises:
        ValueError: the penalty isn't a scalar, or a plain function adds it outside a
            step.

    Source: `activity_regularizer` of `tf.compat.v1.layers`.
    """
    penalty = terms.measure_activity(regularizer, outputs)
    if penalty is not None:
        owner = parts.find_owner()
        ownership.add_loss(penalty, name, owner, store.get_default_store())


@scopes.do_not_convert
def apply_regularization(
    regularizer: terms.Regularizer, weights_list: Sequence[Any] | None = None
) -> tf.Tensor:
    """Adds the summed penalty of weights to REGULARIZATION_LOSSES, as one entry.

    In a step the penalty belongs to the step: call this function under the tape.
    Outside a step it becomes a term of the variables, evaluated in every total.

    Args:
        regularizer: any callable, tensor -> scalar tensor or None, which counts as 0.0.
        weights_list: variables, in a step also tensors; None or an empty list stands
            for the collection WEIGHTS, which contains the kernels of layers.

    Returns:
        The current value of the sum, a scalar. If the dtypes of the penalties differ,
        it has the widest.

    Raises:
        ValueError: there are no weights, or a penalty isn't a scalar. Outside a step
            also: a weight isn't a variable, the regularizer was applied to the same
            variables before, or its scale is a function of the step.
        TypeError: `regularizer` isn't callable, or `weights_list` is a tensor.

    Source: `tf.contrib.layers.apply_regularization`.
    """
    if not callable(regularizer):
        raise TypeError(
            f"regularizer must be a callable, got {regularizer!r}: "
            "write for example tfreg.l2_regularizer(1e-4)"
        )
    shape = getattr(weights_list, "shape", None)
    if shape is not None:
        raise TypeError(
            f"weights_list must be a list of variables, got one of shape {shape}: "
            "write [weights]"
        )
    current = store.get_default_store()
    weights = list(weights_list or current.get_collection(store.GraphKeys.WEIGHTS))
    if not weights:
        raise ValueError(
            "No weights to regularize: weights_list must not be empty where the "
            f"collection 'weights' is, got {weights_list!r}: pass variables"
        )
    name, lasting = "apply_regularization", scopes.get_record() is None
    if lasting:
        _check_lasting(current, regularizer, weights)
    penalty = terms.apply_each(regularizer, weights, name)
    if lasting:
        current.add_term(name, regularizer, weights)
    elif penalty is not None:
        # It counts once, independently of the number of examples.
        name = f"{name}/Regularizer/{terms.get_name(regularizer)}"
        owner = parts.find_owner()
        ownership.add_loss(penalty, name, owner, current, per_example=False)
    return tf.constant(0.0) if penalty is None else penalty


def _check_lasting(
    current: store.Store, regularizer: terms.Regularizer, weights: list
) -> None:
    for weight in weights:
        if not terms.is_variable(weight):
            raise ValueError(
                "weights_list must hold variables outside a step, got "
                f"{type(weight).__name__} {weight!r}: pass the variable itself"
            )
    same = [id(weight) for weight in weights]
    for term in current.get_terms():
        if term.regularizer is regularizer and list(map(id, term.variables)) == same:
            raise ValueError(
                f"apply_regularization must be called once for a model, got "
                f"{regularizer!r} on the same variables again: call it where the model "
                "is built, or inside the step"
            )
