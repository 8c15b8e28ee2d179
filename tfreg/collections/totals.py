"""The total loss of a step: the mean data loss and every collected penalty, once each.

    parts = totals.split_total(data_loss, model)
    parts.data, parts.penalties  # this replica's shares, scalars

The traps: a penalty added N times on N replicas, and a mean of means over batches of
different sizes. `total_loss` reduces losses per example, and divides by the size of the
global batch.
"""

import numbers
from typing import Any, NamedTuple

import tensorflow as tf

from tfreg.collections import ownership, scopes, store, terms


class Parts(NamedTuple):
    """The summands of `total_loss`, scalars; each is this replica's share."""

    data: tf.Tensor
    penalties: dict[str, tf.Tensor]
    num_examples: tf.Tensor  # On all replicas and in all microbatches.
    count: tf.Tensor  # The number of losses that `data` averages over, likewise.
    without_terms: tf.Tensor  # The part of the total that depends on the examples.


class _Sums(NamedTuple):
    """The sum and the number of this replica's losses, and its number of examples."""

    total: tf.Tensor
    count: tf.Tensor
    examples: tf.Tensor


@scopes.do_not_convert
def widen(tensor: Any, dtype: tf.DType | None = None) -> tf.Tensor:
    """Casts a tensor to a dtype of at least float32.

    Args:
        tensor: real numbers, of any shape.
        dtype: the dtype to return; None keeps float32 and float64, and returns float32
            for any other.

    Raises:
        TypeError: the values aren't real numbers.
        ValueError: the values are per replica, outside the strategy's scope.
    """
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


def average_each(losses: tf.Tensor | tf.RaggedTensor, ndim: int = 1) -> tf.Tensor:
    """Returns the mean losses of the first `ndim` dimensions, by default `[batch]`.

    Args:
        losses: `[batch, d1, ..., dn]`; or ragged, for which `ndim` is 1.
        ndim: number of dimensions to keep.

    Returns:
        The means over the other dimensions, 0 for a row without values.
    """
    if isinstance(losses, tf.RaggedTensor):
        losses = _merge_rows(losses)
        sums = tf.reduce_sum(losses, 1)
        lengths = tf.cast(losses.row_lengths(), sums.dtype)
        lengths = tf.reshape(lengths, [-1, *[1] * (sums.shape.rank - 1)])
        return average_each(tf.math.divide_no_nan(sums, lengths))
    rank = losses.shape.rank
    axes = tf.range(ndim, tf.rank(losses)) if rank is None else list(range(ndim, rank))
    return tf.reduce_mean(losses, axes)


def count_nonzero(weights: Any) -> tf.Tensor:
    """Returns the number of weights other than 0, the `global_count` of one replica.

    Args:
        weights: of any shape, or ragged.

    Returns:
        A float32 or float64 scalar.
    """
    if isinstance(weights, tf.RaggedTensor):
        weights = weights.flat_values
    weights = widen(weights)
    return tf.math.count_nonzero(weights, dtype=weights.dtype)


def take_share(data_loss: Any, weights: Any, count: tf.Tensor) -> tf.Tensor:
    """Returns this replica's share of the mean of one of several losses.

    Args:
        data_loss: `[batch, d1, ..., dn]`, or ragged; averaged for each example, or for
            each of the weights.
        weights: as for `total_loss`.
        count: of the `Parts` of the sum of the losses.
    """
    if isinstance(data_loss, tf.RaggedTensor):
        data_loss = average_each(tf.ragged.map_flat_values(widen, data_loss))
    total = _sum_up(data_loss, weights, None).total
    return tf.math.divide_no_nan(total, tf.cast(count, total.dtype))


@scopes.do_not_convert
def total_loss(
    data_loss: tf.Tensor,
    model: Any = None,
    weights: tf.Tensor | None = None,
    num_examples: int | tf.Tensor | None = None,
    global_batch_size: int | tf.Tensor | None = None,
    microbatches: int = 1,
    scope: str | None = None,
    global_count: int | tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the mean data loss plus the penalties of a model.

    The penalties are the terms of the model's variables, and the losses that its layers
    and methods added in this step, each once. Penalties of other models don't count. In
    a replica the result is that replica's share: the shares of all replicas, and their
    gradients, sum to those of one device with the full global batch.

    Args:
        data_loss: floating losses `[batch, d1, ..., dn]`, which are averaged; a
            RaggedTensor `[batch, (d1), ...]`, whose values are averaged; or a scalar,
            the mean over this replica's examples. Across replicas, also the result of
            `strategy.run` with any of these.
        model: the owner of the penalties: a tf.Module, a Keras or Sonnet model, any
            object with `variables`, or a list of these. None counts all penalties in
            the default store, as in TF1; of losses added in other functions, it counts
            only those of the functions called in this one.
        weights: `[batch]`, one per example; `[batch, d1, ..., dk]`, one per mean over
            the remaining dimensions; or ragged, with the rows of ragged losses. The
            mean is over all losses of nonzero weight, like `SUM_BY_NONZERO_WEIGHTS` of
            TF1. An infinite loss of weight 0 counts as 0.
        num_examples: number of examples averaged in a scalar `data_loss`; required on
            several replicas.
        global_batch_size: number of examples on all replicas and in all microbatches;
            None sums the replicas' numbers of examples.
        microbatches: number of calls per update. If their sizes differ, pass
            `global_batch_size`, and `global_count` with `weights` or ragged losses.
        scope: regular expression, matched at the beginning of each penalty's name; for
            parts of a model that are trained separately.
        global_count: number of nonzero `weights`, or of values of ragged losses, on all
            replicas and in all microbatches; None sums the replicas' numbers.

    Returns:
        A scalar of the dtype of `data_loss`, float32 for float16 and bfloat16; the
        penalties alone if there are no examples.

    Raises:
        ValueError: a penalty can't be counted, or would be counted twice; a layer with
            an activity regularizer wasn't called in this step; `data_loss` is a scalar
            on several replicas without `num_examples`; arguments are out of range or
            contradict each other.
        TypeError: `model` is a function, or another object without variables.

    Source: `tf.compat.v1.losses.get_total_loss`, with the data loss as an argument.
    """
    parts = split_total(
        data_loss,
        model,
        weights,
        num_examples,
        global_batch_size,
        microbatches,
        scope,
        global_count,
    )
    return mark_share(tf.add_n([parts.data, *parts.penalties.values()]))


@scopes.do_not_convert
def split_total(
    data_loss: tf.Tensor,
    model: Any = None,
    weights: tf.Tensor | None = None,
    num_examples: int | tf.Tensor | None = None,
    global_batch_size: int | tf.Tensor | None = None,
    microbatches: int = 1,
    scope: str | None = None,
    global_count: int | tf.Tensor | None = None,
) -> Parts:
    """Returns the summands of `total_loss`.

    Args:
        data_loss: as for `total_loss`.
        model: as for `total_loss`, or an `ownership.Model`.
        weights: as for `total_loss`.
        num_examples: as for `total_loss`.
        global_batch_size: as for `total_loss`.
        microbatches: as for `total_loss`.
        scope: as for `total_loss`.
        global_count: as for `total_loss`.

    Raises:
        ValueError: as for `total_loss`.
        TypeError: as for `total_loss`.
    """
    scopes.check_strategy()
    _check_positive("microbatches", microbatches)
    if global_batch_size is not None:
        _check_positive("global_batch_size", global_batch_size)
    sums = _sum_up_replicas(data_loss, weights, num_examples)
    if global_batch_size is not None and num_examples is None and _is_scalar(data_loss):
        raise ValueError(
            "num_examples must be given for a scalar data_loss where "
            f"global_batch_size is, got None with {global_batch_size!r}: pass both"
        )
    count, examples = _count_all(sums, global_batch_size, microbatches, global_count)
    share = tf.math.divide_no_nan(sums.examples, examples)
    data = tf.math.divide_no_nan(sums.total, count)
    replicas = scopes.count_replicas()
    penalties: dict[str, tf.Tensor] = {}
    without_terms = [data]
    for penalty in _sum_penalties(model, scope):
        value = tf.cast(penalty.value, data.dtype)
        if penalty.per_example:  # It may be NaN without examples.
            part = tf.math.multiply_no_nan(value, share)
        else:
            part = value / (replicas * microbatches)
        # A layer called twice in a step has two penalties of the same name.
        penalties[penalty.name] = penalties.get(penalty.name, 0.0) + part
        if not penalty.is_term:
            without_terms.append(part)
    return Parts(data, penalties, examples, count, tf.add_n(without_terms))


def _sum_penalties(model: Any, scope: str | None) -> list[terms.Penalty]:
    if model is None:
        return store.get_default_store().sum_penalties(scope)
    if not isinstance(model, ownership.Model):
        model = ownership.Model(model)
    return ownership.sum_penalties(model, scope)


def mark_share(total: tf.Tensor) -> tf.Tensor:
    """Marks a total as a replica's share, to be summed over replicas."""
    total._tfreg_is_share = True
    return total


def _check_positive(name: str, value: Any) -> None:
    known = tf.get_static_value(value) if tf.is_tensor(value) else value
    if known is None:
        return
    is_int = isinstance(known, numbers.Integral) and not isinstance(known, bool)
    if not (is_int or getattr(known, "ndim", None) == 0) or not known >= 1 or known % 1:
        raise ValueError(
            f"{name} must be an integer >= 1, got {value!r}: count "
            + ("the examples of all replicas" if "batch_size" in name else "the calls")
        )


def _is_scalar(data_loss: Any) -> bool:
    if isinstance(data_loss, tf.RaggedTensor | tf.distribute.DistributedValues):
        return False
    return tf.convert_to_tensor(data_loss).shape.rank == 0


def _count_all(
    sums: _Sums, global_batch_size: Any, microbatches: int, global_count: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the numbers of losses and examples, of all replicas and microbatches."""
    if sums.count is sums.examples:  # Each example has one loss.
        global_count = global_batch_size
    count, examples = sums.count * microbatches, sums.examples * microbatches
    is_known = global_batch_size is not None and global_count is not None
    if scopes.count_replicas() > 1 and not is_known:
        count, examples = _add_over_replicas(count, examples)
    if global_batch_size is not None:
        examples = tf.cast(global_batch_size, sums.total.dtype)
    if global_count is not None:
        count = tf.cast(global_count, sums.total.dtype)
    return count, examples


def _add_over_replicas(*values: tf.Tensor) -> list[tf.Tensor]:
    context = tf.distribute.get_replica_context()
    try:
        return tf.unstack(context.all_reduce("SUM", tf.stack(values)))
    except RuntimeError as error:
        if "merge_call" not in str(error):
            raise
        raise ValueError(
            "global_batch_size must be given in a tf.function, branch or loop inside "
            "of a replica, where replicas can't add their examples up, got None: pass "
            "the number of examples of all replicas"
        ) from None


def _sum_up_replicas(data_loss: Any, weights: Any, num_examples: Any) -> _Sums:
    """Returns the sums of `_sum_up`; across replicas, over all replicas."""
    in_replica = tf.distribute.get_replica_context() is not None
    if in_replica or not isinstance(data_loss, tf.distribute.DistributedValues):
        return _sum_up(data_loss, weights, num_examples)
    strategy = tf.distribute.get_strategy()
    each = strategy.run(_sum_up, (data_loss, weights, num_examples))
    return _Sums(*(strategy.reduce("SUM", value, axis=None) for value in each))


def _sum_up(data_loss: Any, weights: Any, num_examples: Any) -> _Sums:
    if isinstance(data_loss, tf.RaggedTensor):
        return _sum_up_ragged(data_loss, weights)
    data_loss = widen(data_loss)
    if data_loss.shape.rank == 0:
        return _sum_up_scalar(data_loss, weights, num_examples)
    if num_examples is not None:
        raise ValueError(
            "num_examples must be left out for losses per example, got "
            f"{num_examples!r}: it belongs to a scalar mean"
        )
    examples = tf.cast(tf.shape(data_loss)[0], data_loss.dtype)
    if weights is None:
        return _Sums(tf.reduce_sum(average_each(data_loss)), examples, examples)
    if isinstance(weights, tf.RaggedTensor):
        raise _refuse_weights(data_loss.shape, weights)
    weights = widen(weights, data_loss.dtype)
    averages = average_each(data_loss, max(1, weights.shape.rank or 1))
    if not weights.shape.is_compatible_with(averages.shape):
        raise _refuse_weights(averages.shape, weights)
    # An unknown size could broadcast without an error.
    weights = tf.reshape(weights, tf.shape(averages))
    return _weigh(averages, weights, examples)


def _refuse_weights(shape: tf.TensorShape, weights: Any) -> ValueError:
    return ValueError(
        f"weights must have shape {shape}, got {weights.shape}: pass one weight per "
        "example, or one per loss"
    )


def _weigh(losses: tf.Tensor, weights: tf.Tensor, examples: tf.Tensor) -> _Sums:
    count = tf.math.count_nonzero(weights, dtype=losses.dtype)
    total = tf.reduce_sum(tf.math.multiply_no_nan(losses, weights))
    return _Sums(total, count, examples)


def _sum_up_ragged(data_loss: tf.RaggedTensor, weights: Any) -> _Sums:
    values = widen(data_loss.flat_values)
    examples = tf.cast(data_loss.nrows(), values.dtype)
    if weights is None:
        count = tf.cast(tf.size(values), values.dtype)
        return _Sums(tf.reduce_sum(values), count, examples)
    if isinstance(weights, tf.RaggedTensor):
        if weights.ragged_rank != data_loss.ragged_rank:
            raise _refuse_weights(data_loss.shape, weights)
        return _sum_up(values, weights.flat_values, None)._replace(examples=examples)
    weights = widen(weights, values.dtype)
    if not weights.shape.is_compatible_with([data_loss.shape[0]]):
        raise _refuse_weights(data_loss.shape[:1], weights)
    rows = tf.gather(weights, _merge_rows(data_loss).value_rowids())
    return _weigh(average_each(values), rows, examples)


def _merge_rows(ragged: tf.RaggedTensor) -> tf.RaggedTensor:
    """Returns the values of each example in one row."""
    while ragged.ragged_rank > 1:
        ragged = ragged.merge_dims(1, 2)
    return ragged


def _sum_up_scalar(data_loss: tf.Tensor, weights: Any, num_examples: Any) -> _Sums:
    if weights is not None:
        raise ValueError(
            "data_loss must be per example where there are weights, got a scalar: "
            "pass the losses [batch] before their mean is taken"
        )
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if num_examples is None and replicas > 1:
        raise ValueError(
            f"data_loss must be per example on {replicas} replicas, got a scalar, "
            "which Keras's losses and tf.nn.compute_average_loss divide in different "
            "ways: pass the losses [batch], of a Keras loss by its call(), or "
            "num_examples with the mean over this replica's"
        )
    number = tf.cast(1 if num_examples is None else num_examples, data_loss.dtype)
    # The mean over no examples is NaN; it counts as 0.
    return _Sums(tf.math.multiply_no_nan(data_loss, number), number, number)
