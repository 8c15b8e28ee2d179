"""What every layer of TF1 does: variables by contrib's names, outputs collected.

    with variable_scopes.variable_scope(None, "fully_connected"):
        make = weights.Maker(x.dtype)
        kernel = make("weights", "kernel", [5, 3], weights.XAVIER, regularizer)

The trap: TF1's layers ran a layer's own regularizer *and* its scope's, under the names
`<layer>/kernel/Regularizer/...` and `<layer>/weights/Regularizer/...`. So do these.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import collections
from tfreg.collections import scopes, store, terms
from tfreg.tf1 import initializers, variable_scopes, variables

Activation = Callable[[tf.Tensor], tf.Tensor]
Collections = Any  # A key, a list of keys; of variables also a dict: group -> those.
Initializer = variable_scopes.Initializer
Regularizer = terms.Regularizer

ZEROS = tf.zeros_initializer()
ONES = tf.ones_initializer()
XAVIER = initializers.xavier_initializer()
_MODEL = [store.GraphKeys.GLOBAL_VARIABLES, store.GraphKeys.MODEL_VARIABLES]


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes the variables of one layer in the scope that is open.

    `replace`: a regularizer takes the place of the scope's, and its term has the
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
    ) -> tf.Variable:
        """Returns the variable, made in the first pass.

        Args:
            name: in the scope.
            kind: in place of the name in that of its term.
            shape: known dimensions.
            initializer: as for `get_variable`.
            regularizer: beside the scope's.
            group: key in `collections` if they are a dict; None: the name.
        """
        keys = [*self._list_keys(group or name), *self.keys]
        scopes_own = regularizer if self.replace else None
        variable, made = variables.find_variable(
            name, shape, self.dtype, initializer, scopes_own, self.trainable, keys
        )
        if made and regularizer is not None and not self.replace:
            variables.add_regularizer(kind, regularizer, variable)
        return variable

    def make_bias(
        self,
        size: int,
        initializer: Initializer,
        regularizer: Regularizer | None,
        normalizer_fn: Callable[..., tf.Tensor] | None,
    ) -> tf.Variable | None:
        """Returns contrib's biases, None where there are none."""
        if initializer is None or normalizer_fn is not None:
            return None
        return self("biases", "bias", [size], initializer, regularizer)

    def _list_keys(self, group: str) -> list:
        found = self.collections
        return variables.list_keys(
            found.get(group) if isinstance(found, dict) else found
        )


def collect(outputs_collections: Collections, name: str, outputs: tf.Tensor) -> Any:
    """Returns the outputs, added to collections of the step under a layer's name.

    In eager code outside a step nothing is collected: it would go stale.
    """
    keys = variables.list_keys(outputs_collections)
    if keys and scopes.get_record() is not None:
        outputs = tf.identity(outputs)
        outputs.aliases, outputs._tfreg_name = [name], f"{name}/outputs"
        collections.add_to_collections(keys, outputs)
    return outputs


def finish(
    outputs: tf.Tensor,
    name: str,
    activation_fn: Activation | None,
    outputs_collections: Collections,
    normalizer_fn: Callable[..., tf.Tensor] | None = None,
    normalizer_params: dict[str, Any] | None = None,
) -> tf.Tensor:
    """Returns the outputs, normalized, activated and collected."""
    if normalizer_fn is not None:
        outputs = normalizer_fn(outputs, **(normalizer_params or {}))
    if activation_fn is not None:
        outputs = activation_fn(outputs)
    return collect(outputs_collections, name, outputs)


def pair(name: str, value: Any) -> tuple[int, int]:
    """Returns two sizes, of height and width, for one or two."""
    sizes = [value, value] if isinstance(value, int) else list(value)
    if len(sizes) != 2:
        raise ValueError(
            f"{name} must be an int or two, got {value!r}: write [height, width]"
        )
    return int(sizes[0]), int(sizes[1])


def find_channels(inputs: tf.Tensor, data_format: str, rank: int | None = None) -> int:
    """Returns the known number of channels.

    Raises:
        ValueError: it isn't known; another `data_format`; inputs of another rank.
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
            "give them a static shape but for the batch"
        )
    return size


def multiply(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """Returns the inputs times a matrix along their last dimension, plus a bias."""
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
    """Returns a 2D convolution of the inputs, plus a bias."""
    outputs = tf.nn.convolution(
        inputs,
        kernel,
        pair("stride", stride),
        padding.upper(),
        data_format,
        pair("rate", rate),
    )
    return outputs if bias is None else tf.nn.bias_add(outputs, bias, data_format)


def convolve_back(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor | None,
    stride: Any,
    padding: str,
    data_format: str,
) -> tf.Tensor:
    """Returns the transpose of a 2D convolution, plus a bias."""
    strides, padding = pair("stride", stride), padding.upper()
    first = data_format.index("H")
    sizes = tf.unstack(tf.shape(inputs))
    known = inputs.shape.as_list()
    for axis, (step, window) in enumerate(
        zip(strides, kernel.shape, strict=False), first
    ):
        more = max(window - step, 0) if padding == "VALID" else 0
        size = sizes[axis] if known[axis] is None else known[axis]
        sizes[axis] = size * step + (more if padding == "VALID" else 0)
    sizes[data_format.index("C")] = kernel.shape[2]
    outputs = tf.nn.conv2d_transpose(
        inputs, kernel, tf.stack(sizes), strides, padding, data_format
    )
    return outputs if bias is None else tf.nn.bias_add(outputs, bias, data_format)


def convolve_each(
    inputs: tf.Tensor,
    depthwise: tf.Tensor,
    pointwise: tf.Tensor | None,
    bias: tf.Tensor | None,
    stride: Any,
    padding: str,
    data_format: str,
    rate: Any,
) -> tf.Tensor:
    """Returns a 2D convolution of each channel, mixed by `pointwise`, plus a bias."""
    high, wide = pair("stride", stride)
    strides = [1, 1, high, wide] if data_format == "NCHW" else [1, high, wide, 1]
    rates = pair("rate", rate)
    outputs = tf.nn.depthwise_conv2d(
        inputs, depthwise, strides, padding.upper(), data_format, rates
    )
    if pointwise is not None:
        outputs = tf.nn.conv2d(outputs, pointwise, 1, "VALID", data_format)
    return outputs if bias is None else tf.nn.bias_add(outputs, bias, data_format)


def know(name: str, value: Any) -> bool:
    """Returns a bool that is known when it is traced.

    Raises:
        ValueError: it is a tensor of a trace.
    """
    known = tf.get_static_value(value) if tf.is_tensor(value) else value
    if known is None or isinstance(value, tf.Variable):
        raise ValueError(
            f"{name} must be known when it is traced, got {value!r}: pass a bool as a "
            "Python argument of the tf.function"
        )
    return bool(known)
