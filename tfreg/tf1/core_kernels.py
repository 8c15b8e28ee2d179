"""What the layers of tf.layers with a kernel have in common.

    bias = Bias(True, weights.ZEROS, None, None)
    layer = Layer(("fc", "dense", None), tf.nn.relu, bias, None, True)
    kernel = Kernel([5, 3], None, tf1.l2_regularizer(0.1), None)
    x = layer.apply(x, 3, {"kernel": kernel}, lambda made, bias: x @ made[0] + bias)

The trap: an activity regularizer's penalty belongs to the step, and its owner is the
forward function, since the function of the layer has no object.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfreg.collections import ownership, store, terms
from tfreg.tf1 import variable_scopes, weights
from tfreg.tf1.weights import Activation, Initializer, Regularizer

GLOBAL = (store.GraphKeys.GLOBAL_VARIABLES,)
_FORMATS = {"channels_last": "NHWC", "channels_first": "NCHW"}
Constraint = Callable[[Any], Any]


def convert_format(data_format: str) -> str:
    """Returns NHWC or NCHW.

    Raises:
        ValueError: an unknown format.
    """
    if data_format not in _FORMATS:
        raise ValueError(
            f"data_format must be one of {', '.join(_FORMATS)}, got {data_format!r}: "
            "choose one of them"
        )
    return _FORMATS[data_format]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel to create: its shape, and the arguments of the layer for it."""

    shape: Any
    initializer: Initializer
    regularizer: Regularizer | None
    constraint: Constraint | None


@dataclasses.dataclass(frozen=True)
class Bias:
    """Whether to create a bias, and the arguments of the layer for it."""

    is_used: bool
    initializer: Initializer
    regularizer: Regularizer | None
    constraint: Constraint | None


@dataclasses.dataclass(frozen=True)
class Layer:
    """What a layer has besides its kernels.

    Attributes:
        scope: its name, its default name, and whether variables are reused.
        activation: an argument of the layer, as are the remaining attributes.
    """

    scope: tuple[str | None, str, Any]
    activation: Activation | None
    bias: Bias
    activity_regularizer: Regularizer | None
    trainable: bool

    def apply(
        self,
        inputs: tf.Tensor,
        size: int,
        kernels: Mapping[str, Kernel],
        compute: Callable[[list[tf.Tensor], tf.Tensor | None], tf.Tensor],
    ) -> tf.Tensor:
        """Creates the variables and returns the activated outputs.

        Args:
            inputs: of the layer; they determine the dtype.
            size: number of channels of the outputs.
            kernels: the kernels by name, in the order of creation.
            compute: the kernels and the bias -> the outputs.
        """
        name, default_name, reuse = self.scope
        layer_scope = variable_scopes.variable_scope(name, default_name, reuse=reuse)
        with layer_scope as var_scope:
            make = weights.Maker(inputs.dtype, None, self.trainable, GLOBAL)
            created = [
                make(
                    name,
                    name,
                    kernel.shape,
                    kernel.initializer,
                    kernel.regularizer,
                    constraint=kernel.constraint,
                )
                for name, kernel in kernels.items()
            ]
            bias = None
            if self.bias.is_used:
                start, regularizer = self.bias.initializer, self.bias.regularizer
                constraint = self.bias.constraint
                bias = make(
                    "bias", "bias", [size], start, regularizer, constraint=constraint
                )
            return self._activate(compute(created, bias), var_scope.name)

    def _activate(self, outputs: tf.Tensor, name: str) -> tf.Tensor:
        """Activates the outputs, and adds their penalty to the step."""
        if self.activation is not None:
            outputs = self.activation(outputs)
        regularizer = self.activity_regularizer
        if regularizer is not None:
            # The forward function owns it: no total misses it once the model is gone.
            owner = variable_scopes.get_pass(name).owner
            path = f"{name}/ActivityRegularizer/{terms.get_name(regularizer)}"
            ownership.add_activity(regularizer, outputs, path, owner, owner.collections)
        return outputs
