"""Data losses per example, and the total loss with every collected penalty.

    per_example = tfreg.losses.sparse_softmax_cross_entropy(y, logits)
    loss = tfreg.losses.total_loss(per_example, model)

The traps: a penalty added N times on N replicas, and a mean of means over batches of
different sizes. `total_loss` takes losses per example, and reduces them itself.
"""

import functools
import math
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import scopes, store, totals
from tfreg.collections.totals import total_loss

__all__ = [
    "DataLoss",
    "get_regularization_loss",
    "get_regularization_losses",
    "hinge",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
    "total_loss",
]

DataLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _pair(labels: Any, predictions: Any) -> tuple[tf.Tensor, tf.Tensor]:
    predictions = totals.widen(predictions)
    labels = totals.widen(labels, predictions.dtype)
    if not labels.shape.is_compatible_with(predictions.shape):
        raise ValueError(
            f"labels must have the shape of the predictions {predictions.shape}, got "
            f"{labels.shape}: reshape one of them"
        )
    if not (labels.shape.is_fully_defined() and predictions.shape.is_fully_defined()):
        # An unknown size could broadcast without an error.
        labels = tf.reshape(labels, tf.shape(predictions))
    return labels, predictions


def sparse_softmax_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns `-log softmax(logits)[label]` for each example.

    Args:
        labels: integer `[batch, d1, ..., dn]` or `[batch, d1, ..., dn, 1]`.
        logits: floating `[batch, d1, ..., dn, classes]`.

    Returns:
        `[batch]`, the mean over d1, ..., dn; float32 for float16 and bfloat16 logits.

    Raises:
        ValueError: the shapes don't match.

    Source: `tf.compat.v1.losses.sparse_softmax_cross_entropy`.
    """
    return totals.average_each(_sparse_softmax_each(labels, logits))


@scopes.do_not_convert
def _sparse_softmax_each(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    # TensorFlow's kernel takes only int32 and int64.
    labels, logits = tf.cast(labels, tf.int64), totals.widen(logits)
    if logits.shape.rank == 0:
        raise ValueError(
            "logits must have a last dimension of classes, got a scalar: pass "
            "[batch, classes]"
        )
    if labels.shape.rank == logits.shape.rank and labels.shape[-1] == 1:
        labels = tf.squeeze(labels, -1)
    if not labels.shape.is_compatible_with(logits.shape[:-1]):
        raise ValueError(
            f"labels must have shape {logits.shape[:-1]}, got {labels.shape}: "
            "pass one integer class per example, or use softmax_cross_entropy"
        )
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def softmax_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns `-sum(labels * log softmax(logits))` for each example.

    Args:
        labels: probabilities `[batch, d1, ..., dn, classes]`.
        logits: floating, of the same shape.

    Returns:
        `[batch]`, the mean over d1, ..., dn; float32 for float16 and bfloat16 logits.

    Raises:
        ValueError: the shapes differ.

    Source: `tf.compat.v1.losses.softmax_cross_entropy`.
    """
    return totals.average_each(_softmax_each(labels, logits))


def _softmax_each(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    labels, logits = _pair(labels, logits)
    return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


def sigmoid_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean binary cross entropy for each example.

    Args:
        labels: probabilities `[batch, d1, ..., dn]`.
        logits: floating, of the same shape.

    Returns:
        `[batch]`, the mean over d1, ..., dn; float32 for float16 and bfloat16 logits.

    Raises:
        ValueError: the shapes differ.

    Source: `tf.compat.v1.losses.sigmoid_cross_entropy`.
    """
    return totals.average_each(_sigmoid_each(labels, logits))


def _sigmoid_each(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    labels, logits = _pair(labels, logits)
    return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)


def mean_squared_error(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `(labels - predictions) ** 2` for each example.

    Args:
        labels: `[batch, d1, ..., dn]`.
        predictions: floating, of the same shape.

    Returns:
        `[batch]`; float32 for float16 and bfloat16 predictions.

    Raises:
        ValueError: the shapes differ.

    Source: `tf.compat.v1.losses.mean_squared_error`.
    """
    return totals.average_each(_square_each(labels, predictions))


def _square_each(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    labels, predictions = _pair(labels, predictions)
    return tf.math.squared_difference(predictions, labels)


def mean_absolute_error(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `|labels - predictions|` for each example.

    Args:
        labels: `[batch, d1, ..., dn]`.
        predictions: floating, of the same shape.

    Returns:
        `[batch]`; float32 for float16 and bfloat16 predictions.

    Raises:
        ValueError: the shapes differ.

    Source: `tf.compat.v1.losses.absolute_difference`.
    """
    return totals.average_each(_absolute_each(labels, predictions))


def _absolute_each(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    labels, predictions = _pair(labels, predictions)
    return tf.abs(predictions - labels)


def huber(labels: tf.Tensor, predictions: tf.Tensor, delta: float = 1.0) -> tf.Tensor:
    """Returns the mean Huber loss for each example.

    The loss is `e ** 2 / 2` if `|e| <= delta`, else `delta * |e| - delta ** 2 / 2`.

    Args:
        labels: `[batch, d1, ..., dn]`.
        predictions: floating, of the same shape.
        delta: finite float > 0, the error from which the loss is linear, in the unit of
            the predictions.

    Returns:
        `[batch]`; float32 for float16 and bfloat16 predictions.

    Raises:
        ValueError: the shapes differ, or `delta` isn't a finite number > 0.

    Source: `tf.compat.v1.losses.huber_loss`.
    """
    return totals.average_each(_huber_each(labels, predictions, delta))


def _huber_each(
    labels: tf.Tensor, predictions: tf.Tensor, delta: float = 1.0
) -> tf.Tensor:
    if not (math.isfinite(delta) and delta > 0):
        raise ValueError(
            f"delta must be a finite float > 0, got {delta!r}: write for example 1.0"
        )
    labels, predictions = _pair(labels, predictions)
    error = tf.abs(predictions - labels)
    quadratic = tf.minimum(error, delta)
    return quadratic**2 / 2 + delta * (error - quadratic)


def hinge(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `max(0, 1 - (2 * labels - 1) * logits)` for each example.

    Args:
        labels: 0 or 1, `[batch, d1, ..., dn]`.
        logits: floating, of the same shape.

    Returns:
        `[batch]`; float32 for float16 and bfloat16 logits.

    Raises:
        ValueError: the shapes differ.

    Source: `tf.compat.v1.losses.hinge_loss`.
    """
    return totals.average_each(_hinge_each(labels, logits))


def _hinge_each(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    labels, logits = _pair(labels, logits)
    return tf.nn.relu(1 - (2 * labels - 1) * logits)


class _Kind(NamedTuple):
    """The losses before they are averaged, and the kind of their targets."""

    each: DataLoss
    targets: str


_KINDS: dict[Any, _Kind] = {
    sparse_softmax_cross_entropy: _Kind(_sparse_softmax_each, "classes"),
    softmax_cross_entropy: _Kind(_softmax_each, "one-hot"),
    sigmoid_cross_entropy: _Kind(_sigmoid_each, "binary"),
    hinge: _Kind(_hinge_each, "binary"),
    mean_squared_error: _Kind(_square_each, "numbers"),
    mean_absolute_error: _Kind(_absolute_each, "numbers"),
    huber: _Kind(_huber_each, "numbers"),
}
_KERAS_TARGETS = {  # By part of the class name; the first match counts.
    "Sparse": "classes",
    "Categorical": "one-hot",
    "Binary": "binary",
    "Hinge": "binary",
    "": "numbers",
}


def take_each(loss: DataLoss) -> DataLoss:
    """Returns a loss as a function that returns losses per example or position.

    Args:
        loss: one of tfreg's, which is then not averaged; a `keras.losses.Loss`, whose
            call reduces, and divides by the number of replicas, where its public method
            `call` does neither; a `functools.partial` of these; or any other callable,
            which is returned as it is.
    """
    if isinstance(loss, functools.partial):
        return functools.partial(take_each(loss.func), *loss.args, **loss.keywords)
    if isinstance(loss, tf.keras.losses.Loss):
        return loss.call
    return _KINDS[loss].each if _is_ours(loss) else loss


def _is_ours(loss: Any) -> bool:
    return isinstance(loss, types.FunctionType) and loss in _KINDS


def find_targets(loss: DataLoss) -> tuple[str | None, float]:
    """Returns the kind of a loss's targets, and the threshold of a binary output.

    Returns:
        `classes`, `one-hot`, `binary`, `numbers`, an attribute `targets` of another
        loss, or None for an unknown one; and the output above which the prediction is
        1: 0.0 for a logit.
    """
    if isinstance(loss, functools.partial):
        return find_targets(loss.func)
    if not isinstance(loss, tf.keras.losses.Loss):
        if _is_ours(loss):
            return _KINDS[loss].targets, 0.0
        said = getattr(loss, "targets", None)
        return said if said in set(_KERAS_TARGETS.values()) else None, 0.0
    kind = type(loss).__name__
    targets = next(t for word, t in _KERAS_TARGETS.items() if word in kind)
    is_probability = targets == "binary" and not getattr(loss, "from_logits", True)
    return targets, 0.5 if is_probability else 0.0


def get_regularization_losses(scope: str | None = None) -> list[tf.Tensor]:
    """Returns all regularization losses, evaluated now: terms, then losses of the step.

    Args:
        scope: regular expression, matched at the beginning of each name.

    Returns:
        Floating scalars.

    Source: `tf.compat.v1.losses.get_regularization_losses`.
    """
    return [p.value for p in store.get_default_store().get_penalties(scope)]


@scopes.do_not_convert
def get_regularization_loss(scope: str | None = None) -> tf.Tensor:
    """Returns the sum of the regularization losses, 0.0 if there are none.

    In eager code outside a step and a tape, for example for a log, it is the sum of the
    weight penalties.

    Args:
        scope: regular expression, matched at the beginning of each name.

    Returns:
        A floating scalar.

    Raises:
        ValueError: in a step or under a tape, a penalty can't be counted, as for
            `total_loss`.

    Source: `tf.compat.v1.losses.get_regularization_loss`.
    """
    current = store.get_default_store()
    trains = scopes.get_record() is not None or _tensorflow.is_recording()
    read = current.sum_penalties if trains else current.get_penalties
    losses = [totals.widen(penalty.value) for penalty in read(scope)]
    if not losses:
        return tf.constant(0.0)
    return tf.add_n([tf.cast(loss, losses[0].dtype) for loss in losses])
