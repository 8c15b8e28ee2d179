"""The parts of every TF1 layer: variables with contrib's names, collected outputs.

    with variable_scopes.variable_scope(None, "fully_connected"):
        make = weights.Maker(x.dtype)
        kernel = make("weights", "kernel", [5, 3], weights.XAVIER, regularizer)

The trap: TF1 applied a layer's own regularizer *and* its scope's, under the names
`<layer>/kernel/Regularizer/...` and `<layer>/weights/Regularizer/...`. So do these.
"""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg.collections import store, terms
from tfreg.tf1 import collecting, initializers, variable_scopes, variables

Activation = Callable[[tf.Tensor], tf.Tensor]
Collections = Any  # A key or a list of keys; for variables also a dict, group -> keys.
Initializer = variable_scopes.Initializer
Regularizer = terms.Regularizer

ZEROS = tf.zeros_initializer()
ONES = tf.ones_initializer()
XAVIER = initializers.xavier_initializer()
_MODEL = [store.GraphKeys.GLOBAL_VARIABLES, store.GraphKeys.MODEL_VARIABLES]


@dataclasses.dataclass(frozen=True)
class Maker:
    """Creates the variables of one layer in the current scope.

    Attributes:
        dtype: of the variables.
        collections: keys of further collections, or a dict of them by variable.
        trainable: whether the variables are trained.
        keys: the collections that every variable joins.
        replace: whether a regularizer replaces the scope's, and its term has the
            variable's name.
    """

    dtype: tf.DType
    collections: Collections = None
    trainable: bool = True
    keys: Sequence[str] = tuple(_MODEL)
    replace: bool = False

    def __call__(
        self,
        name: str,
        kind: str,
        shape: Sequence[int],
        initializer: Initializer,
        regularizer: Regularizer | None = None,
        group: str | None = None,
        constraint: Any = None,
    ) -> tf.Variable:
        """Returns the variable, which the first pass creates.

        Args:
            name: of the variable, in the scope.
            kind: the term's name for the variable.
            shape: known dimensions.
            initializer: as for `get_variable`.
            regularizer: in addition to the scope's.
            group: key in `collections` if it is a dict; None: the name.
            constraint: as for `get_variable`.
        """
        keys = [*self._list_keys(group or name), *self.keys]
        in_place = regularizer if self.replace else None
        variable, created = variables.find_variable(
            name,
            shape,
            self.dtype,
            initializer,
            in_place,
            self.trainable,
            keys,
            constraint,
        )
        if not self.replace:
            for new in created:
                full_name = variable_scopes.join(kind)
                variables.add_regularizer(full_name, regularizer, new)
        return variable

    def make_bias(
        self,
        size: int,
        initializer: Initializer,
        regularizer: Regularizer | None,
        normalizer_fn: Callable[..., tf.Tensor] | None,
    ) -> tf.Variable | None:
        """Returns contrib's biases, None if the layer has none."""
        if initializer is None or normalizer_fn is not None:
            return None
        return self("biases", "bias", [size], initializer, regularizer)

    def _list_keys(self, group: str) -> list:
        keys = get_variable_collections(self.collections, group)
        return variables.list_keys(keys)


def get_variable_collections(variables_collections: Any, name: str) -> Any:
    """Returns the keys of the collections that a layer's variable joins.

    Args:
        variables_collections: the keys, or a dict of them by the variable's name.
        name: of the variable, e.g. weights.

    Source: `tf.contrib.layers.utils.get_variable_collections`.
    """
    if isinstance(variables_collections, dict):
        return variables_collections.get(name)
    return variables_collections


def collect(outputs_collections: Collections, name: str, outputs: tf.Tensor) -> Any:
    """Adds outputs to collections under a layer's name; returns them."""
    keys = variables.list_keys(outputs_collections)
    if keys:
        outputs = tf.identity(outputs)
        outputs.aliases, outputs._tfreg_name = [name], f"{name}/outputs"
        collecting.add_to_collections(keys, outputs)
    return outputs


def bind(
    normalizer_fn: Callable[..., tf.Tensor] | None, params: dict[str, Any] | None
) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """Returns a normalizer with its parameters bound, None if there is none."""
    if normalizer_fn is None:
        return None
    return functools.partial(normalizer_fn, **(params or {}))


def finish(
    outputs: tf.Tensor,
    name: str,
    functions: Sequence[Callable[[tf.Tensor], tf.Tensor] | None],
    outputs_collections: Collections,
) -> tf.Tensor:
    """Applies the functions that aren't None in order, and collects the outputs."""
    for function in functions:
        outputs = outputs if function is None else function(outputs)
    return collect(outputs_collections, name, outputs)


def check_sizes(name: str, value: Any, count: int = 2) -> list[int]:
    """Returns a size for each dimension, all equal if `value` is an int.

    Raises:
        ValueError: `value` is neither an int, of any type, nor `count` of them.
    """
    sizes = [value] * count if isinstance(value, numbers.Integral) else list(value)
    if len(sizes) != count:
        raise ValueError(
            f"{name} must be an int or {count} of them, got {value!r}: write one for "
            "each dimension of the window"
        )
    return [int(size) for size in sizes]


def find_channels(inputs: tf.Tensor, data_format: str, rank: int | None = None) -> int:
    """Returns the static number of channels.

    Raises:
        ValueError: the number isn't static, an unknown `data_format`, or inputs of
            another rank.
    """
    if data_format not in ("NHWC", "NCHW"):
        raise ValueError(
            f"data_format must be NHWC or NCHW, got {data_format!r}: write one of them"
        )
    if rank is not None and inputs.shape.rank != rank:
        raise ValueError(
            f"inputs must have rank {rank}, got shape {inputs.shape}: reshape them"
        )
    size = inputs.shape[1 if data_format == "NCHW" else -1]
    if size is None:
        raise ValueError(
            f"channels of the inputs must be known, got shape {inputs.shape}: "
            "give the inputs a static shape except for the batch"
        )
    return size


def convert_inputs(
    inputs: tf.Tensor, data_format: str, rank: int | None = None
) -> tuple[tf.Tensor, int]:
    """Returns the inputs as a tensor, and their channels as `find_channels`."""
    inputs = tf.convert_to_tensor(inputs)
    return inputs, find_channels(inputs, data_format, rank)


def multiply(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """Multiplies the last dimension of the inputs by a matrix, and adds a bias."""
    rank = inputs.shape.rank
    if rank == 2:
        outputs = tf.matmul(inputs, kernel)
    else:
        outputs = tf.tensordot(inputs, kernel, [[rank - 1], [0]])
    return outputs if bias is None else tf.nn.bias_add(outputs, bias)


def convolve(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor | None,
    stride: Any,
    padding: str,
    data_format: str,
    rate: Any,
) -> tf.Tensor:
    """Returns a convolution of 1 to 3 dimensions, plus a bias."""
    rank = inputs.shape.rank
    window = "DHW"[5 - rank :]
    outputs = tf.nn.convolution(
        inputs,
        kernel,
        check_sizes("stride", stride, rank - 2),
        padding.upper(),
        f"NC{window}" if data_format == "NCHW" else f"N{window}C",
        check_sizes("rate", rate, rank - 2),
    )
    return outputs if bias is None else tf.nn.bias_add(outputs, bias, data_format)


def convolve_transposed(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor | None,
    stride: Any,
    padding: str,
    data_format: str,
) -> tf.Tensor:
    """Returns the transpose of a 2D convolution, plus a bias."""
    strides, padding = check_sizes("stride", stride), padding.upper()
    first = data_format.index("H")
    sizes = tf.unstack(tf.shape(inputs))
    static = inputs.shape.as_list()
    for axis, (step, window) in enumerate(
        zip(strides, kernel.shape, strict=False), first
    ):
        more = max(window - step, 0) if padding == "VALID" else 0
        size = sizes[axis] if static[axis] is None else static[axis]
        sizes[axis] = size * step + (more if padding == "VALID" else 0)
    sizes[data_format.index("C")] = kernel.shape[2]
    outputs = tf.nn.conv2d_transpose(
        inputs, kernel, tf.stack(sizes), strides, padding, data_format
    )
    return outputs if bias is None else tf.nn.bias_add(outputs, bias, data_format)


def convolve_separable(
    inputs: tf.Tensor,
    kernels: tuple[tf.Tensor, tf.Tensor | None],
    bias: tf.Tensor | None,
    stride: Any,
    padding: str,
    data_format: str,
    rate: Any,
) -> tf.Tensor:
    """Returns a depthwise, then a pointwise 2D convolution, plus a bias."""
    depthwise, pointwise = kernels
    y, x = check_sizes("stride", stride)
    strides = [1, 1, y, x] if data_format == "NCHW" else [1, y, x, 1]
    rates = check_sizes("rate", rate)
    outputs = tf.nn.depthwise_conv2d(
        inputs, depthwise, strides, padding.upper(), data_format, rates
    )
    if pointwise is not None:
        outputs = tf.nn.conv2d(outputs, pointwise, 1, "VALID", data_format)
    return outputs if bias is None else tf.nn.bias_add(outputs, bias, data_format)


def check_static_bool(name: str, value: Any) -> bool:
    """Returns the static value of a bool.

    Raises:
        ValueError: it is a variable, or a tensor without a static value.
    """
    static = tf.get_static_value(value) if tf.is_tensor(value) else value
    if static is None or isinstance(value, tf.Variable):
        raise ValueError(
            f"{name} must be known when the function is traced, got {value!r}: pass a "
            "bool as a Python argument of the tf.function"
        )
    return bool(static)
