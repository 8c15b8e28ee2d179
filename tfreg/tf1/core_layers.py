"""The functions of tf.layers, with their names and defaults, which aren't contrib's.

    x = core_layers.conv2d(pictures, 32, 3, padding="same", activation=tf.nn.relu)
    x = core_layers.dense(core_layers.flatten(x), 10, kernel_regularizer=regularizer)

They are called in the forward function of a `tf1.Model`. The trap: padding is "valid",
nothing is activated, and variables are called kernel and bias.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import ownership, store, terms
from tfreg.tf1 import normalizers, shapes, variable_scopes, weights
from tfreg.tf1.weights import ONES, ZEROS, Activation, Initializer, Regularizer

_GLOBAL = (store.GraphKeys.GLOBAL_VARIABLES,)
_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}


def _convert_format(data_format: str) -> str:
    if data_format not in _FORMATS:
        raise ValueError(
            f"data_format must be one of {', '.join(_FORMATS)}, got {data_format!r}: "
            "write one of them"
        )
    return _FORMATS[data_format]


def _activate(
    outputs: tf.Tensor,
    name: str,
    activation: Activation | None,
    regularizer: Regularizer | None,
) -> tf.Tensor:
    """Returns the outputs, activated, their penalty being added to the step."""
    if activation is not None:
        outputs = activation(outputs)
    if regularizer is not None:
        # Of the forward function: when its model is dropped, no total misses it.
        owner = variable_scopes.get_pass(name).owner
        path = f"{name}/ActivityRegularizer/{terms.get_name(regularizer)}"
        ownership.add_activity(regularizer, outputs, path, owner, owner.collections)
    return outputs


def dense(
    inputs: tf.Tensor,
    units: int,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer = None,
    bias_initializer: Initializer = ZEROS,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    *,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """Returns `activation(inputs @ kernel + bias)`.

    Args:
        inputs: floating `[batch, d1, ..., dn, channels]`.
        units: size of the last dimension of the outputs.
        activation: None: the outputs are linear.
        use_bias: whether there is a bias.
        kernel_initializer: as for `get_variable`.
        bias_initializer: likewise.
        kernel_regularizer: of the kernel, beside the scope's.
        bias_regularizer: of the bias, beside the scope's.
        activity_regularizer: of the outputs; its penalty, divided by the batch size,
            belongs to the step.
        trainable: whether the variables are trained.
        name: scope of the variables' names; None: dense, with a number.
        reuse: as for `variable_scope`.

    Raises:
        ValueError: the channels aren't known.

    Source: `tf.compat.v1.layers.dense`.
    """
    inputs = tf.convert_to_tensor(inputs)
    size = weights.find_channels(inputs, "NHWC")
    with variable_scopes.variable_scope(name, "dense", reuse=reuse) as here:
        make = weights.Maker(inputs.dtype, None, trainable, _GLOBAL)
        kernel = make(
            "kernel", "kernel", [size, units], kernel_initializer, kernel_regularizer
        )
        bias = None
        if use_bias:
            bias = make("bias", "bias", [units], bias_initializer, bias_regularizer)
        outputs = weights.multiply(inputs, kernel, bias)
        return _activate(outputs, here.name, activation, activity_regularizer)


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
    *,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """Returns a convolution of images.

    Args:
        inputs: floating `[batch, height, width, channels]`.
        filters: channels of the outputs.
        kernel_size: an int, or height and width.
        strides: likewise.
        padding: valid or same.
        data_format: channels_last or channels_first.
        dilation_rate: an int, or of height and width.
        name: scope of the variables' names; None: conv2d, with a number.
        The others: as for `dense`.

    Raises:
        ValueError: inputs of another rank, or whose channels aren't known.

    Source: `tf.compat.v1.layers.conv2d`.
    """
    inputs, data_format = tf.convert_to_tensor(inputs), _convert_format(data_format)
    size = weights.find_channels(inputs, data_format, 4)
    with variable_scopes.variable_scope(name, "conv2d", reuse=reuse) as here:
        make = weights.Maker(inputs.dtype, None, trainable, _GLOBAL)
        shape = [*weights.pair("kernel_size", kernel_size), size, filters]
        kernel = make("kernel", "kernel", shape, kernel_initializer, kernel_regularizer)
        bias = None
        if use_bias:
            bias = make("bias", "bias", [filters], bias_initializer, bias_regularizer)
        outputs = weights.convolve(
            inputs, kernel, bias, strides, padding, data_format, dilation_rate
        )
        return _activate(outputs, here.name, activation, activity_regularizer)


def max_pooling2d(
    inputs: tf.Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> tf.Tensor:
    """Returns the largest value of each window and channel.

    Args:
        inputs: `[batch, height, width, channels]`.
        pool_size: an int, or height and width.
        strides: likewise.
        padding: valid or same.
        data_format: channels_last or channels_first.
        name: nothing depends on it.

    Source: `tf.compat.v1.layers.max_pooling2d`.
    """
    window = (pool_size, strides, padding, _convert_format(data_format))
    return shapes.pool(tf.nn.max_pool2d, inputs, window, None, name or "max_pooling2d")


def average_pooling2d(
    inputs: tf.Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> tf.Tensor:
    """Returns the mean of each window and channel.

    Args: as for `max_pooling2d`.

    Source: `tf.compat.v1.layers.average_pooling2d`.
    """
    window = (pool_size, strides, padding, _convert_format(data_format))
    return shapes.pool(tf.nn.avg_pool2d, inputs, window, None, name or "avg_pooling2d")


def flatten(inputs: tf.Tensor, name: str | None = None) -> tf.Tensor:
    """Returns inputs `[batch, d1, ..., dn]` as `[batch, d1 * ... * dn]`.

    Source: `tf.compat.v1.layers.flatten`.
    """
    return shapes.flatten(inputs, None, name)


def dropout(
    inputs: tf.Tensor,
    rate: float = 0.5,
    noise_shape: Sequence[int] | tf.Tensor | None = None,
    seed: int | None = None,
    training: bool = False,
    name: str | None = None,
) -> tf.Tensor:
    """Returns the inputs, in training with a share of zeros and the others scaled up.

    Args:
        rate: share that is dropped, at least 0 and below 1.
        training: True: something is dropped; known when it is traced.
        The others: as for `tf1.layers.dropout`.

    Raises:
        ValueError: as for `tf1.layers.dropout`.

    Source: `tf.compat.v1.layers.dropout`.
    """
    with variable_scopes.variable_scope(name, "dropout") as here:
        return shapes.dropout(inputs, 1 - rate, noise_shape, training, None, here, seed)


def batch_normalization(
    inputs: tf.Tensor,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Initializer = ZEROS,
    gamma_initializer: Initializer = ONES,
    moving_mean_initializer: Initializer = ZEROS,
    moving_variance_initializer: Initializer = ONES,
    beta_regularizer: Regularizer | None = None,
    gamma_regularizer: Regularizer | None = None,
    *,
    training: bool = False,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
    fused: bool | None = None,
) -> tf.Tensor:
    """Returns the inputs, normalized in each channel by the batch of this replica.

    Args:
        inputs: floating `[batch, ..., channels]`.
        axis: the last one, or 1 where images have their channels there.
        momentum: share of the old moving averages that each call in training keeps.
        epsilon: added to the variance.
        center: whether there is an offset, beta.
        scale: whether there is a factor, gamma.
        beta_initializer: likewise those of the other variables.
        beta_regularizer: beside the scope's, as gamma's.
        training: whether the batch's moments are used and moved to; known when it is
            traced.
        trainable: whether beta and gamma are trained.
        name: scope of the variables' names; None: batch_normalization, with a number.
        reuse: as for `variable_scope`.
        fused: False: not by TensorFlow's kernel, whose moving variance is of n - 1;
            which it is with inputs of another rank than 4, too.

    Raises:
        ValueError: another axis; the channels aren't known, or `training` isn't.

    Source: `tf.compat.v1.layers.batch_normalization`.
    """
    inputs = tf.convert_to_tensor(inputs)
    rank = inputs.shape.rank
    if axis not in (-1, rank - 1) and (axis, rank) != (1, 4):
        raise ValueError(
            f"axis must be that of the channels, -1, or 1 of images, got {axis!r} with "
            f"shape {inputs.shape}: transpose the inputs"
        )
    data_format = "NCHW" if axis == 1 and rank == 4 else "NHWC"
    size = weights.find_channels(inputs, data_format)
    fused = fused is not False and rank == 4
    with variable_scopes.variable_scope(name, "batch_normalization", reuse=reuse):
        make = weights.Maker(
            tf.float32 if fused else inputs.dtype, None, trainable, _GLOBAL
        )
        parts = {}
        if scale:
            parts["gamma"] = make(
                "gamma", "gamma", [size], gamma_initializer, gamma_regularizer
            )
        if center:
            parts["beta"] = make(
                "beta", "beta", [size], beta_initializer, beta_regularizer
            )
        moving = weights.Maker(make.dtype, None, False, _GLOBAL)
        for part, start in [
            ("moving_mean", moving_mean_initializer),
            ("moving_variance", moving_variance_initializer),
        ]:
            parts[part] = moving(part, part, [size], start)
        return normalizers.normalize(
            inputs, parts, momentum, epsilon, training, fused, data_format
        )
