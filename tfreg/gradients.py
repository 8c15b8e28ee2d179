"""Gradients of several replicas: packed into one vector and added up once.

    gradients = tape.gradient(loss, variables)  # in strategy.run
    summed = tfreg.gradients.sum_over_replicas(gradients)
    clipped, norm = tf.clip_by_global_norm(summed, 1.0)
    optimizer.apply(clipped, variables, summed=True)

The trap: clipping what one replica has, which is no clipping of the sum.
"""

from collections.abc import Sequence

import tensorflow as tf


def pack(tensors: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor:
    """Returns all values in one vector; `tensors` have the same floating dtype."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


def unpack(packed: tf.Tensor, shapes: Sequence[tf.TensorShape]) -> list[tf.Tensor]:
    """Returns what was packed, given the shapes in the order of packing."""
    parts = tf.split(packed, [shape.num_elements() for shape in shapes])
    return [tf.reshape(p, shape) for p, shape in zip(parts, shapes, strict=True)]


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
