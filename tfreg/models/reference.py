"""Three small reference models.

    model = tfreg.models.MLP([128, 10], kernel_regularizer=tfreg.l2_regularizer(1e-4))
    logits = model(images)  # [batch, 10]

For other models, subclass tf.Module and call layers of `tfreg.layers`.
"""

import numbers
from collections.abc import Sequence

import tensorflow as tf

from tfreg import _checks, layers
from tfreg.collections import store, terms
from tfreg.layers import base, core, initializers

Regularizer = terms.Regularizer


def _pool(inputs: tf.Tensor) -> tf.Tensor:
    return layers.max_pool2d(inputs, 2, 2, "VALID")


def _check_images(inputs: tf.Tensor) -> tf.Tensor:
    """Returns images with a channel dimension.

    Raises:
        ValueError: another rank, or images so small that the convolutions leave
            nothing.
    """
    inputs = tf.convert_to_tensor(inputs)
    shape = inputs.shape
    if shape.rank not in (3, 4) or any(n is not None and n < 12 for n in shape[1:3]):
        raise ValueError(
            "inputs of a CNN must be [batch, height, width] or [batch, height, width, "
            f"channels], of 12 x 12 pixels or more, got shape {shape}: use an MLP"
        )
    return inputs[..., tf.newaxis] if shape.rank == 3 else inputs


class MLP(layers.Sequential):
    """A multilayer perceptron: `dense_0`, `dense_1`, ..., the last one linear.

    Args:
        widths: number of units of each layer; the last one is the number of outputs.
        activation: of every layer except the last; None: linear.
        dropout: fraction of each hidden layer's outputs to drop in training.
        kernel_regularizer: of every layer.
        bias_regularizer: of every layer.
        activity_regularizer: of every layer.
        seed: what the initial weights and the dropout masks come from; models of the
            same seed start alike. None: another one for each model, the same in every
            run, see `tfreg.Store`.

    Raises:
        ValueError: no widths, a width that isn't positive, or `dropout` is out of
            range.
        TypeError: `widths` is a number, or a function isn't callable.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: core.Activation | None = tf.nn.relu,
        dropout: float = 0.0,
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        seed: int | None = None,
    ) -> None:
        if isinstance(widths, numbers.Number | str):
            raise TypeError(
                f"widths must be several ints, got {widths!r}: write for example [10]"
            )
        if not len(widths):
            raise ValueError("widths must not be empty, got []: write [128, 10]")
        dropout = _checks.check_fraction("dropout", dropout)
        seed = store.get_default_store().seeds.take() if seed is None else seed
        members: list[base.Layer] = [layers.Flatten()]
        for i, units in enumerate(widths):
            last = i == len(widths) - 1
            dense = layers.Dense(
                units,
                None if last else activation,
                kernel_regularizer=kernel_regularizer,
                bias_regularizer=bias_regularizer,
                activity_regularizer=activity_regularizer,
                seed=seed,
            )
            members.append(dense)
            if dropout and not last:
                members.append(layers.Dropout(dropout, seed=seed))
        super().__init__(members)


class CNN(layers.Sequential):
    """A network of LeNet-5's size: two convolutions with pooling, three Dense layers.

    Args:
        num_outputs: number of units of the last layer.
        activation: of every layer except the last; None: linear.
        dropout: fraction of the first two Dense layers' outputs to drop in training.
        kernel_regularizer: of every layer.
        bias_regularizer: of every layer.
        activity_regularizer: of every layer.
        seed: what the initial weights and the dropout masks come from; models of the
            same seed start alike. None: another one for each model, the same in every
            run, see `tfreg.Store`.

    Raises:
        ValueError: `num_outputs` isn't positive, or `dropout` is out of range.
        TypeError: a function isn't callable.

    Source: LeCun et al. 1998, with max pooling and any activation.
    """

    def __init__(
        self,
        num_outputs: int,
        activation: core.Activation | None = tf.nn.relu,
        dropout: float = 0.0,
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        seed: int | None = None,
    ) -> None:
        _checks.check_int("num_outputs", num_outputs)
        seed = store.get_default_store().seeds.take() if seed is None else seed
        convolutions = [
            layers.Conv2D(
                filters,
                5,
                padding=padding,
                activation=activation,
                kernel_regularizer=kernel_regularizer,
                bias_regularizer=bias_regularizer,
                activity_regularizer=activity_regularizer,
                seed=seed,
            )
            for filters, padding in ((6, "SAME"), (16, "VALID"))
        ]
        head = MLP(
            [120, 84, num_outputs],
            activation,
            dropout,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            seed,
        )
        first, second = convolutions
        super().__init__([_check_images, first, _pool, second, _pool, *head.layers])


class _Block(layers.Sequential):
    """Two convolutions with a shortcut around them, which has no weights."""

    def __init__(
        self,
        name: str,
        filters: int,
        strides: int,
        activation: core.Activation,
        seed: int,
    ) -> None:
        first = _convolve(f"{name}/conv2d_0", filters, seed, strides, "VALID")
        second = _convolve(f"{name}/conv2d_1", filters, seed)
        norms = [_normalize(f"{name}/batch_norm_{i}") for i in range(2)]
        super().__init__([_pad, first, norms[0], activation, second, norms[1]])
        self._strides, self._filters, self._activation = strides, filters, activation

    def __call__(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        outputs = super().__call__(inputs, training)
        shortcut = inputs[:, :: self._strides, :: self._strides]
        before, odd = divmod(self._filters - inputs.shape[-1], 2)
        sides = [before, before + odd]
        shortcut = tf.pad(shortcut, [[0, 0], [0, 0], [0, 0], sides])
        return self._activation(outputs + shortcut)


def _pad(inputs: tf.Tensor) -> tf.Tensor:
    # SAME would centre the windows of stride 2 beside the shortcut's pixels.
    return tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])


def _convolve(
    name: str, filters: int, seed: int, strides: int = 1, padding: str = "SAME"
) -> layers.Conv2D:
    return layers.Conv2D(
        filters,
        3,
        strides,
        padding,
        use_bias=False,
        kernel_initializer=initializers.he_normal,
        seed=seed,
        name=name,
    )


def _normalize(name: str) -> layers.BatchNorm:
    return layers.BatchNorm(momentum=0.9, epsilon=1e-5, name=name)


def _average(inputs: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(inputs, [1, 2])


class ResNet20(layers.Sequential):
    """The residual network of 20 layers for CIFAR-10, 0.27 million weights.

    Args:
        num_outputs: number of units of the last layer.
        activation: after each sum and each first convolution; None: linear.
        seed: as for `CNN`.

    Raises:
        ValueError: `num_outputs` isn't positive.

    Source: He et al. 2016, "Deep residual learning", section 4.2, with shortcuts of
        option A.
    """

    def __init__(
        self,
        num_outputs: int,
        activation: core.Activation | None = tf.nn.relu,
        seed: int | None = None,
    ) -> None:
        _checks.check_int("num_outputs", num_outputs)
        seed = store.get_default_store().seeds.take() if seed is None else seed
        activation = activation or tf.identity
        blocks = [
            _Block(f"block_{i}", 16 << i // 3, 1 + (i in (3, 6)), activation, seed)
            for i in range(9)
        ]
        start = [_convolve("conv2d_0", 16, seed), _normalize("batch_norm_0")]
        head = layers.Dense(num_outputs, seed=seed)
        body = [*start, activation, *blocks, _average]
        super().__init__([_check_images, *body, head])
