"""TF1's losses, each added to the step's collection, and the total of a step.

    tf1.losses.sparse_softmax_cross_entropy(y, logits)  # in a step
    tf1.losses.mean_squared_error(tf.zeros_like(logits), logits, weights=0.5)
    loss = tf1.losses.get_total_loss()  # both, and every penalty

The trap: `tf.compat.v1.losses` collects nothing in eager code, and mixes the losses of
all replicas. These losses belong to one step of one replica.
"""

from collections.abc import Hashable
from typing import Any

import tensorflow as tf

from tfreg.tf1 import variable_scopes
from tfreg.tf1.totals import (
    LOSSES,
    add_loss,
    get_losses,
    get_regularization_loss,
    get_regularization_losses,
    get_total_loss,
    total_loss,
)

__all__ = [
    "Reduction",
    "absolute_difference",
    "add_loss",
    "compute_weighted_loss",
    "cosine_distance",
    "get_losses",
    "get_regularization_loss",
    "get_regularization_losses",
    "get_total_loss",
    "hinge_loss",
    "huber_loss",
    "log_loss",
    "mean_pairwise_squared_error",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
    "total_loss",
]

v1 = tf.compat.v1.losses
Reduction = v1.Reduction


def _collect(loss: tf.Tensor, name: str, loss_collection: Hashable) -> tf.Tensor:
    # TF1's name of the op.
    add_loss(variable_scopes.label(loss, f"{name}/value"), loss_collection)
    return loss


def compute_weighted_loss(
    losses: tf.Tensor,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects weighted losses, reduced to a scalar.

    Args:
        losses: floating `[batch, d1, ..., dn]`.
        weights: a scalar, or a tensor of the same rank that broadcasts to `losses`.
        scope: name of the loss in the collection.
        loss_collection: key of the collection; None: the loss isn't collected.
        reduction: one of `Reduction`: NONE, SUM, MEAN (divided by the sum of the
            weights), SUM_OVER_BATCH_SIZE (by the number of losses) or
            SUM_BY_NONZERO_WEIGHTS (by the number of losses with a nonzero weight).

    Returns:
        A scalar of the losses' dtype, computed in float32; with NONE `[batch, ...]`.

    Raises:
        ValueError: weights that don't broadcast, an unknown reduction, or eager code
            outside a step.

    Source: `tf.compat.v1.losses.compute_weighted_loss`.
    """
    loss = v1.compute_weighted_loss(losses, weights, scope, None, reduction)
    return _collect(loss, scope or "weighted_loss", loss_collection)


def absolute_difference(
    labels: tf.Tensor,
    predictions: tf.Tensor,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects `|labels - predictions|`.

    Args:
        labels: of the shape of the predictions.
        predictions: floating `[batch, d1, ..., dn]`.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.absolute_difference`.
    """
    loss = v1.absolute_difference(labels, predictions, weights, scope, None, reduction)
    return _collect(loss, scope or "absolute_difference", loss_collection)


def cosine_distance(
    labels: tf.Tensor,
    predictions: tf.Tensor,
    axis: int | None = None,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects `1 - sum(labels * predictions)` along an axis.

    Args:
        labels: of the shape of the predictions, unit vectors along the axis.
        predictions: floating, unit vectors along the axis.
        axis: required.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.cosine_distance`.
    """
    loss = v1.cosine_distance(
        labels, predictions, axis, weights, scope, None, reduction
    )
    return _collect(loss, scope or "cosine_distance_loss", loss_collection)


def hinge_loss(
    labels: tf.Tensor,
    logits: tf.Tensor,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects `max(0, 1 - (2 * labels - 1) * logits)`.

    Args:
        labels: 0 or 1, of the shape of the logits.
        logits: floating `[batch, d1, ..., dn]`.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.hinge_loss`.
    """
    loss = v1.hinge_loss(labels, logits, weights, scope, None, reduction)
    return _collect(loss, scope or "hinge_loss", loss_collection)


def huber_loss(
    labels: tf.Tensor,
    predictions: tf.Tensor,
    weights: Any = 1.0,
    delta: float = 1.0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects half the squared error, linear beyond `delta`.

    Args:
        labels: of the shape of the predictions.
        predictions: floating `[batch, d1, ..., dn]`.
        delta: error at which the loss becomes linear, in the predictions' unit.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.huber_loss`.
    """
    loss = v1.huber_loss(labels, predictions, weights, delta, scope, None, reduction)
    return _collect(loss, scope or "huber_loss", loss_collection)


def log_loss(
    labels: tf.Tensor,
    predictions: tf.Tensor,
    weights: Any = 1.0,
    epsilon: float = 1e-7,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects the cross entropy of probabilities.

    Args:
        labels: of the shape of the predictions.
        predictions: floating `[batch, d1, ..., dn]`.
        epsilon: added inside the logarithms.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.log_loss`.
    """
    loss = v1.log_loss(labels, predictions, weights, epsilon, scope, None, reduction)
    return _collect(loss, scope or "log_loss", loss_collection)


def mean_pairwise_squared_error(
    labels: tf.Tensor,
    predictions: tf.Tensor,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
) -> tf.Tensor:
    """Returns and collects the squared error of the differences within an example.

    Args:
        labels: of the shape of the predictions.
        predictions: floating `[batch, d1, ..., dn]`.
        weights: a scalar, or one per example `[batch, 1, ..., 1]`.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.mean_pairwise_squared_error`.
    """
    weights = tf.cast(weights, tf.float32)
    if weights.shape.rank == 0:
        # In eager code TensorFlow divides by the batch's number of elements.
        weights = tf.reshape(weights, [1] * tf.convert_to_tensor(labels).shape.rank)
    loss = v1.mean_pairwise_squared_error(labels, predictions, weights, scope, None)
    return _collect(loss, scope or "mean_pairwise_squared_error", loss_collection)


def mean_squared_error(
    labels: tf.Tensor,
    predictions: tf.Tensor,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects `(labels - predictions) ** 2`.

    Args:
        labels: of the shape of the predictions.
        predictions: floating `[batch, d1, ..., dn]`.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.mean_squared_error`.
    """
    loss = v1.mean_squared_error(labels, predictions, weights, scope, None, reduction)
    return _collect(loss, scope or "mean_squared_error", loss_collection)


def sigmoid_cross_entropy(
    multi_class_labels: tf.Tensor,
    logits: tf.Tensor,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects the binary cross entropy of logits.

    Args:
        multi_class_labels: probabilities, of the shape of the logits.
        logits: floating `[batch, d1, ..., dn]`.
        label_smoothing: fraction s; labels become `y * (1 - s) + s / 2`.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.sigmoid_cross_entropy`.
    """
    loss = v1.sigmoid_cross_entropy(
        multi_class_labels, logits, weights, label_smoothing, scope, None, reduction
    )
    return _collect(loss, scope or "sigmoid_cross_entropy_loss", loss_collection)


def softmax_cross_entropy(
    onehot_labels: tf.Tensor,
    logits: tf.Tensor,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects the cross entropy of logits over classes.

    Args:
        onehot_labels: probabilities, of the shape of the logits.
        logits: floating `[batch, classes]`.
        label_smoothing: fraction s; labels become `y * (1 - s) + s / classes`.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss` for losses `[batch]`.

    Source: `tf.compat.v1.losses.softmax_cross_entropy`.
    """
    loss = v1.softmax_cross_entropy(
        onehot_labels, logits, weights, label_smoothing, scope, None, reduction
    )
    return _collect(loss, scope or "softmax_cross_entropy_loss", loss_collection)


def sparse_softmax_cross_entropy(
    labels: tf.Tensor,
    logits: tf.Tensor,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: Hashable = LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> tf.Tensor:
    """Returns and collects the cross entropy of logits for integer classes.

    Args:
        labels: integer `[batch, d1, ..., dn]`, or with a last dimension of 1.
        logits: floating `[batch, d1, ..., dn, classes]`.

    The remaining arguments, the result and the errors are those of
    `compute_weighted_loss`.

    Source: `tf.compat.v1.losses.sparse_softmax_cross_entropy`.
    """
    loss = v1.sparse_softmax_cross_entropy(
        labels, logits, weights, scope, None, reduction
    )
    name = scope or "sparse_softmax_cross_entropy_loss"
    return _collect(loss, name, loss_collection)
