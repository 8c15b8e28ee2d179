"""contrib's normalizations without moving averages.

    x = tf1.layers.layer_norm(x)  # each example by its own moments
    x = tf1.layers.instance_norm(images)  # each channel of each image
    x = tf1.layers.group_norm(tf1.layers.conv2d(images, 16, 3), groups=8)

The trap: contrib's layer_norm takes the moments over all dimensions but the first, so
over time too in `[batch, time, channels]`; begin_norm_axis=-1 is the papers'.
"""

from typing import Any

import tensorflow as tf

from tfreg.tf1 import variable_scopes, weights
from tfreg.tf1.arg_scopes import add_arg_scope
from tfreg.tf1.weights import ONES, ZEROS, Activation, Collections, Initializer


def _make_parts(
    inputs: tf.Tensor,
    shape: list[int],
    parts: dict[str, bool],
    initializers: dict[str, Initializer] | None,
    variables_collections: Collections,
    trainable: bool,
) -> tuple[tf.Variable | None, tf.Variable | None]:
    """Returns beta and gamma of a shape, None for one that `parts` doesn't want."""
    make = weights.Maker(inputs.dtype, variables_collections, trainable, replace=True)
    starts = {"beta": ZEROS, "gamma": ONES} | (initializers or {})
    beta, gamma = (
        make(name, name, shape, starts[name]) if parts[name] else None
        for name in ("beta", "gamma")
    )
    return beta, gamma


def _check_axis(name: str, axis: int, inputs: tf.Tensor) -> None:
    rank = inputs.shape.rank
    if not -rank <= axis < rank:
        raise ValueError(
            f"{name} must be an axis of inputs of shape {inputs.shape}, got "
            f"{axis!r}: write -1 for the last one"
        )


@add_arg_scope
def layer_norm(
    inputs: tf.Tensor,
    center: bool = True,
    scale: bool = True,
    activation_fn: Activation | None = None,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    begin_norm_axis: int = 1,
    begin_params_axis: int = -1,
    scope: Any = None,
) -> tf.Tensor:
    """Normalizes each example by the moments of its last dimensions.

    Args:
        inputs: floating `[batch, ..., channels]`.
        center: whether to add an offset, beta.
        scale: whether to multiply by a scale, gamma.
        activation_fn: applied to the outputs.
        reuse: as for `variable_scope`.
        variables_collections: keys of the collections that the variables join; or a
            dict of such keys, by the variable's name.
        outputs_collections: keys of the collections that the outputs are added to.
        trainable: whether beta and gamma are trained.
        begin_norm_axis: first dimension of the moments, which reach to the last.
        begin_params_axis: first dimension of beta and gamma.
        scope: variable scope; None: LayerNorm, with a number.

    Raises:
        ValueError: an axis is out of range, or dimensions of beta aren't static.

    Source: `tf.contrib.layers.layer_norm`.
    """
    inputs = tf.convert_to_tensor(inputs)
    rank = inputs.shape.rank
    _check_axis("begin_norm_axis", begin_norm_axis, inputs)
    _check_axis("begin_params_axis", begin_params_axis, inputs)
    shape = inputs.shape[begin_params_axis:]
    if not shape.is_fully_defined():
        raise ValueError(
            f"dimensions from begin_params_axis on must be known, got {inputs.shape}: "
            "give the inputs a static shape except for the batch"
        )
    with variable_scopes.variable_scope(scope, "LayerNorm", reuse=reuse) as var_scope:
        wanted = {"beta": center, "gamma": scale}
        beta, gamma = _make_parts(
            inputs, shape.as_list(), wanted, None, variables_collections, trainable
        )
        axes = list(range(begin_norm_axis % rank, rank))
        mean, variance = tf.nn.moments(inputs, axes, keepdims=True)
        # float16 has no 1e-12.
        epsilon = 1e-3 if inputs.dtype == tf.float16 else 1e-12
        outputs = tf.nn.batch_normalization(
            inputs, mean, variance, beta, gamma, epsilon
        )
        outputs = tf.ensure_shape(outputs, inputs.shape)
        functions = (activation_fn,)
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


@add_arg_scope
def instance_norm(
    inputs: tf.Tensor,
    center: bool = True,
    scale: bool = True,
    epsilon: float = 1e-6,
    activation_fn: Activation | None = None,
    param_initializers: dict[str, Initializer] | None = None,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    data_format: str = "NHWC",
    scope: Any = None,
) -> tf.Tensor:
    """Normalizes each channel of each example by its moments.

    Args:
        inputs: floating `[batch, ..., channels]`.
        epsilon: added to the variance.
        param_initializers: of beta and gamma.
        data_format: NHWC, or NCHW for channels in the second dimension.
        scope: variable scope; None: InstanceNorm, with a number.

    The remaining arguments are those of `layer_norm`.

    Raises:
        ValueError: the channels aren't static.

    Source: `tf.contrib.layers.instance_norm`.
    """
    inputs, size = weights.convert_inputs(inputs, data_format)
    rank = inputs.shape.rank
    axis = 1 if data_format == "NCHW" else rank - 1
    scope_name = "InstanceNorm"
    with variable_scopes.variable_scope(scope, scope_name, reuse=reuse) as var_scope:
        wanted = {"beta": center, "gamma": scale}
        shape = [1] * axis + [size] + [1] * (rank - axis - 1)
        parts = _make_parts(
            inputs, [size], wanted, param_initializers, variables_collections, trainable
        )
        beta, gamma = (p if p is None else tf.reshape(p, shape) for p in parts)
        axes = [a for a in range(1, rank) if a != axis]
        mean, variance = tf.nn.moments(inputs, axes, keepdims=True)
        outputs = tf.nn.batch_normalization(
            inputs, mean, variance, beta, gamma, epsilon
        )
        functions = (activation_fn,)
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


@add_arg_scope
def group_norm(
    inputs: tf.Tensor,
    groups: int = 32,
    channels_axis: int = -1,
    reduction_axes: Any = (-3, -2),
    center: bool = True,
    scale: bool = True,
    epsilon: float = 1e-6,
    activation_fn: Activation | None = None,
    param_initializers: dict[str, Initializer] | None = None,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    scope: Any = None,
    mean_close_to_zero: bool = False,
) -> tf.Tensor:
    """Normalizes groups of channels of each example by their moments.

    Args:
        inputs: floating `[batch, ..., channels]`.
        groups: number of groups, a divisor of the number of channels.
        channels_axis: dimension of the channels.
        reduction_axes: the other dimensions of the moments.
        epsilon: added to the variance.
        param_initializers: of beta and gamma.
        scope: variable scope; None: GroupNorm, with a number.
        mean_close_to_zero: whether the variance is `E[x**2] - E[x]**2`.

    The remaining arguments are those of `layer_norm`.

    Raises:
        ValueError: the channels aren't static, or `groups` doesn't divide them.

    Source: `tf.contrib.layers.group_norm`.
    """
    inputs = tf.convert_to_tensor(inputs)
    rank = inputs.shape.rank
    axis = channels_axis % rank
    axes = [axis + 1] + [a + (a > axis) for a in (a % rank for a in reduction_axes)]
    size = inputs.shape[axis]
    _check_groups(groups, inputs, channels_axis, axis + 1 in axes[1:])
    with variable_scopes.variable_scope(scope, "GroupNorm", reuse=reuse) as var_scope:
        wanted = {"beta": center, "gamma": scale}
        parts = _make_parts(
            inputs, [size], wanted, param_initializers, variables_collections, trainable
        )
        split = [groups, size // groups]
        shape = [1] * axis + split + [1] * (rank - axis - 1)
        beta, gamma = (p if p is None else tf.reshape(p, shape) for p in parts)
        old = tf.shape(inputs)
        x = tf.reshape(inputs, tf.concat([old[:axis], split, old[axis + 1 :]], 0))
        mean, variance = _find_moments(x, axes, mean_close_to_zero)
        x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)
        outputs = tf.ensure_shape(tf.reshape(x, old), inputs.shape)
        functions = (activation_fn,)
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


def _check_groups(groups: int, inputs: tf.Tensor, axis: int, is_reduced: bool) -> None:
    size = inputs.shape[axis]
    if size is None or size % groups or is_reduced:
        raise ValueError(
            "groups must divide a known number of channels, apart from reduction_axes, "
            f"got {groups!r} for axis {axis} of {inputs.shape}: choose another"
        )


def _find_moments(
    x: tf.Tensor, axes: list[int], mean_close_to_zero: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the mean and the variance, which may be `E[x**2] - E[x]**2`."""
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    if mean_close_to_zero:
        square = tf.reduce_mean(tf.square(x), axes, keepdims=True)
        variance = square - tf.square(mean)
    return mean, variance
