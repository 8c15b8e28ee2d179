"""Layers with `kernel_regularizer`, `bias_regularizer` and `activity_regularizer`.

    regularizer = tfreg.l2_regularizer(1e-4)
    model = tfreg.layers.Sequential([
        tfreg.layers.Dense(128, tf.nn.relu, kernel_regularizer=regularizer),
        tfreg.layers.Dense(10),
    ])
    logits = model(x, training=True)

The trap: activity penalties that grow with the batch. Here each is divided by the batch
size; weight penalties are terms, made once with the variable.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _checks
from tfreg.collections import scopes
from tfreg.layers import base, initializers

Activation = Callable[[tf.Tensor], tf.Tensor]
Regularizer = base.Regularizer


class Dense(base.Layer):
    """A fully connected layer, `activation(inputs @ kernel + bias)`.

    Args:
        units: size of the outputs' last dimension.
        activation: a function of a tensor; None: linear.
        use_bias: whether a bias is added.
        kernel_initializer: (shape, seed) -> values of the kernel `[inputs, units]`.
        kernel_regularizer: callable, kernel -> scalar.
        bias_regularizer: callable, bias `[units]` -> scalar.
        activity_regularizer: callable, outputs -> scalar; divided by the batch size.
        seed: what the initial values come from, with the variable's name.
        name: first part of the variables' names.

    Raises:
        ValueError: `units` isn't positive, or a bias that isn't used is regularized.
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
        seed: int = 0,
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
        """What can be regularized here, the bias only where it is used."""
        return [t for t in super().targets if self.use_bias or t != "bias"]

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `[batch, ..., units]` for floating `[batch, ..., features]`."""
        del training
        inputs = self.check_inputs(inputs, min_rank=2)
        shape = [inputs.shape[-1], self.units]
        kernel = self._get_kernel("kernel", shape, inputs.dtype)
        if inputs.shape.rank == 2:
            return self._finish(tf.linalg.matmul(inputs, kernel))
        # matmul would make a kernel's gradient for each example, then add them up.
        return self._finish(tf.tensordot(inputs, kernel, 1))

    def _get_kernel(self, name: str, shape: list, dtype: tf.DType) -> tf.Tensor:
        return tf.cast(self.get_variable(name, shape, self.kernel_initializer), dtype)

    def _finish(self, outputs: tf.Tensor) -> tf.Tensor:
        """Adds the bias, activates and penalizes."""
        if self.use_bias:
            bias = self.get_variable("bias", [outputs.shape[-1]], initializers.zeros)
            outputs = tf.nn.bias_add(outputs, tf.cast(bias, outputs.dtype))
        if self.activation is not None:
            outputs = self.activation(outputs)
        return self.penalize_activity(outputs)


class Conv2D(Dense):
    """A convolution of pictures `[batch, height, width, channels]`.

    Args:
        filters: number of the outputs' channels.
        kernel_size: height and width of the kernel.
        strides: step of the kernel, the same in both directions.
        padding: "SAME" or "VALID".
        activation, use_bias, kernel_initializer, kernel_regularizer, bias_regularizer,
            activity_regularizer, seed, name: as for `Dense`; the kernel is
            `[height, width, inputs, filters]`.

    Raises:
        ValueError: a size isn't positive, or `padding` isn't known.

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
        seed: int = 0,
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

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `[batch, height', width', filters]`."""
        del training
        inputs = self.check_inputs(inputs, min_rank=4, max_rank=4)
        shape = [self.kernel_size, self.kernel_size, inputs.shape[-1], self.units]
        kernel = self._get_kernel("kernel", shape, inputs.dtype)
        return self._finish(tf.nn.conv2d(inputs, kernel, self.strides, self.padding))


class SeparableConv2D(Conv2D):
    """A convolution of each channel for itself, then one across the channels.

    The kernel's regularizer penalizes `depthwise_kernel`, `[height, width, inputs, 1]`,
    and `pointwise_kernel`, `[1, 1, inputs, filters]`, as contrib's did.

    Args: as for `Conv2D`.

    Source: `tf.contrib.layers.separable_conv2d`, `keras.layers.SeparableConv2D`.
    """

    parameters = {
        "depthwise_kernel": "kernel",
        "pointwise_kernel": "kernel",
        "bias": "bias",
    }

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
        return self._finish(
            tf.nn.separable_conv2d(inputs, depthwise, pointwise, strides, self.padding)
        )


class Embedding(base.Layer):
    """A row of a table for each integer.

    The table's gradient is IndexedSlices of the rows looked up, and an update takes no
    longer for a larger table. An `activity_regularizer` keeps it so: it penalizes the
    batch's rows alone, each as often as it was looked up, divided by the batch size. A
    `kernel_regularizer` penalizes all rows at every step, and its gradient is as large
    as the table.

    Args:
        num_rows: number of different integers, 0 <= input < num_rows.
        dim: length of a row.
        kernel_regularizer: callable, table `[num_rows, dim]` -> scalar.
        activity_regularizer: callable, the rows looked up -> scalar; divided by the
            batch size.
        seed: what the initial values come from, with the variable's name.
        name: first part of the variable's name `<name>/embeddings`.

    Source: `keras.layers.Embedding`; the penalty of the rows: Koren, Bell and Volinsky
        2009, per rating; Zhou et al. 2008, weighted-lambda-regularization.
    """

    parameters = {"embeddings": "kernel"}

    def __init__(
        self,
        num_rows: int,
        dim: int,
        kernel_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        regularizers = {"kernel": kernel_regularizer, "activity": activity_regularizer}
        super().__init__(name, seed, regularizers)
        self.num_rows = _checks.check_int("num_rows", num_rows)
        self.dim = _checks.check_int("dim", dim)

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `[batch, ..., dim]` for integers `[batch, ...]`."""
        del training
        inputs = self.check_inputs(inputs, min_rank=0, kind="integer")
        if inputs.dtype not in (tf.int32, tf.int64):
            inputs = tf.cast(inputs, tf.int32)
        shape = [self.num_rows, self.dim]
        table = self.get_variable("embeddings", shape, initializers.small_uniform)
        return self.penalize_activity(tf.gather(table, inputs))


@scopes.do_not_convert
def drop_out(
    inputs: tf.Tensor, rate: float, name: str, noise_shape: Any = None
) -> tf.Tensor:
    """Returns the inputs with a share of zeros and the others scaled up.

    Args:
        inputs: floating, of any shape.
        rate: the share, 0 <= rate < 1.
        name: decides with the step and the replica what is dropped.
        noise_shape: of what is chosen, which the inputs' is broadcast to; None: theirs.

    Raises:
        ValueError: outside a step whose number is known.
    """
    step = scopes.get_step_number()
    if step is None:
        raise ValueError(
            f"{name} must know the step in training, got none: put the step into "
            "`with tfreg.step_scope(step=optimizer.step):`"
        )
    number, seed = step
    place = zlib.crc32(f"{seed}/{name}/{scopes.get_replica() or 0}".encode())
    pair = tf.stack([tf.constant(place, tf.int64), tf.cast(number, tf.int64)])
    # Bits: tf.nn.experimental.stateless_dropout drops other inputs under XLA.
    shape = tf.shape(inputs) if noise_shape is None else noise_shape
    bits = tf.random.stateless_uniform(shape, pair, None, None, tf.uint32, alg="philox")
    least = tf.constant(min(round(rate * 2**32), 2**32 - 1), tf.uint32)
    kept = inputs * tf.constant(1 / (1 - rate), inputs.dtype)
    return tf.where(bits >= least, kept, tf.zeros_like(inputs))


class Dropout(base.Layer):
    """In training sets a share of the inputs to zero and scales up the others.

    What is dropped is a function of the step's seed, its number, the layer's name and
    the replica, so it is the same on a repeat and at a second call within the step.

    Args:
        rate: share that is dropped, 0 <= rate < 1.
        name: decides with the step what is dropped.

    Raises:
        ValueError: `rate` is out of range.

    Source: Srivastava et al. 2014; `tf.nn.experimental.stateless_dropout`, which is
        slower, and whose bfloat16 drops 0.008 at a rate of 0.001.
    """

    has_activity = False

    def __init__(self, rate: float, name: str | None = None) -> None:
        super().__init__(name)
        self.rate = _checks.check_fraction("rate", rate)

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the inputs, in training with a share of zeros.

        Raises:
            ValueError: in training outside a step whose number is known.
            TypeError: the inputs aren't floating.
        """
        inputs = self.check_inputs(inputs, min_rank=0)
        if not training or self.rate == 0:
            return inputs
        return drop_out(inputs, self.rate, self.name)


class Flatten(base.Layer):
    """Makes `[batch, d1, ..., dn]` into `[batch, d1 * ... * dn]`."""

    has_activity = False

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the inputs with all dimensions but the first made one.

        Raises:
            ValueError: a dimension but the first isn't known, or there is no first.
        """
        del training
        inputs = tf.convert_to_tensor(inputs)
        size = inputs.shape[1:].num_elements() if inputs.shape.rank else None
        if size is None:
            raise ValueError(
                f"inputs of {self.name} must have known dimensions after the first, "
                f"got shape {inputs.shape}: give them a static shape but for the batch"
            )
        # Of nothing -1 says nothing.
        return tf.reshape(inputs, [-1 if size else tf.shape(inputs)[0], size])


class Sequential(tf.Module):
    """Layers one after another; those without a name are called `dense_0`, `dense_1`...

    Args:
        layers: layers of this module, or functions of a tensor such as `tf.nn.relu`;
            those with an argument `training` are told whether it is.

    Raises:
        TypeError: a member isn't callable, or is a class.
        ValueError: two layers were given the same name.

    Source: `keras.Sequential`.
    """

    def __init__(self, layers: Sequence[Callable]) -> None:
        super().__init__()
        members = tuple(_checks.check_function("layers", m, "[f, g]") for m in layers)
        self._takes_training = tuple(map(base.takes_training, members))
        self.layers = members
        base.set_names(base.find_layers(members))

    def __setattr__(self, name: str, value: Any) -> None:
        # Before its layers are there it may be a subclass's own.
        if name.endswith("_regularizer") and hasattr(self, "layers"):
            base.refuse_attribute(self, name, value, "tfreg.rules.apply(rules, it)")
        super().__setattr__(name, value)

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the last layer's outputs."""
        for layer, takes in zip(self.layers, self._takes_training, strict=True):
            inputs = layer(inputs, training=training) if takes else layer(inputs)
        return inputs
