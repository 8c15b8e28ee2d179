"""contrib's batch_norm and bias_add.

    net = tf1.layers.batch_norm(pictures, is_training=True)
    net = tf1.layers.conv2d(net, 64, 3, normalizer_fn=tf1.layers.batch_norm)

The trap: update ops that nobody runs, so that the moving averages never move. Here they
move when the layer is called, and UPDATE_OPS stays empty.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow
from tfreg.collections import store
from tfreg.tf1 import variable_scopes, weights
from tfreg.tf1.arg_scopes import add_arg_scope
from tfreg.tf1.weights import ONES, ZEROS, Activation, Collections, Initializer

Regularizer = weights.Regularizer


@add_arg_scope
def batch_norm(
    inputs: tf.Tensor,
    decay: float = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Activation | None = None,
    param_initializers: dict[str, Initializer] | None = None,
    param_regularizers: dict[str, Regularizer] | None = None,
    updates_collections: Any = store.GraphKeys.UPDATE_OPS,
    is_training: bool = True,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    *,
    fused: bool | None = None,
    data_format: str = "NHWC",
    scope: Any = None,
) -> tf.Tensor:
    """Returns the inputs, normalized in each channel by the batch of this replica.

    Args:
        inputs: floating `[batch, ..., channels]`.
        decay: share of the old moving averages that each call in training keeps.
        center: whether there is an offset, beta.
        scale: whether there is a factor, gamma.
        epsilon: added to the variance.
        activation_fn: called with the outputs.
        param_initializers: of beta, gamma, moving_mean and moving_variance.
        param_regularizers: of beta and gamma, in place of the scope's.
        updates_collections: nothing depends on it: the averages move at once.
        is_training: whether the batch's moments are used and moved to, or the averages
            are used; known when it is traced.
        reuse: as for `variable_scope`.
        variables_collections: keys of collections, or those of each variable by name.
        outputs_collections: keys of collections.
        trainable: of beta and gamma.
        fused: False: not by TensorFlow's kernel, whose moving variance is of n - 1;
            which it is with inputs of rank 3 or more than 4, too.
        data_format: NHWC, or NCHW where channels are the second dimension.
        scope: of the variables' names; None: BatchNorm, with a number.

    Raises:
        ValueError: the channels aren't known, or `is_training` isn't.

    Source: `tf.contrib.layers.batch_norm`.
    """
    del updates_collections
    inputs = tf.convert_to_tensor(inputs)
    size = weights.find_channels(inputs, data_format)
    fused = fused is not False and inputs.shape.rank in (2, 4)
    starts, terms = param_initializers or {}, param_regularizers or {}
    with variable_scopes.variable_scope(scope, "BatchNorm", reuse=reuse) as here:
        dtype = tf.float32 if fused else inputs.dtype
        make = weights.Maker(dtype, variables_collections, trainable, replace=True)
        moving = dataclasses.replace(make, trainable=False)
        parts = {}
        for name, maker, default, is_wanted in [
            ("beta", make, ZEROS, center),
            ("gamma", make, ONES, scale),
            ("moving_mean", moving, ZEROS, True),
            ("moving_variance", moving, ONES, True),
        ]:
            if is_wanted:
                start = starts.get(name, default)
                parts[name] = maker(name, name, [size], start, terms.get(name))
        outputs = normalize(
            inputs, parts, decay, epsilon, is_training, fused, data_format
        )
        return weights.finish(outputs, here.name, activation_fn, outputs_collections)


@add_arg_scope
def bias_add(
    inputs: tf.Tensor,
    activation_fn: Activation | None = None,
    initializer: Initializer = ZEROS,
    regularizer: Regularizer | None = None,
    reuse: Any = None,
    variables_collections: Collections = None,
    outputs_collections: Collections = None,
    trainable: bool = True,
    data_format: str = "NHWC",
    scope: Any = None,
) -> tf.Tensor:
    """Returns the inputs plus a variable, biases, for each channel.

    Args:
        inputs: floating `[batch, ..., channels]`.
        activation_fn: called with the outputs.
        initializer: of the biases.
        regularizer: of the biases, in place of the scope's.
        reuse, variables_collections, outputs_collections, trainable, data_format: as
            for `batch_norm`.
        scope: of the variable's name; None: BiasAdd, with a number.

    Raises:
        ValueError: the channels aren't known.

    Source: `tf.contrib.layers.bias_add`.
    """
    inputs = tf.convert_to_tensor(inputs)
    size = weights.find_channels(inputs, data_format)
    with variable_scopes.variable_scope(scope, "BiasAdd", reuse=reuse) as here:
        make = weights.Maker(
            inputs.dtype, variables_collections, trainable, replace=True
        )
        biases = make("biases", "biases", [size], initializer, regularizer)
        outputs = tf.nn.bias_add(inputs, biases, data_format)
        return weights.finish(outputs, here.name, activation_fn, outputs_collections)


def normalize(
    inputs: tf.Tensor,
    parts: dict[str, Any],
    decay: float,
    epsilon: float,
    is_training: bool,
    fused: bool,
    data_format: str,
) -> tf.Tensor:
    """Returns the inputs normalized by their batch, or by the moving averages.

    In training the averages move at once, on replicas each in its own copy, of which
    the first is kept: as with the update ops of model_deploy's first clone.

    Args:
        inputs: of rank 2 or 4 if fused.
        parts: moving_mean and moving_variance, and beta or gamma where there are any.
        decay: share of the old averages that is kept.
        epsilon: added to the variance.
        is_training: known when it is traced.
        fused: by TensorFlow's kernel, whose moving variance is of `n - 1`.
        data_format: NHWC or NCHW.
    """
    is_training = weights.know("is_training", is_training)
    moving = [parts["moving_mean"], parts["moving_variance"]]
    ones = tf.ones(moving[0].shape, moving[0].dtype)
    gamma = tf.convert_to_tensor(parts.get("gamma", ones))
    beta = tf.convert_to_tensor(parts.get("beta", tf.zeros_like(ones)))
    old = [tf.convert_to_tensor(m) for m in moving]
    run = _run_fused if fused else _run_moments
    outputs, now = run(inputs, gamma, beta, old, epsilon, is_training, data_format)
    if is_training:
        for variable, before, after in zip(moving, old, now, strict=True):
            # Of no example the moments are NaN.
            change = tf.where(
                tf.size(inputs) > 0, before - after, tf.zeros_like(before)
            )
            _move(variable, (1 - decay) * change)
    return outputs


def _move(variable: tf.Variable, change: tf.Tensor) -> None:
    if tf.distribute.in_cross_replica_context():
        variable.assign_sub(change)
    else:  # By the handle: every replica moves its own copy.
        handle = _tensorflow.get_handle(variable)
        tf.raw_ops.AssignSubVariableOp(resource=handle, value=change)


def _run_fused(
    inputs: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    old: list[tf.Tensor],
    epsilon: float,
    is_training: bool,
    data_format: str,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    images = inputs
    if inputs.shape.rank == 2:
        size = inputs.shape[-1]
        shape = [-1, size, 1, 1] if data_format == "NCHW" else [-1, 1, 1, size]
        images = tf.reshape(inputs, shape)
    moments = {} if is_training else {"mean": old[0], "variance": old[1]}
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        images,
        gamma,
        beta,
        epsilon=epsilon,
        data_format=data_format,
        is_training=is_training,
        **moments,
    )
    return tf.reshape(outputs, tf.shape(inputs)), [mean, variance]


def _run_moments(
    inputs: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    old: list[tf.Tensor],
    epsilon: float,
    is_training: bool,
    data_format: str,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    rank = inputs.shape.rank
    axis = 1 if data_format == "NCHW" else rank - 1
    shape = [1] * axis + [-1] + [1] * (rank - axis - 1)
    now = old
    if is_training:
        axes = [a for a in range(rank) if a != axis]
        now = [tf.reshape(m, [-1]) for m in tf.nn.moments(inputs, axes)]
    mean, variance, beta, gamma = (
        tf.reshape(part, shape) for part in (*now, beta, gamma)
    )
    outputs = tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, epsilon)
    return outputs, now
