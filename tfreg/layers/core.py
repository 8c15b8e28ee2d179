"""Layers with `kernel_regularizer`, `bias_regularizer` and `activity_regularizer`.

    regularizer = tfreg.l2_regularizer(1e-4)
    model = tfreg.layers.Sequential([
        tfreg.layers.Dense(128, tf.nn.relu, kernel_regularizer=regularizer),
        tfreg.layers.Dense(10),
    ])
    logits = model(x, training=True)

The trap: activity penalties that grow with the batch. tfreg divides them by the batch
size. A weight penalty is a term, created once with its variable.
"""

from collections.abc import Callable

import tensorflow as tf

from tfreg import _checks
from tfreg.collections import scopes
from tfreg.layers import base, foreign, initializers

Activation = Callable[[tf.Tensor], tf.Tensor]
Regularizer = base.Regularizer
ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "gelu", "selu", "softmax", "linear")


class Dense(base.Layer):
    """A fully connected layer: `activation(inputs @ kernel + bias)`.

    Args:
        units: size of the outputs' last dimension.
        activation: function of a tensor, or one of ACTIVATIONS; None: linear.
        use_bias: whether a bias is added.
        kernel_initializer: (shape, seed) -> values of the kernel `[inputs, units]`.
        kernel_regularizer: callable, kernel -> scalar.
        bias_regularizer: callable, bias `[units]` -> scalar.
        activity_regularizer: callable, outputs -> scalar; divided by the batch size.
        seed: determines the initial values, together with the names of the layer and
            the variable; None: different for each layer, see `tfreg.Store`.
        name: first part of the variables' names.

    Raises:
        ValueError: `units` isn't positive, or `bias_regularizer` is given without bias.
        TypeError: an activation, initializer or regularizer isn't callable.

    Source: `tf.compat.v1.layers.Dense`, `keras.layers.Dense`.
    """

    parameters = {"kernel": "kernel", "bias": "bias"}
    use_bias = True

    def __init__(
        self,
        units: int,
        activation: Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: initializers.Initializer = initializers.glorot_uniform,
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        self.use_bias = use_bias
        regularizers = {
            "kernel": kernel_regularizer,
            "bias": bias_regularizer,
            "activity": activity_regularizer,
        }
        super().__init__(name, seed, regularizers)
        self.units = _checks.check_int("units", units)
        if isinstance(activation, str) and activation in ACTIVATIONS:
            found = None if activation == "linear" else getattr(tf.nn, activation)
            activation = found
        if activation is not None:
            _checks.check_function("activation", activation, "tf.nn.relu")
        self.activation = activation
        self.kernel_initializer = _checks.check_function(
            "kernel_initializer",
            kernel_initializer,
            "initializers.he_normal",
        )

    @property
    def targets(self) -> list[str]:
        """The targets of regularizers, with the bias only if it is used."""
        return [t for t in super().targets if self.use_bias or t != "bias"]

    @scopes.do_not_convert
    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `[batch, ..., units]` for floating `[batch, ..., features]`.

        Args:
            inputs: a tensor, a SparseTensor `[batch, features]`, or a RaggedTensor with
                a known number of features. float64 inputs in the first call create
                float64 variables.
            training: has no effect.
        """
        del training
        if isinstance(inputs, tf.RaggedTensor):
            outputs = self._compute(self.check_inputs(inputs.flat_values, min_rank=2))
            return self.penalize_activity(inputs.with_flat_values(outputs))
        if isinstance(inputs, tf.SparseTensor):
            self.check_inputs(inputs.values, min_rank=1)
            self.check_shape(inputs.shape, min_rank=2, max_rank=2)
        else:
            inputs = self.check_inputs(inputs, min_rank=2)
        return self.penalize_activity(self._compute(inputs))

    def _compute(self, inputs: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
        shape = [inputs.shape[-1], self.units]
        kernel = self._get_kernel("kernel", shape, inputs.dtype)
        if isinstance(inputs, tf.SparseTensor):
            return self._finish(tf.sparse.sparse_dense_matmul(inputs, kernel))
        if inputs.shape.rank == 2:
            return self._finish(tf.linalg.matmul(inputs, kernel))
        # matmul would compute a gradient of the kernel for each example.
        return self._finish(tf.tensordot(inputs, kernel, 1))

    def _get_kernel(self, name: str, shape: list, dtype: tf.DType) -> tf.Tensor:
        initializer = self.kernel_initializer
        kernel = self.get_variable(name, shape, initializer, dtype=dtype)
        return tf.cast(kernel, dtype)

    def _finish(self, outputs: tf.Tensor) -> tf.Tensor:
        """Adds the bias and applies the activation."""
        if self.use_bias:
            shape, dtype = [outputs.shape[-1]], outputs.dtype
            bias = self.get_variable("bias", shape, initializers.zeros, dtype=dtype)
            outputs = tf.nn.bias_add(outputs, tf.cast(bias, dtype))
        if self.activation is None:
            return outputs
        return scopes.convert(self.activation)(outputs)


class Conv2D(Dense):
    """A convolution of images `[batch, height, width, channels]`.

    The kernel is `[height, width, inputs, filters]`.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel, in pixels.
        strides: stride of the kernel in both directions, in pixels.
        padding: "SAME" or "VALID".
        activation: as for `Dense`.
        use_bias: as for `Dense`.
        kernel_initializer: as for `Dense`.
        kernel_regularizer: as for `Dense`.
        bias_regularizer: as for `Dense`.
        activity_regularizer: as for `Dense`.
        seed: as for `Dense`.
        name: as for `Dense`.

    Raises:
        ValueError: a size isn't positive, `padding` isn't one of the two, or
            `bias_regularizer` is given without bias.
        TypeError: as for `Dense`.

    Source: `tf.compat.v1.layers.Conv2D`, `keras.layers.Conv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: str = "SAME",
        activation: Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: initializers.Initializer = initializers.glorot_uniform,
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            _checks.check_int("filters", filters),
            activation,
            use_bias,
            kernel_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            seed,
            name,
        )
        if padding not in ("SAME", "VALID"):
            raise ValueError(
                f"padding must be 'SAME' or 'VALID', got {padding!r}: write one of them"
            )
        self.kernel_size = _checks.check_int("kernel_size", kernel_size)
        self.strides = _checks.check_int("strides", strides)
        self.padding = padding

    @scopes.do_not_convert
    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `[batch, height', width', filters]`."""
        del training
        inputs = self.check_inputs(inputs, min_rank=4, max_rank=4)
        shape = [self.kernel_size, self.kernel_size, inputs.shape[-1], self.units]
        kernel = self._get_kernel("kernel", shape, inputs.dtype)
        outputs = tf.nn.conv2d(inputs, kernel, self.strides, self.padding)
        return self.penalize_activity(self._finish(outputs))


class SeparableConv2D(Conv2D):
    """A convolution of each channel separately, then a 1x1 convolution.

    `kernel_regularizer` penalizes `depthwise_kernel`, `[height, width, inputs, 1]`, and
    `pointwise_kernel`, `[1, 1, inputs, filters]`, as in contrib. The arguments and
    errors are those of `Conv2D`.

    Source: `tf.contrib.layers.separable_conv2d`, `keras.layers.SeparableConv2D`.
    """

    parameters = {
        "depthwise_kernel": "kernel",
        "pointwise_kernel": "kernel",
        "bias": "bias",
    }

    @scopes.do_not_convert
    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `[batch, height', width', filters]`."""
        del training
        inputs = self.check_inputs(inputs, min_rank=4, max_rank=4)
        size, channels, dtype = self.kernel_size, inputs.shape[-1], inputs.dtype
        shape = [size, size, channels, 1]
        depthwise = self._get_kernel("depthwise_kernel", shape, dtype)
        shape = [1, 1, channels, self.units]
        pointwise = self._get_kernel("pointwise_kernel", shape, dtype)
        strides = [1, self.strides, self.strides, 1]
        outputs = tf.nn.separable_conv2d(
            inputs, depthwise, pointwise, strides, self.padding
        )
        return self.penalize_activity(self._finish(outputs))


class Flatten(base.Layer):
    """Reshapes `[batch, d1, ..., dn]` to `[batch, d1 * ... * dn]`."""

    has_activity = False

    @scopes.do_not_convert
    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the inputs with all dimensions but the first flattened.

        Args:
            inputs: `[batch, d1, ..., dn]`, of any dtype.
            training: has no effect.

        Raises:
            ValueError: a dimension other than the first is unknown, or the inputs are a
                scalar.
        """
        del training
        foreign.check_symbolic(self.name, inputs)
        inputs = tf.convert_to_tensor(inputs)
        size = inputs.shape[1:].num_elements() if inputs.shape.rank else None
        if size is None:
            raise ValueError(
                f"inputs of {self.name} must have known dimensions after the first, "
                f"got shape {inputs.shape}: give them a static shape but for the batch"
            )
        # Without elements, -1 would be undetermined.
        return tf.reshape(inputs, [-1 if size else tf.shape(inputs)[0], size])
