"""A replica's share of a step, and how shares add up to that of the whole batch.

    own = shares.Shares([tf.ones(2)], losses=(), updates={})  # of a microbatch
    shares.add(own, own).gradients  # [2.0, 2.0]

The trap: a mean of means over microbatches or replicas of different sizes. A share is
divided by the size of the whole batch from the start.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from tfreg.collections import scopes, totals
from tfreg.optimizers import gradients
from tfreg.training import batches, reports


class Shares(NamedTuple):
    """A replica's share of a step: the sums over the replicas are those of the batch.

    Attributes:
        gradients: one per trainable variable.
        losses: of the forward pass.
        updates: number of a variable of the model -> its new value, for moving averages
            of Keras layers.
    """

    gradients: list[gradients.Gradient]
    losses: reports.Losses
    updates: dict[int, tf.Tensor]


@scopes.do_not_convert
def add(share: Shares, other: Shares) -> Shares:
    """Returns the sum of the shares of two microbatches."""
    summed = list(map(gradients.add, share.gradients, other.gradients))
    rest = tf.nest.map_structure(tf.add, share[1:], other[1:])
    return Shares(summed, *rest)


@scopes.do_not_convert
def weigh_updates(
    updates: Sequence[tuple[tf.Variable, tf.Tensor]],
    variables: Sequence[tf.Variable],
    batch: batches.Batch,
    parts: totals.Parts,
    microbatches: int,
) -> dict[int, tf.Tensor]:
    """Returns the share of new values, whose sum is their mean over all examples.

    Args:
        updates: variables and their new values, from the examples of the batch.
        variables: all variables of the model.
        batch: of this replica and microbatch.
        parts: of the total loss.
        microbatches: number of microbatches.
    """
    numbers = {id(v): i for i, v in enumerate(variables)}
    if microbatches == 1 and scopes.count_replicas() == 1:
        return {numbers[id(variable)]: value for variable, value in updates}
    share = tf.math.divide_no_nan(
        tf.cast(batches.count_rows(batch.x), tf.float64),
        tf.cast(parts.num_examples, tf.float64),
    )
    # Without examples the statistics are NaN.
    return {
        numbers[id(variable)]: tf.math.multiply_no_nan(
            value, tf.cast(share, value.dtype)
        )
        for variable, value in updates
    }


@scopes.do_not_convert
def measure(
    losses: Mapping[str, tf.Tensor],
    states: reports.States,
    batch: batches.Batch,
    parts: totals.Parts,
    microbatches: int,
) -> reports.Losses:
    """Returns the share of the losses, and of the sums over the examples.

    Args:
        losses: name -> losses of the examples.
        states: of the metrics.
        batch: of this replica and microbatch.
        parts: of the total loss.
        microbatches: number of microbatches.
    """
    data_losses = {}
    if len(losses) > 1:
        data_losses = {
            name: totals.take_share(value, batch.weights, parts.count)
            for name, value in losses.items()
        }
    count, number = parts.count, scopes.count_replicas() * microbatches
    examples = tf.cast(parts.num_examples, count.dtype)
    penalties = parts.penalties
    sums = reports.Sums(
        count / number,
        examples / number,
        parts.data * count,
        {name: value * count for name, value in data_losses.items()},
        states,
        {name: value * examples for name, value in penalties.items()},
    )
    regularization = tf.add_n([tf.zeros_like(parts.data), *penalties.values()])
    return reports.Losses(parts.data, regularization, penalties, data_losses, sums)
