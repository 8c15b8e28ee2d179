"""What happens to gradients between the tape and the optimizer: slim's functions.

    transform = chain({"w": 0.1}, functools.partial(clip_gradient_norms, max_norm=5))
    pairs = transform([(tf.ones_like(w), w)])  # multiplied, then clipped

The trap: slim clips each gradient by its own norm, optimize_loss all by the global one.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

Pairs = list[tuple[Any, tf.Variable]]  # A gradient (or None) and its variable.
Transform = Callable[[Pairs], Pairs]
Multipliers = Mapping[Any, Any]


def _map(gradient: Any, function: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    """Applies a function to the values of a gradient, also of IndexedSlices."""
    if isinstance(gradient, tf.IndexedSlices):
        values = function(gradient.values)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return function(gradient)


def scale(gradient: Any, factor: Any) -> Any:
    """Multiplies a gradient."""
    return _map(gradient, lambda values: values * tf.cast(factor, values.dtype))


def _list_names(variable: tf.Variable) -> list[Any]:
    """Returns the keys that refer to a variable: its ref, and its name in two forms."""
    return [variable.ref(), variable.name, variable.name.rpartition(":")[0]]


def multiply_gradients(
    grads_and_vars: Pairs, gradient_multipliers: Multipliers
) -> Pairs:
    """Multiplies the gradients of some variables.

    Args:
        grads_and_vars: pairs of a gradient and its variable.
        gradient_multipliers: a variable's name or `variable.ref()` -> a number or a
            scalar tensor.

    Returns:
        All pairs, in the same order.

    Raises:
        ValueError: a key isn't a variable of the pairs, or its gradient is None.

    Source: `tf.contrib.training.multiply_gradients`.
    """
    trained = [variable for _, variable in grads_and_vars]
    named = {name: g for g, v in grads_and_vars for name in _list_names(v)}
    for key in gradient_multipliers:
        if named.get(key) is None:
            raise ValueError(
                "gradient_multipliers must name trained variables with a gradient, "
                f"got {key!r}: name one of {[v.name for v in trained]}"
            )
    multiplied = []
    for gradient, variable in grads_and_vars:
        keys = [k for k in _list_names(variable) if k in gradient_multipliers]
        if keys:
            gradient = scale(gradient, gradient_multipliers[keys[0]])
        multiplied.append((gradient, variable))
    return multiplied


def clip_gradient_norms(grads_and_vars: Pairs, max_norm: float) -> Pairs:
    """Clips each gradient by its own norm.

    Args:
        grads_and_vars: pairs of a gradient and its variable.
        max_norm: the largest norm.

    Returns:
        All pairs, in the same order.

    Source: `tf.contrib.training.clip_gradient_norms`.
    """
    clip = functools.partial(tf.clip_by_norm, clip_norm=max_norm)
    return [(g if g is None else _map(g, clip), v) for g, v in grads_and_vars]


def clip_by_global_norm(grads_and_vars: Pairs, max_norm: float) -> Pairs:
    """Clips all gradients by their global norm."""
    unclipped, trained = zip(*grads_and_vars, strict=True)
    clipped, _ = tf.clip_by_global_norm(unclipped, max_norm)
    return list(zip(clipped, trained, strict=True))


def summarize(pairs: Pairs, step: tf.Variable | None) -> None:
    """Writes each gradient and its norm to `tf.summary`."""
    for gradient, variable in pairs:
        if gradient is not None:
            values = getattr(gradient, "values", gradient)
            name, number = variable.name.rpartition(":")[0], step
            tf.summary.histogram(f"{name}/gradient", values, number)
            norm = tf.linalg.global_norm([values])
            tf.summary.scalar(f"{name}/gradient_norm", norm, number)


def chain(multipliers: Multipliers | None, *functions: Transform | None) -> Transform:
    """Returns a function that multiplies gradients, then applies those not None."""

    def transform(pairs: Pairs) -> Pairs:
        if multipliers:
            pairs = multiply_gradients(pairs, multipliers)
        for function in functions:
            pairs = pairs if function is None else function(pairs)
        return pairs

    return transform
