"""Updates of only those rows of a table that a batch looked up.

    kernel = rows.make_kernel(rows.momentum(0.9, nesterov=False))
    tfreg.optimizers.Optimizer(kernel, {"accum": 0.0}, 0.1, sparse=kernel)

The trap: an id that occurs twice. Its gradients are summed first, because the square of
a sum isn't the sum of squares. The sum uses sorting, whose shapes don't depend on the
ids. So eager code, graphs and XLA run the same operations; XLA lacks TensorFlow's
sparse kernels.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

# (lr, g, **slots) of the rows -> the decrement of w, and the new values of the slots.
Formula: TypeAlias = Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]
Kernel: TypeAlias = Callable[..., None]


def add_duplicates(
    slices: tf.IndexedSlices,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the gradient of each row, summed over its duplicates.

    Args:
        slices: `n` rows, possibly with duplicates.

    Returns:
        The sorted indices, `[n]`; for each, the position of its sum, `[n]`; and the
        sums, `[n, ...]`, one for each distinct index, padded with zeros.
    """
    indices = tf.convert_to_tensor(slices.indices)
    order = tf.argsort(indices, stable=True)
    indices = tf.gather(indices, order)
    differs = tf.cast(tf.not_equal(indices[1:], indices[:-1]), tf.int32)
    places = tf.concat([tf.zeros_like(indices[:1], tf.int32), tf.cumsum(differs)], 0)
    values = tf.gather(slices.values, order)
    sums = tf.math.unsorted_segment_sum(values, places, tf.shape(indices)[0])
    return indices, places, sums


def descend(var: tf.Tensor, lr: tf.Tensor, grad: tf.IndexedSlices) -> None:
    """Subtracts `lr * grad` from rows; from a duplicate row, once per occurrence."""
    tf.raw_ops.ResourceScatterSub(
        resource=var, indices=grad.indices, updates=lr * grad.values
    )


def make_kernel(formula: Formula) -> Kernel:
    """Returns a kernel that updates the rows of IndexedSlices through handles."""

    def kernel(
        var: tf.Tensor,
        lr: tf.Tensor,
        grad: tf.IndexedSlices,
        decay: tf.Tensor | None = None,
        **slots: tf.Tensor,
    ) -> None:
        indices, places, sums = add_duplicates(grad)

        def read(handle: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.ResourceGather(
                resource=handle, indices=indices, dtype=sums.dtype
            )

        def write(handle: tf.Tensor, values: tf.Tensor) -> None:
            # A duplicate row is written twice with the same values.
            tf.raw_ops.ResourceScatterUpdate(
                resource=handle, indices=indices, updates=values
            )

        w = read(var)
        if decay is not None:
            w -= decay * w
        before = {slot: read(handle) for slot, handle in slots.items()}
        change, after = formula(lr=lr, g=tf.gather(sums, places), **before)
        for slot, handle in slots.items():
            write(handle, after[slot])
        write(var, w - change)

    return kernel


def momentum(momentum: float, nesterov: bool) -> Formula:
    """Returns `accum = momentum * accum + g`, with the decrement `lr * accum`."""

    def formula(lr, g, accum):
        accum = momentum * accum + g
        return lr * (g + momentum * accum if nesterov else accum), {"accum": accum}

    return formula


def adam(beta_1: float, beta_2: float, epsilon: float) -> Formula:
    """Returns Adam for the rows; `lr` includes the bias correction."""

    def formula(lr, g, m, v):
        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g * g - v)
        return lr * m / (tf.sqrt(v) + epsilon), {"m": m, "v": v}

    return formula


def rmsprop(rho: float, momentum: float, epsilon: float) -> Formula:
    """Returns `mom = momentum * mom + lr * g / sqrt(ms + epsilon)`, the decrement."""

    def formula(lr, g, ms, mom):
        ms += (1 - rho) * (g * g - ms)
        mom = momentum * mom + lr * g * tf.math.rsqrt(ms + epsilon)
        return mom, {"ms": ms, "mom": mom}

    return formula


def adagrad(epsilon: float) -> Formula:
    """Returns `accum += g ** 2`, decrementing by `lr * g / (sqrt(accum) + epsilon)`."""

    def formula(lr, g, accum):
        accum += g * g
        return lr * g / (tf.sqrt(accum) + epsilon), {"accum": accum}

    return formula
