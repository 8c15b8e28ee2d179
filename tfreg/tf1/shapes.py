"""contrib's layers without variables: pooling, dropout, flatten, and repetition.

    x = tf1.layers.max_pool2d(pictures, [2, 2])
    x = tf1.layers.dropout(tf1.layers.flatten(x), keep_prob=0.5, is_training=True)

The trap: contrib's dropout has the share that is kept, tf.layers's that is dropped.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import collections
from tfreg.layers import dropout as masks
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
        stride: likewise.
        padding: VALID or SAME.
        data_format: NHWC, or NCHW where channels are the second dimension.
        outputs_collections: keys of collections.
        scope: name in them.

    Source: `tf.contrib.layers.max_pool2d`.
    """
    return pool(
        tf.nn.max_pool2d,
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

    Args: as for `max_pool2d`.

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
    """Returns a pooling of windows of kernel_size, stride, padding, data_format."""
    kernel_size, stride, padding, data_format = window
    outputs = function(
        inputs,
        weights.pair("kernel_size", kernel_size),
        weights.pair("stride", stride),
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
    """Returns the inputs, in training with a share of zeros and the others scaled up.

    What is dropped is a function of the step, the model's seed, the scope's name, the
    seed, the replica and the pass, of which a step may have several: another choice
    than TF1's. See `tfreg.layers.Dropout`.

    Args:
        inputs: floating.
        keep_prob: share that is kept, above 0 and at most 1.
        noise_shape: of what is chosen, with 1 where a dimension is dropped whole; None:
            that of the inputs.
        is_training: False: nothing is dropped; known when it is traced.
        outputs_collections: keys of collections.
        scope: its name; None: Dropout, with a number.
        seed: None: the step's alone.

    Raises:
        ValueError: `keep_prob` is out of range; in training outside a step whose number
            is known.

    Source: `tf.contrib.layers.dropout`.
    """
    if not 0 < keep_prob <= 1:
        raise ValueError(
            f"keep_prob must be a float above 0 and at most 1, got {keep_prob!r}: "
            "write 0.5 for a half"
        )
    inputs = tf.convert_to_tensor(inputs)
    with variable_scopes.variable_scope(scope, "Dropout") as here:
        outputs = inputs
        if weights.know("is_training", is_training) and keep_prob < 1:
            name = here.name if seed is None else f"{here.name}/{seed}"
            owner = variable_scopes.get_pass(here.name).owner
            outputs = masks.drop_out(inputs, 1 - keep_prob, name, owner, noise_shape)
        return weights.collect(outputs_collections, here.name, outputs)


@add_arg_scope
def flatten(
    inputs: tf.Tensor,
    outputs_collections: Collections = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Returns inputs `[batch, d1, ..., dn]` as `[batch, d1 * ... * dn]`.

    Args:
        inputs: of rank 1 or more.
        outputs_collections: keys of collections.
        scope: name in them.

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
    """Returns integer labels `[batch]` as `[batch, num_classes]`.

    Args:
        labels: classes from 0 on.
        num_classes: how many there are.
        on_value: at the class.
        off_value: elsewhere.
        outputs_collections: keys of collections.
        scope: name in them.

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
    """Returns what a layer makes of the inputs, of its outputs, and so on.

    Args:
        inputs: of the first.
        repetitions: how many there are.
        layer: a function of this module; its scopes are NAME/NAME_1, NAME/NAME_2, ...
        *args: of the layer.
        **kwargs: of the layer; with `scope` as NAME, else it is the layer's name.

    Source: `tf.contrib.layers.repeat`.
    """
    return _chain("Repeat", inputs, layer, [args] * repetitions, kwargs)


def stack(
    inputs: tf.Tensor,
    layer: Callable[..., tf.Tensor],
    stack_args: Sequence[Any],
    **kwargs: Any,
) -> tf.Tensor:
    """Returns what several layers of a kind make of the inputs, one after another.

    Args:
        inputs: of the first.
        layer: a function of this module; its scopes are as for `repeat`.
        stack_args: for each its argument, or a list of them.
        **kwargs: of all, as for `repeat`.

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
        function = getattr(layer, "func", layer)  # Of a functools.partial.
        name = scope or getattr(function, "__name__", default_name.lower())
        for number, args in enumerate(each, 1):
            inputs = layer(inputs, *args, scope=f"{name}_{number}", **kwargs)
    return inputs


def convert_collection_to_dict(
    collection: Hashable, clear_collection: bool = False
) -> dict[str, tf.Tensor]:
    """Returns what `outputs_collections` have collected in this step, by layers' names.

    Args:
        collection: its key.
        clear_collection: whether it is emptied.

    Source: `tf.contrib.layers.utils.convert_collection_to_dict`.
    """
    found = collections.get_collection(collection)
    if clear_collection:
        collections.clear_collection(collection)
    return {name: tensor for tensor in found for name in tensor.aliases}
