"""Updates of the rows of a table that a batch looked up, and of no other.

    kernel = rows.make_kernel(rows.momentum(0.9, nesterov=False))
    tfreg.optimizers.Optimizer(kernel, {"accum": 0.0}, 0.1, sparse=kernel)

The trap: an id that occurs twice. Its gradients are added first, as the square of a sum
is no sum of squares. It is done by sorting, which has the same shapes for all ids: so
eager code, graphs and XLA, where TensorFlow's own sparse kernels are missing, run the
same operations.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

# (w, lr, g, **slots), of rows each -> the move of w, and what the slots become.
Formula: TypeAlias = Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]
Kernel: TypeAlias = Callable[..., None]


def add_duplicates(
    slices: tf.IndexedSlices,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the gradient of each row, added up over the places where it occurs.

    Args:
        slices: `n` rows, any of them several times.

    Returns:
        The indices in rising order, `[n]`; for each its place in the third; and the
        sums `[n, ...]`, of each row once, then zeros.
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
    """Moves rows by `-lr * grad`; one that occurs twice is moved twice."""
    tf.raw_ops.ResourceScatterSub(
        resource=var, indices=grad.indices, updates=lr * grad.values
    )


def make_kernel(formula: Formula) -> Kernel:
    """Returns a kernel that takes handles and IndexedSlices and updates their rows."""

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
            # To a row that occurs twice the same is written twice.
            tf.raw_ops.ResourceScatterUpdate(
                resource=handle, indices=indices, updates=values
            )

        w = read(var)
        if decay is not None:
            w -= decay * w
        before = {slot: read(handle) for slot, handle in slots.items()}
        move, after = formula(lr=lr, g=tf.gather(sums, places), **before)
        for slot, handle in slots.items():
            write(handle, after[slot])
        write(var, w - move)

    return kernel


def momentum(momentum: float, nesterov: bool) -> Formula:
    """Returns `accum = momentum * accum + g`, a move of `lr * accum`."""

    def formula(lr, g, accum):
        accum = momentum * accum + g
        return lr * (g + momentum * accum if nesterov else accum), {"accum": accum}

    return formula


def adam(beta_1: float, beta_2: float, epsilon: float) -> Formula:
    """Returns Adam's means of these rows; `lr` is corrected for the start."""

    def formula(lr, g, m, v):
        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g * g - v)
        return lr * m / (tf.sqrt(v) + epsilon), {"m": m, "v": v}

    return formula


def rmsprop(rho: float, momentum: float, epsilon: float) -> Formula:
    """Returns `mom = momentum * mom + lr * g / sqrt(ms + epsilon)`, a move of mom."""

    def formula(lr, g, ms, mom):
        ms += (1 - rho) * (g * g - ms)
        mom = momentum * mom + lr * g * tf.math.rsqrt(ms + epsilon)
        return mom, {"ms": ms, "mom": mom}

    return formula


def adagrad(epsilon: float) -> Formula:
    """Returns `accum += g ** 2`, a move of `lr * g / (sqrt(accum) + epsilon)`."""

    def formula(lr, g, accum):
        accum += g * g
        return lr * g / (tf.sqrt(accum) + epsilon), {"accum": accum}

    return formula
