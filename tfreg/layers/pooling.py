"""Max pooling that XLA differentiates deterministically.

    y = pooling.max_pool2d(images, 2, 2, "VALID")  # as tf.nn.max_pool2d
    windows = pooling.max_pool_windows(images, 2, 2)  # the same values

The trap: under `tf.config.experimental.enable_op_determinism` XLA has no gradient of
TensorFlow's max pooling, on CPUs neither, so that a LeNet fails at its first step.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import scopes


@scopes.do_not_convert
def max_pool2d(
    inputs: tf.Tensor,
    ksize: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
    data_format: str = "NHWC",
) -> tf.Tensor:
    """Returns the largest value of each window and channel.

    Where op determinism is enabled, windows that don't overlap are pooled by
    `max_pool_windows`, and others by TensorFlow, which a Loop runs in graph mode.

    Args:
        inputs: `[batch, height, width, channels]`.
        ksize: height and width of a window, or an int for both.
        strides: distance of the windows, likewise.
        padding: VALID or SAME.
        data_format: NHWC, or NCHW for channels in the second dimension.

    Source: `tf.nn.max_pool2d`.
    """
    sizes = [ksize, ksize] if isinstance(ksize, int) else list(ksize)
    steps = [strides, strides] if isinstance(strides, int) else list(strides)
    plain = sizes == steps and len(sizes) == 2 and padding == "VALID"
    if plain and data_format == "NHWC" and _tensorflow.is_deterministic():
        return max_pool_windows(inputs, *sizes)
    return tf.nn.max_pool2d(inputs, ksize, strides, padding, data_format)


def max_pool_windows(inputs: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the largest value of each window, of windows that don't overlap.

    The gradient goes to the first of equal elements of a window, row by row, as that of
    TensorFlow does. Rows and columns that fill no window have none.

    Args:
        inputs: `[batch, rows, columns, channels]`.
        height: of a window.
        width: of a window.

    Returns:
        `[batch, rows // height, columns // width, channels]`.
    """
    return _pool(tf.convert_to_tensor(inputs), height, width)


@scopes.do_not_convert
def _pool(inputs: tf.Tensor, height: int, width: int) -> tf.Tensor:
    @tf.custom_gradient
    def pool(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        shape, known = tf.shape(x), x.shape
        rows, columns = (known[k] if known[k] is not None else shape[k] for k in (1, 2))
        down, across = rows // height, columns // width
        used = x[:, : down * height, : across * width]
        split = tf.reshape(used, [-1, down, height, across, width, known[3]])
        largest = tf.reduce_max(split, [2, 4])

        def differentiate(upstream: tf.Tensor) -> tf.Tensor:
            taken = tf.zeros_like(largest, tf.bool)
            lines = []
            for i in range(height):
                line = []
                for j in range(width):
                    first = (split[:, :, i, :, j] == largest) & ~taken
                    taken |= first
                    line.append(tf.where(first, upstream, tf.zeros_like(upstream)))
                lines.append(tf.stack(line, 3))
            gradient = tf.reshape(tf.stack(lines, 2), tf.shape(used))
            missing = shape - tf.shape(used)
            padding = tf.stack([tf.zeros_like(missing), missing], 1)
            return tf.ensure_shape(tf.pad(gradient, padding), known)

        return largest, differentiate

    return pool(inputs)
