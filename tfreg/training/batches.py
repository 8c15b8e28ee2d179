"""A batch of examples: inputs, targets and weights, each a nest of tensors.

    batch = batches.Batch(x, y)
    batches.count_rows(batch.x)  # an int32 scalar tensor
    batches.cut(batch, slice(2)).y

The trap: code that counts or cuts the one tensor x, and fails for a dict of inputs or a
RaggedTensor.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfreg.collections import scopes
from tfreg.data import arrays, nests


class Batch(NamedTuple):
    """Examples: inputs, targets and weights, nests of `[batch, ...]` tensors.

    Attributes:
        x: inputs.
        y: targets.
        weights: `[batch]`, one per example, or `[batch, d1, ...]`, one per position;
            None: all the same.
    """

    x: Any
    y: Any
    weights: Any = None


@scopes.do_not_convert
def count_rows(batch: Any) -> tf.Tensor:
    """Returns the number of examples in a nest of tensors, an int32 scalar."""
    leaf = tf.nest.flatten(batch)[0]
    if isinstance(leaf, tf.RaggedTensor):
        return tf.cast(leaf.nrows(), tf.int32)
    return tf.shape(leaf)[0]


@scopes.do_not_convert
def cut(batch: Batch, rows: slice) -> Batch:
    """Returns some of the examples."""
    return tf.nest.map_structure(lambda v: None if v is None else v[rows], batch)


@scopes.do_not_convert
def scale(batch: tuple, pixels: bool) -> tuple:
    """Returns a batch whose uint8 inputs, if they are pixels, are in [0, 1]."""
    x = tf.nest.map_structure(lambda v: scale_pixels(v, pixels), batch[0])
    return x, *batch[1:]


@scopes.do_not_convert
def scale_pixels(x: tf.Tensor, pixels: bool) -> tf.Tensor:
    """Returns uint8 pixels as float32 in [0, 1], where x are pixels."""
    is_pixels = pixels and x.dtype == tf.uint8
    return tf.cast(x, tf.float32) / 255.0 if is_pixels else x


def find_nonfinite(batch: tuple, columns: Sequence[str] = ()) -> tuple[np.ndarray, str]:
    """Returns which examples have NaN or infinite values, and in which columns.

    Args:
        batch: (x, y) or (x, y, weights), nests of tensors.
        columns: names of the columns of x, if they have any.

    Returns:
        Bools `[batch]`, and the columns in words.
    """
    bad, texts = np.zeros(int(count_rows(batch)), bool), []
    for part, nest in zip(("x", "y", "weights"), batch, strict=False):
        for path, leaf in nests.flatten(part, nest):
            is_ragged = isinstance(leaf, tf.RaggedTensor)
            values = np.asarray(leaf.to_tensor() if is_ragged else leaf)
            if values.dtype.kind != "f":
                continue
            wrong = ~np.isfinite(values)
            if wrong.any():
                bad |= wrong.reshape(len(bad), -1).any(1)
                named = columns if path == "x" else ()
                places = arrays.name_columns(wrong, named) if wrong.ndim > 1 else ""
                texts.append(f"{path}, {places}".removesuffix(", "))
    return bad, "; ".join(texts)
