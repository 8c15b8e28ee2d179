"""The layers of contrib and slim: functions that make their variables by name.

    with tf1.arg_scope([layers.conv2d], weights_regularizer=tf1.l2_regularizer(5e-4)):
        x = layers.repeat(pictures, 2, layers.conv2d, 64, [3, 3], scope="conv1")
    x = layers.fully_connected(layers.flatten(x), 10, activation_fn=None)

They are called in the forward function of a `tf1.Model`. The trap: contrib's
fully_connected and conv2d end in a ReLU where `activation_fn` is left out.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks
from tfreg.tf1 import variable_scopes, weights
from tfreg.tf1.arg_scopes import add_arg_scope
from tfreg.tf1.normalizers import batch_norm, bias_add
from tfreg.tf1.shapes import (
    avg_pool2d,
    convert_collection_to_dict,
    dropout,
    flatten,
    max_pool2d,
    one_hot_encoding,
    repeat,
    softmax,
    stack,
)
from tfreg.tf1.weights import XAVIER, ZEROS, Activation, Collections, Initializer

Regularizer = weights.Regularizer
Normalizer = Callable[..., tf.Tensor]

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "bias_add",
    "conv2d",
    "conv2d_transpose",
    "convert_collection_to_dict",
    "dropout",
    "flatten",
    "fully_connected",
    "linear",
    "max_pool2d",
    "one_hot_encoding",
    "relu",
    "relu6",
    "repeat",
    "separable_conv2d",
    "softmax",
    "stack",
]


@add_arg_scope
def fully_connected(
    inputs: tf.Tensor,
    num_outputs: int,
    activation_fn: Activation | None = tf.nn.relu,
    normalizer_fn: Normalizer | None = None,
    normalizer_params: dict[str, Any] | None = None,
    weights_initializer: Initializer = XAVIER,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initializer = ZEROS,
    biases_regularizer: Regularizer | None = None,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    scope: Any = None,
) -> tf.Tensor:
    """Returns `activation_fn(inputs @ weights + biases)`.

    Args:
        inputs: floating `[batch, d1, ..., dn, channels]`.
        num_outputs: size of the last dimension of the outputs.
        activation_fn: None: the outputs are linear.
        normalizer_fn: called with the outputs, in place of biases.
        normalizer_params: its further arguments.
        weights_initializer: as for `get_variable`.
        weights_regularizer: beside the scope's.
        biases_initializer: None: no biases.
        biases_regularizer: beside the scope's.
        reuse: as for `variable_scope`.
        variables_collections: keys of collections, or a dict of them for weights and
            biases.
        outputs_collections: keys of collections.
        trainable: whether the variables are trained.
        scope: of the variables' names; None: fully_connected, with a number.

    Raises:
        ValueError: `num_outputs` isn't an int, or the channels aren't known.

    Source: `tf.contrib.layers.fully_connected`.
    """
    num_outputs = _checks.check_int("num_outputs", num_outputs)
    inputs = tf.convert_to_tensor(inputs)
    size = weights.find_channels(inputs, "NHWC")
    with variable_scopes.variable_scope(scope, "fully_connected", reuse=reuse) as here:
        make = weights.Maker(inputs.dtype, variables_collections, trainable)
        kernel = make(
            "weights",
            "kernel",
            [size, num_outputs],
            weights_initializer,
            weights_regularizer,
        )
        bias = make.make_bias(
            num_outputs, biases_initializer, biases_regularizer, normalizer_fn
        )
        outputs = weights.multiply(inputs, kernel, bias)
        return weights.finish(
            outputs,
            here.name,
            activation_fn,
            outputs_collections,
            normalizer_fn,
            normalizer_params,
        )


linear = functools.partial(fully_connected, activation_fn=None)
relu = functools.partial(fully_connected, activation_fn=tf.nn.relu)
relu6 = functools.partial(fully_connected, activation_fn=tf.nn.relu6)


@add_arg_scope
def conv2d(
    inputs: tf.Tensor,
    num_outputs: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str = "SAME",
    data_format: str | None = None,
    rate: int | Sequence[int] = 1,
    activation_fn: Activation | None = tf.nn.relu,
    normalizer_fn: Normalizer | None = None,
    normalizer_params: dict[str, Any] | None = None,
    weights_initializer: Initializer = XAVIER,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initializer = ZEROS,
    biases_regularizer: Regularizer | None = None,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    scope: Any = None,
) -> tf.Tensor:
    """Returns a convolution of images.

    Args:
        inputs: floating `[batch, height, width, channels]`.
        num_outputs: channels of the outputs.
        kernel_size: an int, or height and width.
        stride: likewise.
        padding: SAME or VALID.
        data_format: None or NHWC, or NCHW where channels are the second dimension.
        rate: of dilation; an int, or of height and width.
        scope: of the variables' names; None: Conv, with a number.
        The others: as for `fully_connected`.

    Raises:
        ValueError: inputs of another rank, or whose channels aren't known.

    Source: `tf.contrib.layers.conv2d`.
    """
    inputs, data_format = tf.convert_to_tensor(inputs), data_format or "NHWC"
    size = weights.find_channels(inputs, data_format, 4)
    with variable_scopes.variable_scope(scope, "Conv", reuse=reuse) as here:
        make = weights.Maker(inputs.dtype, variables_collections, trainable)
        shape = [*weights.pair("kernel_size", kernel_size), size, num_outputs]
        kernel = make(
            "weights", "kernel", shape, weights_initializer, weights_regularizer
        )
        bias = make.make_bias(
            num_outputs, biases_initializer, biases_regularizer, normalizer_fn
        )
        outputs = weights.convolve(
            inputs, kernel, bias, stride, padding, data_format, rate
        )
        return weights.finish(
            outputs,
            here.name,
            activation_fn,
            outputs_collections,
            normalizer_fn,
            normalizer_params,
        )


@add_arg_scope
def conv2d_transpose(
    inputs: tf.Tensor,
    num_outputs: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str = "SAME",
    data_format: str = "NHWC",
    activation_fn: Activation | None = tf.nn.relu,
    normalizer_fn: Normalizer | None = None,
    normalizer_params: dict[str, Any] | None = None,
    weights_initializer: Initializer = XAVIER,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initializer = ZEROS,
    biases_regularizer: Regularizer | None = None,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    scope: Any = None,
) -> tf.Tensor:
    """Returns the transpose (the gradient) of a convolution of images.

    Args:
        scope: of the variables' names; None: Conv2d_transpose, with a number.
        The others: as for `conv2d`.

    Raises:
        ValueError: inputs of another rank, or whose channels aren't known.

    Source: `tf.contrib.layers.conv2d_transpose`.
    """
    inputs = tf.convert_to_tensor(inputs)
    size = weights.find_channels(inputs, data_format, 4)
    with variable_scopes.variable_scope(scope, "Conv2d_transpose", reuse=reuse) as here:
        make = weights.Maker(inputs.dtype, variables_collections, trainable)
        shape = [*weights.pair("kernel_size", kernel_size), num_outputs, size]
        kernel = make(
            "weights", "kernel", shape, weights_initializer, weights_regularizer
        )
        bias = make.make_bias(
            num_outputs, biases_initializer, biases_regularizer, normalizer_fn
        )
        outputs = weights.convolve_back(
            inputs, kernel, bias, stride, padding, data_format
        )
        return weights.finish(
            outputs,
            here.name,
            activation_fn,
            outputs_collections,
            normalizer_fn,
            normalizer_params,
        )


@add_arg_scope
def separable_conv2d(
    inputs: tf.Tensor,
    num_outputs: int | None,
    kernel_size: int | Sequence[int],
    depth_multiplier: int = 1,
    stride: int | Sequence[int] = 1,
    padding: str = "SAME",
    data_format: str = "NHWC",
    rate: int | Sequence[int] = 1,
    activation_fn: Activation | None = tf.nn.relu,
    normalizer_fn: Normalizer | None = None,
    normalizer_params: dict[str, Any] | None = None,
    weights_initializer: Initializer = XAVIER,
    pointwise_initializer: Initializer = None,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initializer = ZEROS,
    biases_regularizer: Regularizer | None = None,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    scope: Any = None,
) -> tf.Tensor:
    """Returns a convolution of each channel, and a mixture of the channels after it.

    Args:
        num_outputs: None: the channels aren't mixed.
        depth_multiplier: outputs of each channel before the mixture.
        weights_initializer: of depthwise_weights.
        pointwise_initializer: of pointwise_weights; None: the same.
        weights_regularizer: of both.
        scope: of the variables' names; None: SeparableConv2d, with a number.
        The others: as for `conv2d`.

    Raises:
        ValueError: inputs of another rank, or whose channels aren't known.

    Source: `tf.contrib.layers.separable_conv2d`.
    """
    inputs = tf.convert_to_tensor(inputs)
    size = weights.find_channels(inputs, data_format, 4)
    with variable_scopes.variable_scope(scope, "SeparableConv2d", reuse=reuse) as here:
        # contrib makes those of a convolution without mixture itself, by another rule.
        make = weights.Maker(
            inputs.dtype, variables_collections, trainable, replace=num_outputs is None
        )
        shape = [*weights.pair("kernel_size", kernel_size), size, depth_multiplier]
        depthwise = make(
            "depthwise_weights",
            "depthwise_kernel",
            shape,
            weights_initializer,
            weights_regularizer,
            "weights",
        )
        pointwise, channels = None, size * depth_multiplier
        if num_outputs is not None:
            pointwise = make(
                "pointwise_weights",
                "pointwise_kernel",
                [1, 1, channels, num_outputs],
                pointwise_initializer or weights_initializer,
                weights_regularizer,
                "weights",
            )
            channels = num_outputs
        bias = make.make_bias(
            channels, biases_initializer, biases_regularizer, normalizer_fn
        )
        outputs = weights.convolve_each(
            inputs, depthwise, pointwise, bias, stride, padding, data_format, rate
        )
        return weights.finish(
            outputs,
            here.name,
            activation_fn,
            outputs_collections,
            normalizer_fn,
            normalizer_params,
        )
