"""Gradients of several replicas, packed into few vectors and summed.

    gradients = tape.gradient(loss, model.trainable_variables)  # in strategy.run
    summed = tfreg.optimizers.sum_over_replicas(gradients)
    norm = tfreg.optimizers.global_norm(summed)
    clipped, _ = tf.clip_by_global_norm(summed, 1.0, norm)
    optimizer.apply(clipped, model.trainable_variables, summed=True)

The traps: clipping the gradient of one replica instead of the sum; and converting the
gradient of a table, IndexedSlices of the rows looked up, to a tensor as large as the
table.
"""

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from tfreg.collections import scopes
from tfreg.optimizers import rows

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | None

# For more elements, a copy into the vector costs more than a separate all-reduce.
_LARGE = 2**16


def pack(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns few vectors: one for each large tensor, and one for all small tensors.

    Args:
        tensors: of the same floating dtype and of static shapes.
    """
    large = [_flatten(tensor) for tensor in tensors if _is_large(tensor.shape)]
    small = [_flatten(tensor) for tensor in tensors if not _is_large(tensor.shape)]
    return large + ([tf.concat(small, 0)] if small else [])


def unpack(
    packed: Sequence[tf.Tensor], shapes: Sequence[tf.TensorShape]
) -> list[tf.Tensor]:
    """Returns the tensors that `pack` packed, given their shapes in that order."""
    small = [shape.num_elements() for shape in shapes if not _is_large(shape)]
    large = iter(packed)
    rest = iter(tf.split(packed[-1], small) if small else [])
    parts = [next(large) if _is_large(shape) else next(rest) for shape in shapes]
    return [tf.reshape(p, shape) for p, shape in zip(parts, shapes, strict=True)]


def _flatten(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tensor, [-1])


def _is_large(shape: tf.TensorShape) -> bool:
    return (shape.num_elements() or 0) >= _LARGE


@scopes.do_not_convert
def sum_over_replicas(gradients: Sequence[Gradient]) -> list[Gradient]:
    """Returns the sums of the replicas' gradients, with one all-reduce per dtype.

    Args:
        gradients: gradients of this replica; None stays None.

    Returns:
        The sums; for IndexedSlices, the concatenated rows of all replicas. Without a
        strategy, on one replica or across replicas: a copy of the list.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(gradients)
    summed = list(gradients)
    dense = {}
    for i, gradient in enumerate(gradients):
        if isinstance(gradient, tf.IndexedSlices):
            all_rows = gather(gradient.values, gradient.indices)
            summed[i] = tf.IndexedSlices(*all_rows, gradient.dense_shape)
        elif gradient is not None:
            dense[i] = tf.convert_to_tensor(gradient)
    for dtype in dict.fromkeys(g.dtype for g in dense.values()):
        places = [i for i, g in dense.items() if g.dtype == dtype]
        packed = context.all_reduce("SUM", pack([dense[i] for i in places]))
        parts = unpack(packed, [dense[i].shape for i in places])
        for i, part in zip(places, parts, strict=True):
            summed[i] = part
    return summed


def gather(values: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the concatenated values and indices of all replicas."""
    context = tf.distribute.get_replica_context()
    return context.all_gather(values, 0), context.all_gather(indices, 0)


def add(a: Gradient, b: Gradient) -> Gradient:
    """Returns the sum of two gradients, IndexedSlices if both are."""
    if a is None or b is None:
        return b if a is None else a
    if not (isinstance(a, tf.IndexedSlices) and isinstance(b, tf.IndexedSlices)):
        return tf.convert_to_tensor(a) + tf.convert_to_tensor(b)
    values = tf.concat([a.values, b.values], 0)
    indices = tf.concat([tf.cast(s.indices, tf.int64) for s in (a, b)], 0)
    return tf.IndexedSlices(values, indices, a.dense_shape)


def multiply(gradient: Gradient, factor: tf.Tensor) -> Gradient:
    """Returns a gradient times a scalar."""
    if gradient is None:
        return None
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient * tf.cast(factor, gradient.dtype)
    values = gradient.values * tf.cast(factor, gradient.dtype)
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


@scopes.do_not_convert
def make_dense(gradients: Sequence[Gradient]) -> list[tf.Tensor | None]:
    """Returns the gradients with IndexedSlices converted to tensors."""
    return [None if g is None else tf.convert_to_tensor(g) for g in gradients]


@scopes.do_not_convert
def global_norm(gradients: Sequence[Gradient]) -> tf.Tensor:
    """Returns the L2 norm of all gradients together, a scalar.

    The values of a row that occurs twice in IndexedSlices are summed first, as in the
    dense gradient and unlike in `tf.linalg.global_norm`.

    Args:
        gradients: floating; None doesn't count.
    """
    return tf.linalg.global_norm(
        [
            rows.add_duplicates(g)[2] if isinstance(g, tf.IndexedSlices) else g
            for g in gradients
            if g is not None
        ]
    )
