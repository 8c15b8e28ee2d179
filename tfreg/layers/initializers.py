"""Initial values from stateless seeds: the same seed gives the same weights.

    kernel = tfreg.layers.initializers.he_normal([784, 128], seed=(0, 1))

The trap: a global seed, with which the weights of a layer depend on those created
before.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

Seed = tuple[int, int]
Initializer = Callable[[Sequence[int], Seed], tf.Tensor]

# Deviation of a normal distribution truncated at two deviations.
_TRUNCATED_DEVIATION = 0.87962566103423978


def _compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """Returns the numbers of inputs and outputs per unit of a kernel, at least 1."""
    if len(shape) < 2:
        raise ValueError(
            f"shape must have rank 2 or more, got {tuple(shape)}: "
            "use small_uniform, zeros or ones"
        )
    field = math.prod(shape[:-2])
    return max(1, field * shape[-2]), max(1, field * shape[-1])


def glorot_uniform(shape: Sequence[int], seed: Seed) -> tf.Tensor:
    """Returns uniform values of variance `2 / (fan_in + fan_out)`, float32.

    Args:
        shape: `[..., inputs, outputs]`, of rank 2 or more.
        seed: two integers, which alone determine the values.

    Raises:
        ValueError: the rank is below 2.

    Source: Glorot and Bengio 2010; `keras.initializers.GlorotUniform`.
    """
    limit = math.sqrt(6 / sum(_compute_fans(shape)))
    return tf.random.stateless_uniform(shape, seed, -limit, limit)


def he_normal(shape: Sequence[int], seed: Seed) -> tf.Tensor:
    """Returns truncated normal values of variance `2 / fan_in`, float32.

    Args:
        shape: `[..., inputs, outputs]`, of rank 2 or more.
        seed: two integers, which alone determine the values.

    Raises:
        ValueError: the rank is below 2.

    Source: He et al. 2015; `keras.initializers.HeNormal`.
    """
    deviation = math.sqrt(2 / _compute_fans(shape)[0]) / _TRUNCATED_DEVIATION
    return tf.random.stateless_truncated_normal(shape, seed, stddev=deviation)


def small_uniform(shape: Sequence[int], seed: Seed) -> tf.Tensor:
    """Returns uniform values in [-0.05, 0.05), float32, for embeddings.

    Source: `keras.initializers.RandomUniform`.
    """
    return tf.random.stateless_uniform(shape, seed, -0.05, 0.05)


def zeros(shape: Sequence[int], seed: Seed) -> tf.Tensor:
    """Returns zeros, float32. Source: `keras.initializers.Zeros`."""
    del seed
    return tf.zeros(shape)


def ones(shape: Sequence[int], seed: Seed) -> tf.Tensor:
    """Returns ones, float32. Source: `keras.initializers.Ones`."""
    del seed
    return tf.ones(shape)
