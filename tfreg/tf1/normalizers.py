"""contrib's batch_norm and bias_add.

    net = tf1.layers.batch_norm(images, is_training=True)
    net = tf1.layers.conv2d(net, 64, 3, normalizer_fn=tf1.layers.batch_norm)

The trap: in TF1 the moving averages don't change unless UPDATE_OPS are run. This layer
updates them when it is called, and UPDATE_OPS stays empty.
"""

import dataclasses
from collections.abc import Mapping
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
    batch_weights: None = None,
    fused: bool | None = None,
    data_format: str = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: Any = None,
    renorm: bool = False,
    renorm_clipping: None = None,
    renorm_decay: float = 0.99,
    adjustment: None = None,
) -> tf.Tensor:
    """Normalizes each channel by the moments of this replica's batch.

    Args:
        inputs: floating `[batch, ..., channels]`.
        decay: fraction of the moving averages that a training step keeps.
        center: whether to add an offset, beta.
        scale: whether to multiply by a scale, gamma.
        epsilon: added to the variance.
        activation_fn: applied to the outputs.
        param_initializers: of beta, gamma, moving_mean and moving_variance.
        param_regularizers: of beta and gamma, instead of the scope's.
        updates_collections: ignored: the averages are updated by the call.
        is_training: whether to normalize by the batch's moments and update the moving
            averages, instead of using the averages; a Python bool, or a tensor with a
            static value.
        reuse: as for `variable_scope`.
        variables_collections: keys of the collections that the variables join; or a
            dict of such keys, by the variable's name.
        outputs_collections: keys of the collections that the outputs are added to.
        trainable: whether beta and gamma are trained.
        batch_weights: only None.
        fused: False: don't use TensorFlow's fused kernel, whose moving variance is
            divided by `n - 1`. It takes only inputs of rank 2 or 4.
        data_format: NHWC, or NCHW for channels in the second dimension.
        zero_debias_moving_mean: only False.
        scope: variable scope; None: BatchNorm, with a number.
        renorm: only False; batch renormalization isn't there.
        renorm_clipping: only None.
        renorm_decay: ignored.
        adjustment: only None.

    Raises:
        ValueError: an argument isn't the only one that it may be; the channels or
            `is_training` aren't static.

    Source: `tf.contrib.layers.batch_norm`.
    """
    del updates_collections, renorm_decay
    check_unset(batch_weights=batch_weights, renorm=renorm, adjustment=adjustment)
    check_unset(renorm_clipping=renorm_clipping)
    check_unset(zero_debias_moving_mean=zero_debias_moving_mean)
    inputs = tf.convert_to_tensor(inputs)
    fused = fused is not False and inputs.shape.rank in (2, 4)
    norm = Norm(decay, epsilon, is_training, fused, data_format)
    starts, moving = _find_starts(center, scale, param_initializers, param_regularizers)
    with variable_scopes.variable_scope(scope, "BatchNorm", reuse=reuse) as var_scope:
        make = weights.Maker(
            inputs.dtype, variables_collections, trainable, replace=True
        )
        outputs = norm.normalize(inputs, norm.make_parts(make, inputs, starts, moving))
        functions = (activation_fn,)
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


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
    """Adds a variable, biases, to the channels.

    Args:
        inputs: floating `[batch, ..., channels]`.
        activation_fn: applied to the outputs.
        initializer: of the biases.
        regularizer: of the biases, instead of the scope's.
        scope: variable scope; None: BiasAdd, with a number.

    The remaining arguments are those of `batch_norm`.

    Raises:
        ValueError: the channels aren't static.

    Source: `tf.contrib.layers.bias_add`.
    """
    inputs, size = weights.convert_inputs(inputs, data_format)
    with variable_scopes.variable_scope(scope, "BiasAdd", reuse=reuse) as var_scope:
        make = weights.Maker(
            inputs.dtype, variables_collections, trainable, replace=True
        )
        biases = make("biases", "biases", [size], initializer, regularizer)
        outputs = tf.nn.bias_add(inputs, biases, data_format)
        functions = (activation_fn,)
        return weights.finish(outputs, var_scope.name, functions, outputs_collections)


def check_unset(**arguments: Any) -> None:
    """Raises where an argument that tfreg doesn't have is set.

    Raises:
        ValueError: one is neither None nor False.
    """
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(
                f"{name} must be left out, got {value!r}: write its effect by hand, or "
                "leave it out"
            )


# An initializer, and if there are any a regularizer and a constraint; or nothing.
Start = tuple[Any, ...]


def _find_starts(
    center: bool,
    scale: bool,
    initializers: Mapping[str, Initializer] | None,
    regularizers: Mapping[str, Regularizer] | None,
) -> tuple[dict[str, Start], tuple[Initializer, Initializer]]:
    """Returns how beta and gamma start, and the moving averages."""
    initializers, regularizers = initializers or {}, regularizers or {}
    starts = {
        name: (initializers.get(name, start), regularizers.get(name)) if is_used else ()
        for name, start, is_used in [("beta", ZEROS, center), ("gamma", ONES, scale)]
    }
    mean = initializers.get("moving_mean", ZEROS)
    return starts, (mean, initializers.get("moving_variance", ONES))


@dataclasses.dataclass(frozen=True)
class Norm:
    """How a batch is normalized.

    Attributes:
        decay: fraction of the old averages to keep.
        epsilon: added to the variance.
        is_training: whether to use the batch's moments; a bool with a static value.
        fused: whether to use TensorFlow's kernel, whose moving variance is divided by
            `n - 1`. It has parameters of float32.
        data_format: NHWC or NCHW.
    """

    decay: float
    epsilon: float
    is_training: bool
    fused: bool
    data_format: str

    def make_parts(
        self,
        make: weights.Maker,
        inputs: tf.Tensor,
        starts: Mapping[str, Start],
        moving: tuple[Initializer, Initializer],
    ) -> dict[str, tf.Variable]:
        """Creates the variables of a batch normalization.

        Args:
            make: creates beta and gamma, and, not trainable, the moving averages.
            inputs: with a static number of channels.
            starts: of beta and gamma, in the order of creation.
            moving: initializers of the moving mean and variance.

        Returns:
            The variables by name, each of shape `[channels]`.

        Raises:
            ValueError: the channels aren't static.
        """
        size = weights.find_channels(inputs, self.data_format)
        if self.fused:
            make = dataclasses.replace(make, dtype=tf.float32)
        parts = {}
        for name, start in starts.items():
            if start:
                initializer, regularizer, *rest = start
                constraint = rest[0] if rest else None
                parts[name] = make(
                    name, name, [size], initializer, regularizer, constraint=constraint
                )
        make = dataclasses.replace(make, trainable=False)
        for name, initializer in zip(
            ("moving_mean", "moving_variance"), moving, strict=True
        ):
            parts[name] = make(name, name, [size], initializer)
        return parts

    def normalize(self, inputs: tf.Tensor, parts: dict[str, Any]) -> tf.Tensor:
        """Normalizes the inputs by their moments, or by the moving averages.

        In training the averages are updated. Each replica updates its own copy, of
        which the first is kept, as with the update ops of model_deploy's first clone.

        Args:
            inputs: of rank 2 or 4 if fused.
            parts: moving_mean and moving_variance; beta and gamma if there are any.

        Raises:
            ValueError: `is_training` isn't static.
        """
        is_training = weights.check_static_bool("is_training", self.is_training)
        moving = [parts["moving_mean"], parts["moving_variance"]]
        ones = tf.ones(moving[0].shape, moving[0].dtype)
        gamma = tf.convert_to_tensor(parts.get("gamma", ones))
        beta = tf.convert_to_tensor(parts.get("beta", tf.zeros_like(ones)))
        old = [tf.convert_to_tensor(m) for m in moving]
        run = _run_fused if self.fused else _run_moments
        outputs, moments = run(
            inputs, gamma, beta, old, self.epsilon, is_training, self.data_format
        )
        if is_training:
            for variable, before, after in zip(moving, old, moments, strict=True):
                # The moments of an empty batch are NaN.
                change = tf.where(
                    tf.size(inputs) > 0, before - after, tf.zeros_like(before)
                )
                _subtract(variable, (1 - self.decay) * change)
        return outputs


def _subtract(variable: tf.Variable, change: tf.Tensor) -> None:
    if tf.distribute.in_cross_replica_context():
        variable.assign_sub(change)
    else:  # By the handle: every replica updates its own copy.
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
    moments = old
    if is_training:
        axes = [a for a in range(rank) if a != axis]
        moments = [tf.reshape(m, [-1]) for m in tf.nn.moments(inputs, axes)]
    mean, variance, beta, gamma = (
        tf.reshape(part, shape) for part in (*moments, beta, gamma)
    )
    outputs = tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, epsilon)
    return outputs, moments
