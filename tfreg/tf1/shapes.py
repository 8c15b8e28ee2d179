"""contrib's layers without variables: pooling, dropout, flatten, and repetition.

    x = tf1.layers.max_pool2d(images, [2, 2])
    x = tf1.layers.dropout(tf1.layers.flatten(x), keep_prob=0.5, is_training=True)

The trap: contrib's dropout takes the fraction to keep, that of tf.layers the fraction
to drop.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg.layers import dropout as masks
from tfreg.layers import pooling
from tfreg.tf1 import variable_scopes, weights
from tfreg.tf1.arg_scopes import add_arg_scope
from tfreg.tf1.weights import Collections


@add_arg_scope
def max_pool2d(
    inputs: tf.Tensor,
    kernel_size: Any,
    stride: Any = 2,
    padding: str = "VALID",
    data_format: str = "NHWC",
    outputs_collections: Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Returns the largest value of each window and channel.

    Args:
        inputs: `[batch, height, width, channels]`.
        kernel_size: an int, or height and width.
        stride: an int, or height and width.
        padding: VALID or SAME.
        data_format: NHWC, or NCHW for channels in the second dimension.
        outputs_collections: keys of the collections that the outputs are added to.
        scope: name of the outputs in the collections.

    Source: `tf.contrib.layers.max_pool2d`.
    """
    return pool(
        pooling.max_pool2d,
        inputs,
        (kernel_size, stride, padding, data_format),
        outputs_collections,
        scope or "MaxPool2D",
    )


@add_arg_scope
def avg_pool2d(
    inputs: tf.Tensor,
    kernel_size: Any,
    stride: Any = 2,
    padding: str = "VALID",
    data_format: str = "NHWC",
    outputs_collections: Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Returns the mean of each window and channel.

    The arguments are those of `max_pool2d`.

    Source: `tf.contrib.layers.avg_pool2d`.
    """
    return pool(
        tf.nn.avg_pool2d,
        inputs,
        (kernel_size, stride, padding, data_format),
        outputs_collections,
        scope or "AvgPool2D",
    )


def pool(
    function: Callable[..., tf.Tensor],
    inputs: tf.Tensor,
    window: tuple[Any, Any, str, str],
    outputs_collections: Collections,
    name: str,
) -> tf.Tensor:
    """Returns the outputs of a pooling function, added to collections.

    Args:
        function: `tf.nn.max_pool2d` or `tf.nn.avg_pool2d`.
        inputs: as for `max_pool2d`.
        window: its kernel_size, stride, padding and data_format.
        outputs_collections: as for `max_pool2d`.
        name: of the outputs in the collections.
    """
    kernel_size, stride, padding, data_format = window
    outputs = function(
        inputs,
        weights.check_sizes("kernel_size", kernel_size),
        weights.check_sizes("stride", stride),
        padding.upper(),
        data_format,
    )
    return weights.collect(outputs_collections, variable_scopes.join(name), outputs)


@add_arg_scope
def dropout(
    inputs: tf.Tensor,
    keep_prob: float = 0.5,
    noise_shape: Sequence[int] | tf.Tensor | None = None,
    is_training: bool = True,
    outputs_collections: Collections = None,
    scope: Any = None,
    seed: int | None = None,
) -> tf.Tensor:
    """Applies dropout.

    The mask is a function of the step, the model's seed, the scope's name, the seed,
    the replica and the pass, of which a step may have several; TF1 draws another one.
    See `tfreg.layers.Dropout`.

    Args:
        inputs: floating.
        keep_prob: fraction to keep, above 0 and at most 1.
        noise_shape: shape of the mask, 1 for a dimension that is dropped as a unit;
            None: the shape of the inputs.
        is_training: whether to drop; a Python bool, or a tensor with a static value.
        outputs_collections: keys of the collections that the outputs are added to.
        scope: its name; None: Dropout, with a number.
        seed: int; None: the step's seed alone.

    Raises:
        ValueError: `keep_prob` is out of range, or the training step has no number.

    Source: `tf.contrib.layers.dropout`.
    """
    if not 0 < keep_prob <= 1:
        raise ValueError(
            f"keep_prob must be a float above 0 and at most 1, got {keep_prob!r}: "
            "write 0.5 for a half"
        )
    inputs = tf.convert_to_tensor(inputs)
    with variable_scopes.variable_scope(scope, "Dropout") as var_scope:
        outputs = inputs
        if weights.check_static_bool("is_training", is_training) and keep_prob < 1:
            name = var_scope.name if seed is None else f"{var_scope.name}/{seed}"
            owner = variable_scopes.get_pass(var_scope.name).owner
            outputs = masks.drop_out(inputs, 1 - keep_prob, name, owner, noise_shape)
        return weights.collect(outputs_collections, var_scope.name, outputs)


@add_arg_scope
def flatten(
    inputs: tf.Tensor,
    outputs_collections: Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Returns inputs `[batch, d1, ..., dn]` as `[batch, d1 * ... * dn]`.

    Args:
        inputs: of rank 1 or more.
        outputs_collections: keys of the collections that the outputs are added to.
        scope: name of the outputs in the collections.

    Source: `tf.contrib.layers.flatten`.
    """
    inputs = tf.convert_to_tensor(inputs)
    size = inputs.shape[1:].num_elements()
    batch = tf.shape(inputs)[0] if inputs.shape[0] is None else inputs.shape[0]
    outputs = tf.reshape(inputs, [batch, -1 if size is None else size])
    name = variable_scopes.join(scope or "Flatten")
    return weights.collect(outputs_collections, name, outputs)


@add_arg_scope
def one_hot_encoding(
    labels: tf.Tensor,
    num_classes: int,
    on_value: float = 1.0,
    off_value: float = 0.0,
    outputs_collections: Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Returns the one-hot encoding `[batch, num_classes]` of labels `[batch]`.

    Args:
        labels: integer, from 0 to `num_classes - 1`.
        num_classes: number of classes.
        on_value: value at the label.
        off_value: value of the other classes.
        outputs_collections: keys of the collections that the outputs are added to.
        scope: name of the outputs in the collections.

    Source: `tf.contrib.layers.one_hot_encoding`.
    """
    outputs = tf.one_hot(labels, num_classes, on_value, off_value)
    name = variable_scopes.join(scope or "OneHotEncoding")
    return weights.collect(outputs_collections, name, outputs)


@add_arg_scope
def softmax(logits: tf.Tensor, scope: str | None = None) -> tf.Tensor:
    """Returns probabilities along the last dimension.

    Source: `tf.contrib.layers.softmax`.
    """
    return tf.nn.softmax(logits, name=scope)


def repeat(
    inputs: tf.Tensor,
    repetitions: int,
    layer: Callable[..., tf.Tensor],
    *args: Any,
    **kwargs: Any,
) -> tf.Tensor:
    """Applies the same layer several times in a row.

    Args:
        inputs: of the first layer.
        repetitions: number of layers.
        layer: a function of `tf1.layers`; its scopes are NAME/NAME_1, NAME/NAME_2, ...
        *args: the layer's other arguments.
        **kwargs: the layer's other arguments; `scope` is NAME, by default the name of
            the layer.

    Source: `tf.contrib.layers.repeat`.
    """
    return _chain("Repeat", inputs, layer, [args] * repetitions, kwargs)


def stack(
    inputs: tf.Tensor,
    layer: Callable[..., tf.Tensor],
    stack_args: Sequence[Any],
    **kwargs: Any,
) -> tf.Tensor:
    """Applies a layer several times in a row, with different arguments.

    Args:
        inputs: of the first layer.
        layer: a function of `tf1.layers`, with scopes as for `repeat`.
        stack_args: for each layer its argument, or a list of arguments.
        **kwargs: the arguments that all layers have, as for `repeat`.

    Source: `tf.contrib.layers.stack`.
    """
    each = [a if isinstance(a, list | tuple) else [a] for a in stack_args]
    return _chain("Stack", inputs, layer, each, kwargs)


def _chain(
    default_name: str,
    inputs: tf.Tensor,
    layer: Callable[..., tf.Tensor],
    each: Sequence[Sequence[Any]],
    kwargs: dict[str, Any],
) -> tf.Tensor:
    kwargs = dict(kwargs)
    scope = kwargs.pop("scope", None)
    with variable_scopes.variable_scope(scope, default_name):
        function = getattr(layer, "func", layer)  # For a functools.partial.
        name = scope or getattr(function, "__name__", default_name.lower())
        for number, args in enumerate(each, 1):
            inputs = layer(inputs, *args, scope=f"{name}_{number}", **kwargs)
    return inputs
