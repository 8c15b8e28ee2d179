"""Batch normalization with the statistics of the global batch.

    norm = tfreg.layers.normalization.BatchNorm()
    y = norm(x, training=True)  # on N replicas as on one device

The trap: replicas that normalize by their own examples, so that training depends on
the number of replicas.
"""

import functools

import tensorflow as tf

from tfreg import _checks, _tensorflow
from tfreg.collections import scopes
from tfreg.layers import base, initializers

Regularizer = base.Regularizer


def _subtract(variable: tf.Variable, change: tf.Tensor) -> None:
    if tf.distribute.in_cross_replica_context():
        variable.assign_sub(change)
        return
    # Through the handle: every replica applies the same update to its own copy.
    handle = _tensorflow.get_handle(variable)
    tf.raw_ops.AssignSubVariableOp(resource=handle, value=change)


class BatchNorm(base.Layer):
    """Normalizes each channel by the batch in training, by moving averages otherwise.

    With `trainable = False` it always uses the moving averages and doesn't update them.

    Args:
        momentum: fraction of the old moving average that each step keeps, in [0, 1).
        epsilon: added to the variance, in [0, 1).
        synchronized: whether replicas normalize by the global batch. If not, each
            normalizes by its own examples, and the first replica's averages are kept.
        gamma_regularizer: callable, scale `[channels]` -> scalar.
        beta_regularizer: callable, offset `[channels]` -> scalar.
        name: first part of the variables' names.

    Raises:
        ValueError: `momentum` or `epsilon` is out of range.
        TypeError: a regularizer isn't callable.

    Source: Ioffe and Szegedy 2015; `keras.layers.BatchNormalization`, whose
        `synchronized` is False by default.
    """

    parameters = {"gamma": "gamma", "beta": "beta"}
    has_activity = False
    gamma_regularizer = base.regularizer_property("gamma")
    beta_regularizer = base.regularizer_property("beta")

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        synchronized: bool = True,
        gamma_regularizer: Regularizer | None = None,
        beta_regularizer: Regularizer | None = None,
        name: str | None = None,
    ) -> None:
        regularizers = {"gamma": gamma_regularizer, "beta": beta_regularizer}
        super().__init__(name, regularizers=regularizers)
        self.momentum = _checks.check_fraction("momentum", momentum)
        self.epsilon = _checks.check_fraction("epsilon", epsilon)
        # Read by the step, because XLA can't compile a sum over replicas.
        self.sums_over_replicas = synchronized

    @scopes.do_not_convert
    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns normalized inputs `[batch, ..., channels]`."""
        inputs = self.check_inputs(inputs, min_rank=2)
        shape = [inputs.shape[-1]]
        zeros, ones = initializers.zeros, initializers.ones
        dtype = inputs.dtype
        gamma = self.get_variable("gamma", shape, ones, dtype=dtype)
        beta = self.get_variable("beta", shape, zeros, dtype=dtype)
        moving_mean = self.get_variable("moving_mean", shape, zeros, False, dtype)
        moving_variance = self.get_variable(
            "moving_variance", shape, ones, False, dtype
        )
        mean, variance = tf.identity(moving_mean), tf.identity(moving_variance)
        # Moments in half precision would lose small variances.
        wide = tf.cast(inputs, gamma.dtype)
        if training and self.trainable:
            old = mean, variance
            mean, variance = self._compute_moments(wide, mean, variance)
            for moving, before, now in zip(
                (moving_mean, moving_variance), old, (mean, variance), strict=True
            ):
                _subtract(moving, (1 - self.momentum) * (before - now))
        outputs = tf.nn.batch_normalization(
            wide, mean, variance, beta, gamma, self.epsilon
        )
        return tf.cast(outputs, inputs.dtype)

    def _compute_moments(
        self, inputs: tf.Tensor, old_mean: tf.Tensor, old_variance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean and variance of each channel, over all replicas' examples.

        Without examples it returns the old ones, so that the moving averages don't
        change.
        """
        old = tf.stop_gradient(old_mean), tf.stop_gradient(old_variance)
        moments = tf.nn.moments(inputs, list(range(inputs.shape.rank - 1)))
        has_examples = tf.size(inputs) > 0
        mean, variance = map(functools.partial(tf.where, has_examples), moments, old)
        context = tf.distribute.get_replica_context()
        alone = context is None or context.num_replicas_in_sync == 1
        if alone or not self.sums_over_replicas:
            return mean, variance
        # One row per replica, because differences of sums of squares would cancel.
        count = tf.cast(tf.size(inputs) / tf.size(mean), mean.dtype)
        own_row = tf.concat([[count], mean, variance], 0)
        replica, depth = context.replica_id_in_sync_group, context.num_replicas_in_sync
        rows = tf.one_hot(replica, depth, dtype=mean.dtype)[:, tf.newaxis] * own_row
        rows = context.all_reduce(tf.distribute.ReduceOp.SUM, rows)
        counts, means, variances = tf.split(rows, [1, mean.shape[0], mean.shape[0]], 1)
        total = tf.reduce_sum(counts)
        shares = tf.math.divide_no_nan(counts, total)
        mean = tf.reduce_sum(shares * means, 0)
        variance = tf.reduce_sum(shares * (variances + (means - mean) ** 2), 0)
        moments = mean, variance
        return tuple(map(functools.partial(tf.where, total > 0), moments, old))
