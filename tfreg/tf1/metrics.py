"""TF1's streaming metrics: sums that go on from one forward pass to the next.

    net = tf1.Model(lambda x, labels: tf1.metrics.accuracy(labels, tf.argmax(x, 1)))
    value, update = net(x, [0] * len(x))  # of all calls so far
    tf1.metrics.reset(net)  # before the next evaluation

Each metric returns TF1's pair of value and update. The trap: a session ran the value
without the update; here a call of the forward function updates, and both are what TF1's
update was. On replicas the sums are over all replicas. The sums are no variables of the
model, and aren't in checkpoints.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import tensorflow as tf

from tfreg.optimizers import gradients
from tfreg.tf1 import variable_scopes, variables

Pair: TypeAlias = tuple[tf.Tensor, tf.Tensor]

_TINY = 1e-6  # contrib's, in the rates of an area under the curve.


def reset(model: variables.VariableStore) -> None:
    """Sets the metrics of a model back to no examples.

    Source: running `tf.compat.v1.local_variables_initializer()`.
    """
    for total in model.metric_sums.values():
        total.assign(tf.zeros_like(total))


def _accumulate(name: str | None, default_name: str, *values: tf.Tensor) -> list:
    """Returns the sums of values over all calls so far, and over replicas."""
    current = variable_scopes.get_pass(f"metrics.{default_name}")
    with variable_scopes.variable_scope(name, default_name):
        scope = current.scope.name
    if f"{scope}/total" in current.seen:
        raise ValueError(
            f"name must be new in a forward pass, got {name!r} again: leave it out, or "
            "choose another"
        )
    current.seen.add(f"{scope}/total")
    totals = []
    for number, value in enumerate(gradients.sum_over_replicas(values)):
        total = _get_sum(current.owner.metric_sums, f"{scope}/{number}", value)
        total.assign_add(value)
        totals.append(tf.identity(total))
    return totals


def _get_sum(sums: dict[str, tf.Variable], name: str, value: Any) -> tf.Variable:
    if name not in sums:
        with tf.init_scope(), tf.name_scope(""):
            first = tf.VariableAggregation.ONLY_FIRST_REPLICA
            zeros = tf.zeros(value.shape, value.dtype)
            sums[name] = tf.Variable(zeros, trainable=False, aggregation=first)
    return sums[name]


def _weigh(values: Any, weights: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns float32 values, and their weights in the same shape."""
    values = tf.cast(values, tf.float32)
    weights = tf.cast(1.0 if weights is None else weights, tf.float32)
    if weights.shape.rank == values.shape.rank + 1 and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    if weights.shape.rank not in (0, values.shape.rank):
        raise ValueError(
            f"weights must be a scalar or have the rank of the values, "
            f"{values.shape.rank}, got shape {weights.shape}: reshape them"
        )
    return values, tf.broadcast_to(weights, tf.shape(values))


def _align(labels: Any, predictions: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns both in one shape; either may have a last dimension of 1 more."""
    labels, predictions = map(tf.convert_to_tensor, (labels, predictions))
    ranks = labels.shape.rank, predictions.shape.rank
    if ranks[0] == ranks[1] + 1 and labels.shape[-1] == 1:
        labels = tf.squeeze(labels, -1)
    elif ranks[1] == ranks[0] + 1 and predictions.shape[-1] == 1:
        predictions = tf.squeeze(predictions, -1)
    if not labels.shape.is_compatible_with(predictions.shape):
        raise ValueError(
            f"predictions must have the labels' shape, {labels.shape}, got "
            f"{predictions.shape}: reshape one of them"
        )
    return labels, predictions


def _average(name: str | None, default_name: str, values: Any, weights: Any) -> Pair:
    """Returns the weighted mean of all values so far, twice."""
    values, weights = _weigh(values, weights)
    sums = tf.reduce_sum(values * weights), tf.reduce_sum(weights)
    value = tf.math.divide_no_nan(*_accumulate(name, default_name, *sums))
    return value, value


def mean(values: Any, weights: Any = None, name: str | None = None) -> Pair:
    """Returns the weighted mean of all entries so far, twice.

    Args:
        values: tensor of any shape.
        weights: a scalar, or broadcasts to the values in their rank; None: 1.
        name: of the sums in the variable scope; None: numbered, see `tf1.Model`.

    Raises:
        ValueError: `name` is used twice in a forward pass; `weights` of another rank;
            outside a forward pass.

    Source: `tf.compat.v1.metrics.mean`, `tf.contrib.metrics.streaming_mean`.
    """
    return _average(name, "mean", values, weights)


def accuracy(
    labels: Any, predictions: Any, weights: Any = None, name: str | None = None
) -> Pair:
    """Returns the fraction of predictions that equal their labels so far, twice.

    Args:
        labels: tensor of any shape.
        predictions: tensor of that shape.
        weights: as for `mean`.
        name: as for `mean`.

    Raises:
        ValueError: as for `mean`; the shapes differ.

    Source: `tf.compat.v1.metrics.accuracy`.
    """
    labels, predictions = _align(labels, predictions)
    correct = tf.equal(labels, tf.cast(predictions, labels.dtype))
    return _average(name, "accuracy", correct, weights)


def _compute_error(labels: Any, predictions: Any) -> tf.Tensor:
    labels, predictions = _align(labels, predictions)
    return tf.cast(labels, tf.float32) - tf.cast(predictions, tf.float32)


def mean_absolute_error(
    labels: Any, predictions: Any, weights: Any = None, name: str | None = None
) -> Pair:
    """Returns the mean absolute error so far, twice; arguments as for `accuracy`.

    Source: `tf.compat.v1.metrics.mean_absolute_error`.
    """
    errors = tf.abs(_compute_error(labels, predictions))
    return _average(name, "mean_absolute_error", errors, weights)


def mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, name: str | None = None
) -> Pair:
    """Returns the mean squared error so far, twice; arguments as for `accuracy`.

    Source: `tf.compat.v1.metrics.mean_squared_error`.
    """
    errors = tf.square(_compute_error(labels, predictions))
    return _average(name, "mean_squared_error", errors, weights)


def root_mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, name: str | None = None
) -> Pair:
    """Returns the root of the mean squared error, twice; arguments as for `accuracy`.

    Source: `tf.compat.v1.metrics.root_mean_squared_error`.
    """
    errors = tf.square(_compute_error(labels, predictions))
    value = tf.sqrt(_average(name, "root_mean_squared_error", errors, weights)[0])
    return value, value


def _compute_rate(
    name: str | None, default_name: str, labels: Any, predictions: Any, weights: Any
) -> Pair:
    """Returns the fraction of `labels` where `predictions` are true as well."""
    labels, predictions = _align(labels, predictions)
    labels, predictions = tf.cast(labels, tf.bool), tf.cast(predictions, tf.bool)
    _, weights = _weigh(labels, weights)
    return _average(name, default_name, predictions, tf.where(labels, weights, 0.0))


def precision(
    labels: Any, predictions: Any, weights: Any = None, name: str | None = None
) -> Pair:
    """Returns the fraction of positive predictions that are right so far, twice.

    Args:
        labels: tensor of any shape; what isn't 0 is positive.
        predictions: likewise, of that shape.
        weights: as for `mean`.
        name: as for `mean`.

    Source: `tf.compat.v1.metrics.precision`.
    """
    return _compute_rate(name, "precision", predictions, labels, weights)


def recall(
    labels: Any, predictions: Any, weights: Any = None, name: str | None = None
) -> Pair:
    """Returns the fraction of positives that are found; arguments as for `precision`.

    Source: `tf.compat.v1.metrics.recall`.
    """
    return _compute_rate(name, "recall", labels, predictions, weights)


def auc(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    num_thresholds: int = 200,
    name: str | None = None,
) -> Pair:
    """Returns the area under the ROC curve so far, by the trapezoidal rule, twice.

    Args:
        labels: tensor of any shape; what isn't 0 is positive.
        predictions: tensor of that shape with entries in [0, 1].
        weights: as for `mean`.
        num_thresholds: number of points of the curve, at least 2.
        name: as for `mean`.

    Source: `tf.compat.v1.metrics.auc`.
    """
    labels, predictions = _align(labels, predictions)
    scores, weights = _weigh(predictions, weights)
    inner = tf.range(1, num_thresholds - 1, dtype=tf.float32) / (num_thresholds - 1)
    thresholds = tf.concat([[-1e-7], inner, [1.0 + 1e-7]], 0)
    above = tf.cast(tf.reshape(scores, [1, -1]) > thresholds[:, None], tf.float32)
    positive, weights = (
        tf.reshape(part, [-1]) for part in (tf.cast(labels, tf.bool), weights)
    )
    parts = [tf.where(positive, weights, 0.0), tf.where(positive, 0.0, weights)]
    counts = [tf.linalg.matvec(above, part) for part in parts]
    hits, alarms, positives, negatives = _accumulate(
        name, "auc", *counts, *map(tf.reduce_sum, parts)
    )
    rates = (hits + _TINY) / (positives + _TINY)
    false = alarms / (negatives + _TINY)
    value = tf.reduce_sum((false[:-1] - false[1:]) * (rates[:-1] + rates[1:]) / 2.0)
    return value, value


def mean_iou(
    labels: Any,
    predictions: Any,
    num_classes: int,
    weights: Any = None,
    name: str | None = None,
) -> Pair:
    """Returns the mean intersection over union so far, and the confusion matrix.

    Args:
        labels: tensor of any shape of classes, integers below `num_classes`.
        predictions: likewise, of that shape.
        num_classes: the mean is over those that occur.
        weights: as for `mean`.
        name: as for `mean`.

    Source: `tf.compat.v1.metrics.mean_iou`.
    """
    labels, predictions = _align(labels, predictions)
    _, weights = _weigh(labels, weights)
    parts = [tf.reshape(part, [-1]) for part in (labels, predictions, weights)]
    matrix = tf.math.confusion_matrix(
        parts[0], parts[1], num_classes, tf.cast(parts[2], tf.float64), tf.float64
    )
    (matrix,) = _accumulate(name, "mean_iou", matrix)
    both = tf.linalg.diag_part(matrix)
    either = tf.reduce_sum(matrix, 0) + tf.reduce_sum(matrix, 1) - both
    occurring = tf.reduce_sum(tf.cast(either > 0, tf.float64))
    total = tf.reduce_sum(tf.math.divide_no_nan(both, either))
    value = tf.cast(tf.math.divide_no_nan(total, occurring), tf.float32)
    return value, matrix


def aggregate_metrics(*value_update_tuples: Pair) -> tuple[list, list]:
    """Returns the values and the updates of pairs of them.

    Source: `tf.contrib.metrics.aggregate_metrics`.
    """
    values, updates = zip(*value_update_tuples, strict=True)
    return list(values), list(updates)


def aggregate_metric_map(names_to_tuples: Mapping[str, Pair]) -> tuple[dict, dict]:
    """Returns name -> value and name -> update, for name -> pair of them.

    Source: `tf.contrib.metrics.aggregate_metric_map`.
    """
    return (
        {name: value for name, (value, _) in names_to_tuples.items()},
        {name: update for name, (_, update) in names_to_tuples.items()},
    )
