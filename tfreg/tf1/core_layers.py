"""The functions of tf.layers, whose names and defaults differ from contrib's.

    x = core_layers.conv2d(images, 32, 3, padding="same", activation=tf.nn.relu)
    x = core_layers.dense(core_layers.flatten(x), 10, kernel_regularizer=regularizer)

Call them in the forward function of a `tf1.Model`. The trap: padding is "valid", the
outputs are linear, and the variables are called kernel and bias.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfreg.layers import pooling
from tfreg.tf1 import shapes, variable_scopes, weights
from tfreg.tf1.core_convolutions import (
    conv1d,
    conv2d,
    conv2d_transpose,
    conv3d,
    separable_conv2d,
)
from tfreg.tf1.core_kernels import (
    GLOBAL,
    Bias,
    Constraint,
    Kernel,
    Layer,
    convert_format,
)
from tfreg.tf1.normalizers import Norm, check_unset
from tfreg.tf1.weights import ONES, ZEROS, Activation, Initializer, Regularizer

__all__ = [
    "average_pooling2d",
    "batch_normalization",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "dense",
    "dropout",
    "flatten",
    "max_pooling2d",
    "separable_conv2d",
]


def _find_format(inputs: tf.Tensor, axis: int) -> str:
    """Returns the data format of inputs with the channels at an axis."""
    rank = inputs.shape.rank
    if axis not in (-1, rank - 1) and (axis, rank) != (1, 4):
        raise ValueError(
            f"axis must be -1, or 1 for images, got {axis!r} with shape "
            f"{inputs.shape}: transpose the inputs"
        )
    return "NCHW" if axis == 1 and rank == 4 else "NHWC"


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
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """Returns `activation(inputs @ kernel + bias)`.

    Args:
        inputs: floating `[batch, d1, ..., dn, channels]`.
        units: size of the last dimension of the outputs.
        activation: None: the outputs are linear.
        use_bias: whether to add a bias.
        kernel_initializer: as for `get_variable`.
        bias_initializer: as for `get_variable`.
        kernel_regularizer: in addition to the scope's.
        bias_regularizer: in addition to the scope's.
        activity_regularizer: of the outputs. Its penalty is divided by the batch size
            and belongs to the step.
        kernel_constraint: as for `get_variable`.
        bias_constraint: as for `get_variable`.
        trainable: whether the variables are trained.
        name: variable scope; None: dense, with a number.
        reuse: as for `variable_scope`.

    Raises:
        ValueError: the channels aren't static.

    Source: `tf.compat.v1.layers.dense`.
    """
    inputs, size = weights.convert_inputs(inputs, "NHWC")
    bias = Bias(use_bias, bias_initializer, bias_regularizer, bias_constraint)
    scope = (name, "dense", reuse)
    layer = Layer(scope, activation, bias, activity_regularizer, trainable)
    kernel = Kernel(
        [size, units], kernel_initializer, kernel_regularizer, kernel_constraint
    )

    def compute(kernels: list[tf.Tensor], bias: tf.Tensor | None) -> tf.Tensor:
        return weights.multiply(inputs, kernels[0], bias)

    return layer.apply(inputs, units, {"kernel": kernel}, compute)


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
        strides: an int, or height and width.
        padding: valid or same.
        data_format: channels_last or channels_first.
        name: ignored.

    Source: `tf.compat.v1.layers.max_pooling2d`.
    """
    window = (pool_size, strides, padding, convert_format(data_format))
    return shapes.pool(
        pooling.max_pool2d, inputs, window, None, name or "max_pooling2d"
    )


def average_pooling2d(
    inputs: tf.Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> tf.Tensor:
    """Returns the mean of each window and channel.

    The arguments are those of `max_pooling2d`.

    Source: `tf.compat.v1.layers.average_pooling2d`.
    """
    window = (pool_size, strides, padding, convert_format(data_format))
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
    """Applies dropout.

    Args:
        rate: fraction to drop, at least 0 and below 1.
        training: whether to drop; a Python bool, or a tensor with a static value.

    The remaining arguments are those of `tf1.layers.dropout`.

    Raises:
        ValueError: as for `tf1.layers.dropout`.

    Source: `tf.compat.v1.layers.dropout`.
    """
    with variable_scopes.variable_scope(name, "dropout") as var_scope:
        return shapes.dropout(
            inputs, 1 - rate, noise_shape, training, None, var_scope, seed
        )


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
    beta_constraint: Constraint | None = None,
    gamma_constraint: Constraint | None = None,
    training: bool = False,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
    renorm: bool = False,
    renorm_clipping: None = None,
    renorm_momentum: float = 0.99,
    fused: bool | None = None,
    virtual_batch_size: None = None,
    adjustment: None = None,
) -> tf.Tensor:
    """Normalizes each channel by the moments of this replica's batch.

    Args:
        inputs: floating `[batch, ..., channels]`.
        axis: dimension of the channels: the last one, or 1 for images.
        momentum: fraction of the moving averages that a training step keeps.
        epsilon: added to the variance.
        center: whether to add an offset, beta.
        scale: whether to multiply by a scale, gamma.
        beta_initializer: as for `get_variable`, like those of the other variables.
        gamma_initializer: as for `get_variable`.
        moving_mean_initializer: as for `get_variable`.
        moving_variance_initializer: as for `get_variable`.
        beta_regularizer: in addition to the scope's.
        gamma_regularizer: in addition to the scope's.
        beta_constraint: as for `get_variable`.
        gamma_constraint: as for `get_variable`.
        training: whether to normalize by the batch's moments and update the moving
            averages, instead of using the averages; a Python bool, or a tensor with a
            static value.
        trainable: whether beta and gamma are trained.
        name: variable scope; None: batch_normalization, with a number.
        reuse: as for `variable_scope`.
        renorm: only False; batch renormalization isn't there.
        renorm_clipping: only None.
        renorm_momentum: ignored.
        fused: False: don't use TensorFlow's fused kernel, whose moving variance is
            divided by `n - 1`. It takes only inputs of rank 4.
        virtual_batch_size: only None.
        adjustment: only None.

    Raises:
        ValueError: an argument isn't the only one that it may be; another axis; the
            channels or `training` aren't static.

    Source: `tf.compat.v1.layers.batch_normalization`.
    """
    del renorm_momentum
    check_unset(renorm=renorm, renorm_clipping=renorm_clipping)
    check_unset(virtual_batch_size=virtual_batch_size, adjustment=adjustment)
    inputs = tf.convert_to_tensor(inputs)
    data_format = _find_format(inputs, axis)
    fused = fused is not False and inputs.shape.rank == 4
    gamma = (gamma_initializer, gamma_regularizer, gamma_constraint) if scale else ()
    beta = (beta_initializer, beta_regularizer, beta_constraint) if center else ()
    moving = (moving_mean_initializer, moving_variance_initializer)
    norm = Norm(momentum, epsilon, training, fused, data_format)
    with variable_scopes.variable_scope(name, "batch_normalization", reuse=reuse):
        make = weights.Maker(inputs.dtype, None, trainable, GLOBAL)
        parts = norm.make_parts(make, inputs, {"gamma": gamma, "beta": beta}, moving)
        return norm.normalize(inputs, parts)
