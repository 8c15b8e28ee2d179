"""Accuracy, mean absolute error and R2, as sums over the examples.

    right = scores.compare(y, logits, k=2)  # in the two largest
    scores.divide(*scores.add_up(right.values, right.mask))  # top 2 accuracy
    scores.solve_r2(*scores.add_squares(logits, logits))  # 1.0

The trap: targets whose shape happens to fit another kind of outputs, and an accuracy of
what nobody classifies. Where dtype and shape don't say what the targets are, and no
loss does, there is none.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfreg.collections import scopes

# Each output costs a step four sums.
_MOST_OUTPUTS = 1000


class Comparison(NamedTuple):
    """Which positions are right.

    Attributes:
        values: float64 `[batch, d1, ..., dn]`, 1.0 where the prediction is right.
        mask: float64 of the same shape, 0.0 at positions that don't count; None: all
            count.
    """

    values: tf.Tensor
    mask: tf.Tensor | None = None


@scopes.do_not_convert
def measure_accuracy(
    y: Any, outputs: Any, targets: str | None = None, threshold: float = 0.0
) -> tf.Tensor | None:
    """Returns the accuracy of each example, `[batch]`.

    Args:
        y: as for `compare`.
        outputs: as for `compare`.
        targets: as for `compare`.
        threshold: as for `compare`.

    Returns:
        A float64, in which an example counts by its fraction of right positions, or
        None where the shapes say that there is no accuracy.
    """
    right = compare(y, outputs, targets, threshold)
    return None if right is None else average(right.values, right.mask)


@scopes.do_not_convert
def compare(
    y: Any,
    outputs: Any,
    targets: str | None = None,
    threshold: float = 0.0,
    k: int = 1,
) -> Comparison | None:
    """Returns which predictions are right.

    Args:
        y: targets: integer classes `[batch, d1, ..., dn]`, or with a last dimension of
            1; one-hot `[batch, ..., classes]`; or 0 and 1 in the shape of the outputs.
        outputs: logits or probabilities `[batch, d1, ..., dn, classes]`, or one for
            each of the targets.
        targets: what y are, `classes`, `one-hot`, `binary` or `numbers`; None: what
            their dtype and shape say.
        threshold: of one output, above which it says 1; 0 for a logit.
        k: number of the largest outputs that the right class may be among.

    Returns:
        The positions, of which a class below 0 masks one. NaN where what may be one-hot
        isn't; None where the shapes say that there is no accuracy.
    """
    y, outputs = _convert(y), _convert(outputs)
    known = tf.is_tensor(y) and tf.is_tensor(outputs) and targets != "numbers"
    if not known or None in (y.shape.rank, outputs.shape.rank) or not y.shape.rank:
        return None
    whole = y.dtype.is_integer or y.dtype.is_bool
    y, outputs = squeeze(y), squeeze(outputs)
    if outputs.shape.rank == y.shape.rank and fit(y.shape, outputs.shape):
        if targets == "binary" or (
            targets != "one-hot" and whole and y.shape.rank == 1
        ):
            right = (outputs > threshold) == (tf.cast(y, outputs.dtype) > 0.5)
            return Comparison(tf.cast(right, tf.float64)) if k == 1 else None
        if targets == "one-hot" or (targets is None and y.shape.rank == 2):
            return _compare_one_hot(tf.cast(y, outputs.dtype), outputs, k)
        return None
    if outputs.shape.rank != y.shape.rank + 1 or not fit(y.shape, outputs.shape[:-1]):
        return None
    if not whole or targets == "binary":
        return None
    y = tf.cast(y, tf.int32)
    mask = tf.cast(y >= 0, tf.float64) if y.shape.rank > 1 else None
    return Comparison(_is_among(y, outputs, k), mask)


def _convert(values: Any) -> Any:
    return tf.convert_to_tensor(values) if isinstance(values, np.ndarray) else values


def squeeze(tensor: tf.Tensor) -> tf.Tensor:
    """Returns a tensor without a last dimension of 1, which says nothing."""
    is_column = tensor.shape.rank > 1 and tensor.shape[-1] == 1
    return tf.squeeze(tensor, -1) if is_column else tensor


def fit(shape: tf.TensorShape, other: tf.TensorShape) -> bool:
    """Tells whether shapes are equal, but for the batch for certain."""
    return shape.is_compatible_with(other) and (
        shape[1:].is_fully_defined() and other[1:].is_fully_defined()
    )


def average(
    values: tf.Tensor, mask: tf.Tensor | None = None, ndim: int = 1
) -> tf.Tensor:
    """Returns the means over the dimensions after the first `ndim`, by the mask."""
    axes = list(range(ndim, values.shape.rank))
    if mask is None or not axes:
        return tf.reduce_mean(values, axes)
    total = tf.reduce_sum(values * mask, axes)
    return tf.math.divide_no_nan(total, tf.reduce_sum(mask, axes))


def add_up(
    values: tf.Tensor, mask: tf.Tensor | None = None, weights: Any = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sum of the examples' means and the number of examples.

    Args:
        values: float64 `[batch, d1, ..., dn]`.
        mask: of the same shape, 0.0 at positions that don't count, or None.
        weights: None; `[batch]`, one per example, whose mean counts so often; or
            `[batch, d1, ..., dk]`, one per position. A value of weight 0 isn't read.

    Returns:
        Two float64 scalars, whose quotient is the mean.
    """
    if weights is None:
        count = tf.cast(tf.shape(values)[0], tf.float64)
        return tf.reduce_sum(average(values, mask)), count
    weights = _match_rank(weights, values.shape.rank)
    ndim = weights.shape.rank
    if mask is not None and ndim == values.shape.rank:
        weights *= mask
    values = average(values, mask, ndim)
    total = tf.reduce_sum(tf.math.multiply_no_nan(values, weights))
    return total, tf.reduce_sum(weights)


def _match_rank(weights: Any, rank: int) -> tf.Tensor:
    """Returns float64 weights without the last dimensions of 1 that are too many."""
    weights = tf.cast(weights, tf.float64)
    while weights.shape.rank > rank and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    return weights


def _is_among(classes: tf.Tensor, outputs: tf.Tensor, k: int) -> tf.Tensor:
    """Returns 1.0 where fewer than k outputs are larger than that of the class."""
    if k == 1:
        right = tf.argmax(outputs, -1, output_type=tf.int32) == classes
        return tf.cast(right, tf.float64)
    last = outputs.shape[-1] - 1
    index = tf.clip_by_value(classes, 0, last)[..., tf.newaxis]
    chosen = tf.gather(outputs, index, axis=-1, batch_dims=classes.shape.rank)
    rank = tf.math.count_nonzero(outputs > chosen, -1)
    right = (rank < k) & (classes >= 0) & (classes <= last)
    return tf.cast(right & tf.math.is_finite(chosen[..., 0]), tf.float64)


def _compare_one_hot(y: tf.Tensor, outputs: tf.Tensor, k: int) -> Comparison:
    right = _is_among(tf.argmax(y, -1, output_type=tf.int32), outputs, k)
    is_one_hot = tf.reduce_all((y == 0) | (y == 1)) & tf.reduce_all(
        tf.reduce_sum(y, -1) == 1
    )
    undefined = tf.constant(math.nan, tf.float64)
    return Comparison(tf.where(is_one_hot, right, undefined))


@scopes.do_not_convert
def add_absolute_errors(
    y: Any, outputs: Any, weights: Any = None
) -> tuple[tf.Tensor, tf.Tensor] | None:
    """Returns the sum of the examples' mean absolute errors and the number of examples.

    Args:
        y: numbers `[batch, d1, ..., dn]`.
        outputs: likewise.
        weights: as for `add_up`.

    Returns:
        Two float64 scalars, or None where the shapes aren't equal for certain.
    """
    pair = _match_numbers(y, outputs)
    return None if pair is None else add_up(tf.abs(pair[1] - pair[0]), None, weights)


@scopes.do_not_convert
def add_squares(
    y: Any, outputs: Any, weights: Any = None
) -> tuple[tf.Tensor, ...] | None:
    """Returns the sums that R2 is computed from.

    Args:
        y: numbers `[batch, d1, ..., dn]`.
        outputs: likewise.
        weights: as for `add_up`.

    Returns:
        The sums of the weights, of y, of y ** 2 and of the squared errors of each
        output, float64 `[d1 * ... * dn]`; None for more than 1000 outputs, or where the
        shapes aren't equal for certain.
    """
    pair = _match_numbers(y, outputs)
    size = 0 if pair is None else pair[0].shape[1:].num_elements()
    if pair is None or size > _MOST_OUTPUTS:
        return None
    y, outputs = pair
    if weights is None:
        weights = tf.ones_like(y)
    else:
        weights = _match_rank(weights, y.shape.rank)
        missing = [1] * (y.shape.rank - weights.shape.rank)
        weights = tf.reshape(weights, tf.concat([tf.shape(weights), missing], 0))
        weights = tf.broadcast_to(weights, tf.shape(y))
    values = [tf.ones_like(y), y, y**2, (y - outputs) ** 2]
    products = [tf.math.multiply_no_nan(value, weights) for value in values]
    return tuple(tf.reduce_sum(tf.reshape(p, [-1, size]), 0) for p in products)


def _match_numbers(y: Any, outputs: Any) -> tuple[tf.Tensor, tf.Tensor] | None:
    """Returns numbers of one shape, float64, or None where the shapes don't fit."""
    y, outputs = _convert(y), _convert(outputs)
    if not (tf.is_tensor(y) and tf.is_tensor(outputs)):
        return None
    if None in (y.shape.rank, outputs.shape.rank) or not y.shape.rank:
        return None
    y, outputs = squeeze(y), squeeze(outputs)
    if not fit(y.shape, outputs.shape):
        return None
    return tf.cast(y, tf.float64), tf.cast(outputs, tf.float64)


@scopes.do_not_convert
def divide(total: Any, count: Any) -> tf.Tensor:
    """Returns a mean, float64, NaN of nothing."""
    return tf.cast(total, tf.float64) / tf.cast(count, tf.float64)


@scopes.do_not_convert
def solve_r2(count: Any, total: Any, squares: Any, errors: Any) -> tf.Tensor:
    """Returns the mean R2 of the outputs, float64, NaN of nothing.

    Args:
        count: as returned by `add_squares`, likewise the remaining arguments.
        total: sums of y.
        squares: sums of y ** 2.
        errors: sums of the squared errors.

    Source: `sklearn.metrics.r2_score`, also for an output of equal targets: 1.0 if all
    predictions are right, else 0.0.
    """
    sums = [tf.cast(v, tf.float64) for v in (count, total, squares, errors)]
    count, total, squares, errors = sums
    spread = squares - tf.math.divide_no_nan(total**2, count)
    # Equal targets differ by the sums' rounding.
    varies = spread > 1e-13 * squares
    constant = tf.cast(errors == 0, tf.float64)
    scores = tf.where(varies, 1 - tf.math.divide_no_nan(errors, spread), constant)
    defined = tf.cast(count > 0, tf.float64)
    return tf.reduce_sum(scores * defined) / tf.reduce_sum(defined)
