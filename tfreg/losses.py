"""Losses of the data, one per example, and the total with every collected penalty.

    per_example = tfreg.losses.sparse_softmax_cross_entropy(labels, logits)
    loss = tfreg.losses.total_loss(per_example)

The traps: a penalty added N times under N replicas, and a mean of means over batches of
different sizes. `total_loss` takes the losses of the single examples and reduces them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import ownership, scopes, store, terms

DataLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@scopes.do_not_convert
def _widen(tensor: Any, dtype: tf.DType | None = None) -> tf.Tensor:
    """Converts to `dtype` or a floating tensor, float16 and bfloat16 to float32."""
    values = isinstance(tensor, tf.distribute.DistributedValues)
    if values and not (tf.distribute.has_strategy() or isinstance(tensor, tf.Variable)):
        raise ValueError(
            "losses must be of one replica outside of strategy.scope(), got those of "
            f"all, {tensor}: call total_loss inside `with strategy.scope():`"
        )
    tensor = tf.convert_to_tensor(tensor, dtype_hint=dtype)
    if tensor.dtype.is_complex or tensor.dtype in (tf.string, tf.variant, tf.resource):
        raise TypeError(
            f"losses must be of real numbers, got {tensor.dtype.name}: "
            "split complex numbers into real and imaginary parts"
        )
    if dtype is None:
        wide = tensor.dtype.is_floating and tensor.dtype.size >= 4
        dtype = tensor.dtype if wide else tf.float32
    return tf.cast(tensor, dtype)


def _pair(labels: Any, predictions: Any) -> tuple[tf.Tensor, tf.Tensor]:
    predictions = _widen(predictions)
    labels = _widen(labels, predictions.dtype)
    if not labels.shape.is_compatible_with(predictions.shape):
        raise ValueError(
            f"labels must have the shape of the predictions {predictions.shape}, got "
            f"{labels.shape}: reshape one of them"
        )
    if not (labels.shape.is_fully_defined() and predictions.shape.is_fully_defined()):
        # A size that is known only when it runs could broadcast in silence.
        labels = tf.reshape(labels, tf.shape(predictions))
    return labels, predictions


def _mean_per_example(losses: tf.Tensor) -> tf.Tensor:
    rank = losses.shape.rank
    axes = tf.range(1, tf.rank(losses)) if rank is None else list(range(1, rank))
    return tf.reduce_mean(losses, axes)


@scopes.do_not_convert
def sparse_softmax_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns `-log softmax(logits)[label]` for each example.

    Args:
        labels: integer `[batch, d1, ..., dn]` or `[batch, d1, ..., dn, 1]`.
        logits: floating `[batch, d1, ..., dn, classes]`.

    Returns:
        `[batch]`, the mean over d1, ..., dn; float32 for float16 and bfloat16 logits.

    Raises:
        ValueError: shapes that don't fit.

    Source: `tf.compat.v1.losses.sparse_softmax_cross_entropy`.
    """
    # TensorFlow's kernel takes int32 and int64 alone.
    labels, logits = tf.cast(labels, tf.int64), _widen(logits)
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
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return _mean_per_example(losses)


def softmax_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns `-sum(labels * log softmax(logits))` for each example.

    Args:
        labels: probabilities `[batch, d1, ..., dn, classes]`.
        logits: floating, of the same shape.

    Returns:
        `[batch]`, the mean over d1, ..., dn; float32 for float16 and bfloat16 logits.

    Raises:
        ValueError: shapes that differ.

    Source: `tf.compat.v1.losses.softmax_cross_entropy`.
    """
    labels, logits = _pair(labels, logits)
    losses = tf.nn.softmax_cross_entropy_with_logits(labels, logits)
    return _mean_per_example(losses)


def sigmoid_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean binary cross entropy of each example.

    Args:
        labels: probabilities `[batch, d1, ..., dn]`.
        logits: floating, of the same shape.

    Returns:
        `[batch]`, the mean over d1, ..., dn; float32 for float16 and bfloat16 logits.

    Raises:
        ValueError: shapes that differ.

    Source: `tf.compat.v1.losses.sigmoid_cross_entropy`.
    """
    labels, logits = _pair(labels, logits)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return _mean_per_example(losses)


def mean_squared_error(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `(labels - predictions) ** 2` of each example.

    Args:
        labels: `[batch, d1, ..., dn]`.
        predictions: floating, of the same shape.

    Returns:
        `[batch]`; float32 for float16 and bfloat16 predictions.

    Raises:
        ValueError: shapes that differ.

    Source: `tf.compat.v1.losses.mean_squared_error`.
    """
    labels, predictions = _pair(labels, predictions)
    return _mean_per_example(tf.math.squared_difference(predictions, labels))


def mean_absolute_error(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `|labels - predictions|` of each example.

    Args:
        labels: `[batch, d1, ..., dn]`.
        predictions: floating, of the same shape.

    Returns:
        `[batch]`; float32 for float16 and bfloat16 predictions.

    Raises:
        ValueError: shapes that differ.

    Source: `tf.compat.v1.losses.absolute_difference`.
    """
    labels, predictions = _pair(labels, predictions)
    return _mean_per_example(tf.abs(predictions - labels))


def huber(labels: tf.Tensor, predictions: tf.Tensor, delta: float = 1.0) -> tf.Tensor:
    """Returns the mean Huber loss of each example.

    It is `e ** 2 / 2` where `|e| <= delta`, else `delta * |e| - delta ** 2 / 2`.

    Args:
        labels: `[batch, d1, ..., dn]`.
        predictions: floating, of the same shape.
        delta: where the square becomes a line, in the predictions' unit.

    Returns:
        `[batch]`; float32 for float16 and bfloat16 predictions.

    Raises:
        ValueError: shapes that differ, or `delta` isn't a finite number above 0.

    Source: `tf.compat.v1.losses.huber_loss`.
    """
    if not (math.isfinite(delta) and delta > 0):
        raise ValueError(
            f"delta must be a finite float > 0, got {delta!r}: write for example 1.0"
        )
    labels, predictions = _pair(labels, predictions)
    error = tf.abs(predictions - labels)
    quadratic = tf.minimum(error, delta)
    return _mean_per_example(quadratic**2 / 2 + delta * (error - quadratic))


def hinge(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `max(0, 1 - (2 * labels - 1) * logits)` of each example.

    Args:
        labels: 0 or 1, `[batch, d1, ..., dn]`.
        logits: floating, of the same shape.

    Returns:
        `[batch]`; float32 for float16 and bfloat16 logits.

    Raises:
        ValueError: shapes that differ.

    Source: `tf.compat.v1.losses.hinge_loss`.
    """
    labels, logits = _pair(labels, logits)
    return _mean_per_example(tf.nn.relu(1 - (2 * labels - 1) * logits))


def get_regularization_losses(scope: str | None = None) -> list[tf.Tensor]:
    """Returns every regularization loss, evaluated now: terms, then this step's own.

    Args:
        scope: regular expression that a name must match at its beginning.

    Source: `tf.compat.v1.losses.get_regularization_losses`.
    """
    return [p.value for p in store.get_default_store().get_penalties(scope)]


@scopes.do_not_convert
def get_regularization_loss(scope: str | None = None) -> tf.Tensor:
    """Returns the sum of the regularization losses, 0.0 where there are none.

    In eager code outside any step and tape, for a log, it is of the weights alone.

    Args:
        scope: regular expression that a name must match at its beginning.

    Raises:
        ValueError: in a step or under a tape, a penalty was computed that can't be
            counted, as for `total_loss`.

    Source: `tf.compat.v1.losses.get_regularization_loss`.
    """
    current = store.get_default_store()
    trains = scopes.get_record() is not None or _tensorflow.is_recording()
    read = current.sum_penalties if trains else current.get_penalties
    losses = [_widen(penalty.value) for penalty in read(scope)]
    if not losses:
        return tf.constant(0.0)
    return tf.add_n([tf.cast(loss, losses[0].dtype) for loss in losses])


@scopes.do_not_convert
def total_loss(
    data_loss: tf.Tensor,
    model: Any = None,
    weights: tf.Tensor | None = None,
    num_examples: int | tf.Tensor | None = None,
    global_batch_size: int | tf.Tensor | None = None,
    microbatches: int = 1,
    scope: str | None = None,
) -> tf.Tensor:
    """Returns the mean loss of the data plus the penalties of a model.

    They are the terms of its variables, and what its layers and its methods added in
    this step, each once; nothing of another model counts. In a replica it is that
    replica's share: the shares of all replicas add up to the total of one device that
    holds the whole global batch, and so do their gradients.

    Args:
        data_loss: floating losses `[batch, d1, ..., dn]`, of which the mean is taken;
            or a scalar, the mean over this replica's. Across replicas also what
            `strategy.run` returned of either.
        model: whose penalties; a tf.Module, a Keras or Sonnet model, any object with
            `variables`, or a list of these. None, as in TF1: all that the default store
            holds. Of what was added outside of this function, that form sees only what
            the functions that it calls have added.
        weights: `[batch]`, one per example; the mean is over those whose weight isn't
            0, as `SUM_BY_NONZERO_WEIGHTS` of TF1.
        num_examples: over how many a scalar is the mean, where replicas' differ.
        global_batch_size: number of examples of all replicas and microbatches
            together, where it is known; without it the replicas add theirs up.
        microbatches: how many calls make up one update. Pass `global_batch_size` where
            their sizes differ; their numbers of nonzero `weights` must not.
        scope: regular expression that a penalty's name must match at its beginning;
            for parts of a model that are trained separately.

    Returns:
        A scalar of the dtype of `data_loss`, float32 for float16 and bfloat16; without
        any example the penalties alone.

    Raises:
        ValueError: a penalty was computed where it can't be counted, or would be
            counted twice; a layer with an activity regularizer wasn't called in this
            step; or arguments that contradict each other.
        TypeError: the model is a function, or something else without variables.

    Source: `tf.compat.v1.losses.get_total_loss`, with the data loss given.
    """
    parts = split_total(
        data_loss,
        model,
        weights,
        num_examples,
        global_batch_size,
        microbatches,
        scope,
    )
    return mark_share(tf.add_n([parts.data, *parts.penalties.values()]))


class Parts(NamedTuple):
    """What `total_loss` adds up, each a replica's share; scalars."""

    data: tf.Tensor
    penalties: dict[str, tf.Tensor]
    num_examples: tf.Tensor  # Of all replicas and microbatches.
    fresh: tf.Tensor  # The total without the terms, whose gradient needs no example.


@scopes.do_not_convert
def split_total(
    data_loss: tf.Tensor,
    model: Any = None,
    weights: tf.Tensor | None = None,
    num_examples: int | tf.Tensor | None = None,
    global_batch_size: int | tf.Tensor | None = None,
    microbatches: int = 1,
    scope: str | None = None,
) -> Parts:
    """Returns what `total_loss` adds up. Args, Raises: as for `total_loss`."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    total, count, rows = _sum_up_here(data_loss, weights, num_examples)
    all_count, all_rows = count * microbatches, rows * microbatches
    if replicas > 1 and (global_batch_size is None or weights is not None):
        counts = tf.stack([all_count, all_rows])
        all_count, all_rows = tf.unstack(context.all_reduce("SUM", counts))
    if global_batch_size is not None:
        if num_examples is None and tf.convert_to_tensor(data_loss).shape.rank == 0:
            raise ValueError(
                "num_examples must be given for a scalar data_loss where "
                f"global_batch_size is, got None with {global_batch_size!r}: pass both"
            )
        all_rows = tf.cast(global_batch_size, total.dtype)
        all_count = all_count if weights is not None else all_rows
    share = tf.math.divide_no_nan(rows, all_rows)
    data = tf.math.divide_no_nan(total, all_count)
    penalties: dict[str, tf.Tensor] = {}
    fresh = [data]
    for penalty in _sum_penalties(model, scope):
        value = tf.cast(penalty.value, data.dtype)
        if penalty.per_example:  # Of no example it may be NaN.
            part = tf.math.multiply_no_nan(value, share)
        else:
            part = value / (replicas * microbatches)
        # A layer called twice in the step adds twice under its name.
        penalties[penalty.name] = penalties.get(penalty.name, 0.0) + part
        if not penalty.is_term:
            fresh.append(part)
    return Parts(data, penalties, all_rows, tf.add_n(fresh))


def _sum_penalties(model: Any, scope: str | None) -> list[terms.Penalty]:
    if model is None:
        return store.get_default_store().sum_penalties(scope)
    return ownership.sum_penalties(ownership.Model(model), scope)


def mark_share(total: tf.Tensor) -> tf.Tensor:
    """Marks a total as a replica's share, to which the others' are to be added."""
    total._tfreg_is_share = True
    return total


def _sum_up_here(
    data_loss: Any, weights: Any, num_examples: Any
) -> Sequence[tf.Tensor]:
    """Returns what `_sum_up` does; across replicas of all of them together."""
    in_replica = tf.distribute.get_replica_context() is not None
    if in_replica or not isinstance(data_loss, tf.distribute.DistributedValues):
        return _sum_up(data_loss, weights, num_examples)
    strategy = tf.distribute.get_strategy()
    each = strategy.run(_sum_up, (data_loss, weights, num_examples))
    return [strategy.reduce("SUM", value, axis=None) for value in each]


def _sum_up(
    data_loss: tf.Tensor, weights: tf.Tensor | None, num_examples: Any
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the sum of the losses, over how many, and the number of examples."""
    data_loss = _widen(data_loss)
    if data_loss.shape.rank == 0:
        if weights is not None:
            raise ValueError(
                "data_loss must be per example where there are weights, got a scalar: "
                "pass the losses [batch] before their mean is taken"
            )
        number = tf.cast(1 if num_examples is None else num_examples, data_loss.dtype)
        # The mean over no example is NaN, and counts nothing.
        return tf.math.multiply_no_nan(data_loss, number), number, number
    if num_examples is not None:
        raise ValueError(
            "num_examples must be left out for losses per example, got "
            f"{num_examples!r}: it belongs to a scalar mean"
        )
    per_example = _mean_per_example(data_loss)
    rows = tf.cast(tf.shape(per_example)[0], per_example.dtype)
    if weights is None:
        return tf.reduce_sum(per_example), rows, rows
    weights = _widen(weights, per_example.dtype)
    if not weights.shape.is_compatible_with(per_example.shape):
        raise ValueError(
            f"weights must have shape {per_example.shape}, got {weights.shape}: "
            "pass one weight per example"
        )
    weights = tf.reshape(weights, tf.shape(per_example))
    count = tf.math.count_nonzero(weights, dtype=per_example.dtype)
    return tf.reduce_sum(per_example * weights), count, rows
