"""The convolutions of tf.layers.

    rows = images[..., 0]  # [batch, time, channels]
    x = tf1.core_layers.conv1d(rows, 32, 3, padding="same", activation=tf.nn.relu)
    x = tf1.core_layers.conv2d_transpose(images, 16, 3, strides=2, use_bias=False)

They are functions of `tf1.core_layers`. The trap: padding is "valid", the outputs are
linear, and the variables are called kernel and bias.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfreg.tf1 import weights
from tfreg.tf1.core_kernels import Bias, Constraint, Kernel, Layer, convert_format
from tfreg.tf1.weights import ZEROS, Activation, Initializer, Regularizer


def _convolve(
    layer: Layer,
    rank: int,
    inputs: tf.Tensor,
    filters: int,
    kernel: Kernel,
    window: tuple[Any, str, str, Any],
) -> tf.Tensor:
    """Returns a convolution.

    Args:
        layer: its name, bias and activation.
        rank: of the window: 1 to 3.
        inputs: of rank `rank + 2`.
        filters: channels of the outputs.
        kernel: with the kernel's size as its shape.
        window: strides, padding, data_format and dilation_rate.
    """
    strides, padding, data_format, rate = window
    data_format = convert_format(data_format)
    inputs, size = weights.convert_inputs(inputs, data_format, rank + 2)
    sizes = weights.check_sizes("kernel_size", kernel.shape, rank)
    kernel = dataclasses.replace(kernel, shape=[*sizes, size, filters])

    def compute(kernels: list[tf.Tensor], bias: tf.Tensor | None) -> tf.Tensor:
        return weights.convolve(
            inputs, kernels[0], bias, strides, padding, data_format, rate
        )

    return layer.apply(inputs, filters, {"kernel": kernel}, compute)


def conv1d(
    inputs: tf.Tensor,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: int | Sequence[int] = 1,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer = None,
    bias_initializer: Initializer = ZEROS,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """Returns a convolution of sequences `[batch, length, channels]`.

    The arguments are those of `conv2d`, with one size instead of height and width.

    Raises:
        ValueError: inputs of another rank, or without a static number of channels.

    Source: `tf.compat.v1.layers.conv1d`.
    """
    bias = Bias(use_bias, bias_initializer, bias_regularizer, bias_constraint)
    scope = (name, "conv1d", reuse)
    layer = Layer(scope, activation, bias, activity_regularizer, trainable)
    kernel = Kernel(
        kernel_size, kernel_initializer, kernel_regularizer, kernel_constraint
    )
    window = (strides, padding, data_format, dilation_rate)
    return _convolve(layer, 1, inputs, filters, kernel, window)


def conv2d(
    inputs: tf.Tensor,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: int | Sequence[int] = (1, 1),
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer = None,
    bias_initializer: Initializer = ZEROS,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """Returns a convolution of images.

    Args:
        inputs: floating `[batch, height, width, channels]`.
        filters: channels of the outputs.
        kernel_size: an int, or height and width.
        strides: an int, or height and width.
        padding: valid or same.
        data_format: channels_last or channels_first.
        dilation_rate: an int, or height and width.
        name: variable scope; None: conv2d, with a number.

    The remaining arguments are those of `dense`.

    Raises:
        ValueError: inputs of another rank, or without a static number of channels.

    Source: `tf.compat.v1.layers.conv2d`.
    """
    bias = Bias(use_bias, bias_initializer, bias_regularizer, bias_constraint)
    scope = (name, "conv2d", reuse)
    layer = Layer(scope, activation, bias, activity_regularizer, trainable)
    kernel = Kernel(
        kernel_size, kernel_initializer, kernel_regularizer, kernel_constraint
    )
    window = (strides, padding, data_format, dilation_rate)
    return _convolve(layer, 2, inputs, filters, kernel, window)


def conv3d(
    inputs: tf.Tensor,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] = (1, 1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: int | Sequence[int] = (1, 1, 1),
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer = None,
    bias_initializer: Initializer = ZEROS,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """Returns a convolution of volumes `[batch, depth, height, width, channels]`.

    The arguments are those of `conv2d`, with depth, height and width.

    Raises:
        ValueError: inputs of another rank, or without a static number of channels.

    Source: `tf.compat.v1.layers.conv3d`.
    """
    bias = Bias(use_bias, bias_initializer, bias_regularizer, bias_constraint)
    scope = (name, "conv3d", reuse)
    layer = Layer(scope, activation, bias, activity_regularizer, trainable)
    kernel = Kernel(
        kernel_size, kernel_initializer, kernel_regularizer, kernel_constraint
    )
    window = (strides, padding, data_format, dilation_rate)
    return _convolve(layer, 3, inputs, filters, kernel, window)


def conv2d_transpose(
    inputs: tf.Tensor,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer = None,
    bias_initializer: Initializer = ZEROS,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """Returns the transpose (the gradient) of a convolution of images.

    The arguments are those of `conv2d`.

    Raises:
        ValueError: inputs of another rank, or without a static number of channels.

    Source: `tf.compat.v1.layers.conv2d_transpose`.
    """
    order = convert_format(data_format)
    inputs, size = weights.convert_inputs(inputs, order, 4)
    shape = [*weights.check_sizes("kernel_size", kernel_size), filters, size]
    bias = Bias(use_bias, bias_initializer, bias_regularizer, bias_constraint)
    scope = (name, "conv2d_transpose", reuse)
    layer = Layer(scope, activation, bias, activity_regularizer, trainable)
    kernel = Kernel(shape, kernel_initializer, kernel_regularizer, kernel_constraint)

    def compute(kernels: list[tf.Tensor], bias: tf.Tensor | None) -> tf.Tensor:
        return weights.convolve_transposed(
            inputs, kernels[0], bias, strides, padding, order
        )

    return layer.apply(inputs, filters, {"kernel": kernel}, compute)


def separable_conv2d(
    inputs: tf.Tensor,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: int | Sequence[int] = (1, 1),
    depth_multiplier: int = 1,
    activation: Activation | None = None,
    use_bias: bool = True,
    depthwise_initializer: Initializer = None,
    pointwise_initializer: Initializer = None,
    bias_initializer: Initializer = ZEROS,
    depthwise_regularizer: Regularizer | None = None,
    pointwise_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    depthwise_constraint: Constraint | None = None,
    pointwise_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """Returns a depthwise convolution, followed by a pointwise one.

    Args:
        depth_multiplier: channels of the depthwise convolution for each input channel.

    The remaining arguments are those of `conv2d`, for the two kernels apart.

    Raises:
        ValueError: inputs of another rank, or without a static number of channels.

    Source: `tf.compat.v1.layers.separable_conv2d`.
    """
    bias = Bias(use_bias, bias_initializer, bias_regularizer, bias_constraint)
    scope = (name, "separable_conv2d", reuse)
    layer = Layer(scope, activation, bias, activity_regularizer, trainable)
    depthwise = (depthwise_initializer, depthwise_regularizer, depthwise_constraint)
    pointwise = (pointwise_initializer, pointwise_regularizer, pointwise_constraint)
    shape = (kernel_size, depth_multiplier, filters)
    window = (strides, padding, data_format, dilation_rate)
    return _convolve_separable(layer, inputs, shape, depthwise, pointwise, window)


def _convolve_separable(
    layer: Layer,
    inputs: tf.Tensor,
    shape: tuple[Any, int, int],
    depthwise: tuple[Any, ...],
    pointwise: tuple[Any, ...],
    window: tuple[Any, str, str, Any],
) -> tf.Tensor:
    """Returns a depthwise convolution, followed by a pointwise one.

    Args:
        layer: its name, bias and activation.
        inputs: images.
        shape: size of the kernel, channels for each input channel, and of the outputs.
        depthwise: initializer, regularizer and constraint of the first kernel.
        pointwise: those of the second one.
        window: strides, padding, data_format and dilation_rate.
    """
    strides, padding, data_format, rate = window
    order = convert_format(data_format)
    inputs, size = weights.convert_inputs(inputs, order, 4)
    kernel_size, multiplier, filters = shape
    sizes = weights.check_sizes("kernel_size", kernel_size)
    kernels = {
        "depthwise_kernel": Kernel([*sizes, size, multiplier], *depthwise),
        "pointwise_kernel": Kernel([1, 1, size * multiplier, filters], *pointwise),
    }

    def compute(pair: list[tf.Tensor], bias: tf.Tensor | None) -> tf.Tensor:
        return weights.convolve_separable(
            inputs, (pair[0], pair[1]), bias, strides, padding, order, rate
        )

    return layer.apply(inputs, filters, kernels, compute)
