"""Gradients of several replicas: packed into few vectors and added up at once.

    gradients = tape.gradient(loss, model.trainable_variables)  # in strategy.run
    summed = tfreg.optimizers.sum_over_replicas(gradients)
    clipped, norm = tf.clip_by_global_norm(summed, 1.0)
    optimizer.apply(clipped, model.trainable_variables, summed=True)

The trap: clipping what one replica has, which is no clipping of the sum.
"""

from collections.abc import Sequence

import tensorflow as tf

from tfreg.collections import scopes

# From here on a copy into the vector costs more than an all-reduce of one's own.
_LARGE = 2**16


def pack(tensors: Sequence[tf.Tensor | tf.IndexedSlices]) -> list[tf.Tensor]:
    """Returns few vectors that hold all values: one for each large tensor, one in all
    for the small ones; `tensors` have the same floating dtype and static shapes.
    """
    large = [_flatten(tensor) for tensor in tensors if _is_large(tensor.shape)]
    small = [_flatten(tensor) for tensor in tensors if not _is_large(tensor.shape)]
    return large + ([tf.concat(small, 0)] if small else [])


def unpack(
    packed: Sequence[tf.Tensor], shapes: Sequence[tf.TensorShape]
) -> list[tf.Tensor]:
    """Returns what was packed, given the shapes in the order of packing."""
    small = [shape.num_elements() for shape in shapes if not _is_large(shape)]
    large = iter(packed)
    rest = iter(tf.split(packed[-1], small) if small else [])
    parts = [next(large) if _is_large(shape) else next(rest) for shape in shapes]
    return [tf.reshape(p, shape) for p, shape in zip(parts, shapes, strict=True)]


def _flatten(tensor: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
    return tf.reshape(tensor, [-1])


def _is_large(shape: tf.TensorShape) -> bool:
    return (shape.num_elements() or 0) >= _LARGE


@scopes.do_not_convert
def sum_over_replicas(
    gradients: Sequence[tf.Tensor | tf.IndexedSlices | None],
) -> list[tf.Tensor | tf.IndexedSlices | None]:
    """Returns the sums of the replicas' gradients, by one all-reduce for each dtype.

    Args:
        gradients: of one replica; None stays None, IndexedSlices become dense.

    Returns:
        The same list without a strategy, on one replica, or across replicas.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(gradients)
    summed: list[tf.Tensor | None] = list(gradients)
    dense = {
        i: tf.convert_to_tensor(g) for i, g in enumerate(gradients) if g is not None
    }
    for dtype in dict.fromkeys(g.dtype for g in dense.values()):
        places = [i for i, g in dense.items() if g.dtype == dtype]
        packed = context.all_reduce("SUM", pack([dense[i] for i in places]))
        parts = unpack(packed, [dense[i].shape for i in places])
        for i, part in zip(places, parts, strict=True):
            summed[i] = part
    return summed
