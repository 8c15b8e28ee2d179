"""The layers of contrib and slim: functions that create their variables by name.

    with tf1.arg_scope([layers.conv2d], weights_regularizer=tf1.l2_regularizer(5e-4)):
        x = layers.repeat(images, 2, layers.conv2d, 64, [3, 3], scope="conv1")
    x = layers.fully_connected(layers.flatten(x), 10, activation_fn=None)

Call them in the forward function of a `tf1.Model`. The trap: contrib's fully_connected
and conv2d end in a ReLU if `activation_fn` is left out.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks
from tfreg.tf1 import variable_scopes, weights
from tfreg.tf1.arg_scopes import add_arg_scope
from tfreg.tf1.end_points import (
    append_tensor_alias,
    collect_named_outputs,
    convert_collection_to_dict,
    last_dimension,
)
from tfreg.tf1.normalizers import batch_norm, bias_add
from tfreg.tf1.norms import group_norm, instance_norm, layer_norm
from tfreg.tf1.shapes import (
    avg_pool2d,
    dropout,
    flatten,
    max_pool2d,
    one_hot_encoding,
    repeat,
    softmax,
    stack,
)
from tfreg.tf1.weights import (
    XAVIER,
    ZEROS,
    Activation,
    Collections,
    Initializer,
    get_variable_collections,
)

Regularizer = weights.Regularizer
Normalizer = Callable[..., tf.Tensor]

__all__ = [
    "append_tensor_alias",
    "avg_pool2d",
    "batch_norm",
    "bias_add",
    "collect_named_outputs",
    "conv2d",
    "conv2d_transpose",
    "convert_collection_to_dict",
    "dropout",
    "flatten",
    "fully_connected",
    "get_variable_collections",
    "group_norm",
    "instance_norm",
    "last_dimension",
    "layer_norm",
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
        normalizer_fn: applied to the outputs, instead of biases.
        normalizer_params: keyword arguments of `normalizer_fn`.
        weights_initializer: as for `get_variable`.
        weights_regularizer: in addition to the scope's.
        biases_initializer: as for `get_variable`; None: no biases.
        biases_regularizer: in addition to the scope's.
        reuse: as for `variable_scope`.
        variables_collections: keys of the collections that the variables join; or a
            dict of such keys, for weights and biases.
        outputs_collections: keys of the collections that the outputs are added to.
        trainable: whether the variables are trained.
        scope: variable scope; None: fully_connected, with a number.

    Raises:
        ValueError: `num_outputs` isn't an int, or the channels aren't static.

    Source: `tf.contrib.layers.fully_connected`.
    """
    num_outputs = _checks.check_int("num_outputs", num_outputs)
    inputs, size = weights.convert_inputs(inputs, "NHWC")
    layer_scope = variable_scopes.variable_scope(scope, "fully_connected", reuse=reuse)
    with layer_scope as var_scope:
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
        functions = weights.bind(normalizer_fn, normalizer_params), activation_fn
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


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
        stride: an int, or height and width.
        padding: SAME or VALID.
        data_format: None or NHWC; or NCHW for channels in the second dimension.
        rate: dilation rate; an int, or height and width.
        scope: variable scope; None: Conv, with a number.

    The remaining arguments are those of `fully_connected`.

    Raises:
        ValueError: inputs of another rank, or without a static number of channels.

    Source: `tf.contrib.layers.conv2d`.
    """
    data_format = data_format or "NHWC"
    inputs, size = weights.convert_inputs(inputs, data_format, 4)
    with variable_scopes.variable_scope(scope, "Conv", reuse=reuse) as var_scope:
        make = weights.Maker(inputs.dtype, variables_collections, trainable)
        shape = [*weights.check_sizes("kernel_size", kernel_size), size, num_outputs]
        kernel = make(
            "weights", "kernel", shape, weights_initializer, weights_regularizer
        )
        bias = make.make_bias(
            num_outputs, biases_initializer, biases_regularizer, normalizer_fn
        )
        outputs = weights.convolve(
            inputs, kernel, bias, stride, padding, data_format, rate
        )
        functions = weights.bind(normalizer_fn, normalizer_params), activation_fn
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


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
        scope: variable scope; None: Conv2d_transpose, with a number.

    The remaining arguments are those of `conv2d`.

    Raises:
        ValueError: inputs of another rank, or without a static number of channels.

    Source: `tf.contrib.layers.conv2d_transpose`.
    """
    inputs, size = weights.convert_inputs(inputs, data_format, 4)
    layer_scope = variable_scopes.variable_scope(scope, "Conv2d_transpose", reuse=reuse)
    with layer_scope as var_scope:
        make = weights.Maker(inputs.dtype, variables_collections, trainable)
        shape = [*weights.check_sizes("kernel_size", kernel_size), num_outputs, size]
        kernel = make(
            "weights", "kernel", shape, weights_initializer, weights_regularizer
        )
        bias = make.make_bias(
            num_outputs, biases_initializer, biases_regularizer, normalizer_fn
        )
        outputs = weights.convolve_transposed(
            inputs, kernel, bias, stride, padding, data_format
        )
        functions = weights.bind(normalizer_fn, normalizer_params), activation_fn
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


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
    """Returns a depthwise convolution, followed by a pointwise one.

    Args:
        num_outputs: channels of the outputs; None: no pointwise convolution, and the
            regularizers replace the scope's.
        depth_multiplier: channels of the depthwise convolution for each input channel.
        weights_initializer: of depthwise_weights.
        pointwise_initializer: of pointwise_weights; None: `weights_initializer`.
        weights_regularizer: of both kernels.
        scope: variable scope; None: SeparableConv2d, with a number.

    The remaining arguments are those of `conv2d`.

    Raises:
        ValueError: inputs of another rank, or without a static number of channels.

    Source: `tf.contrib.layers.separable_conv2d`.
    """
    inputs, size = weights.convert_inputs(inputs, data_format, 4)
    layer_scope = variable_scopes.variable_scope(scope, "SeparableConv2d", reuse=reuse)
    with layer_scope as var_scope:
        options = inputs.dtype, variables_collections, trainable
        make = weights.Maker(*options, replace=num_outputs is None)
        shape = [*weights.check_sizes("kernel_size", kernel_size), size]
        starts = weights_initializer, pointwise_initializer or weights_initializer
        sizes = [*shape, depth_multiplier], num_outputs
        kernels, channels = _make_separable(make, sizes, starts, weights_regularizer)
        bias = make.make_bias(
            channels, biases_initializer, biases_regularizer, normalizer_fn
        )
        outputs = weights.convolve_separable(
            inputs, kernels, bias, stride, padding, data_format, rate
        )
        functions = weights.bind(normalizer_fn, normalizer_params), activation_fn
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


def _make_separable(
    make: weights.Maker,
    sizes: tuple[list[int], int | None],
    initializers: tuple[Initializer, Initializer],
    regularizer: Regularizer | None,
) -> tuple[tuple[tf.Variable, tf.Variable | None], int]:
    """Creates a depthwise kernel, and a pointwise one if `num_outputs` isn't None.

    Args:
        make: creates the variables.
        sizes: shape of the depthwise kernel; num_outputs.
        initializers: of the two kernels.
        regularizer: of both.

    Returns:
        The kernels, and the number of channels of their outputs.
    """
    shape, num_outputs = sizes
    channels = shape[2] * shape[3]
    name, kind = "depthwise_weights", "depthwise_kernel"
    depthwise = make(name, kind, shape, initializers[0], regularizer, "weights")
    if num_outputs is None:
        return (depthwise, None), channels
    name, kind = "pointwise_weights", "pointwise_kernel"
    shape = [1, 1, channels, num_outputs]
    pointwise = make(name, kind, shape, initializers[1], regularizer, "weights")
    return (depthwise, pointwise), num_outputs
