"""Random numbers that are a function of their keys alone, bit for bit everywhere.

    keys = random.make_key(0, 7, tf.range(32))  # seed, step, examples: keys [32, 2]
    is_kept = random.bits(keys, [100]) >= 2**31  # [32, 100], True for a half
    noise = random.uniform(random.fold(keys, 1), [28, 28])  # [32, 28, 28]

The traps: `tf.random.stateless_uniform(alg="auto_select")`, whose bits depend on the
device, and philox, which XLA compiles to slow code; and one key for a batch, with which
the numbers depend on how the batch is divided. An integer hash gives the same bits
eagerly, in graph mode and under XLA, and a key for each example those of any replicas.
It is for simulation and training, not for secrets.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfreg import _checks
from tfreg.collections import scopes

# A tensor of integers or of 1-D shape, or a sequence of ints and scalar tensors.
Shape: TypeAlias = tf.Tensor | Sequence[int | tf.Tensor]

# uint32 throughout: on GPUs TensorFlow multiplies int32 on the host.
_START = 0x243F6A88, 0x85A308D3  # Of pi.
_STRIDE = 0x9E3779B1  # Of the golden ratio; odd, so that no two elements are equal.


@scopes.do_not_convert
def make_key(seed: int, *data: Any) -> tf.Tensor:
    """Returns the key of a seed and of data, such as the step's number.

    Args:
        seed: int from -2**63 to 2**64 - 1.
        *data: folded in this order, each as by `fold`.

    Returns:
        A uint32 key `[2]`, or keys `[n, 2]` where some data are of n examples.

    Raises:
        TypeError: data aren't integers.
        ValueError: an int has more than 64 bits, or data have another shape.

    Source: the roles of `jax.random.key` and `fold_in`; Salmon et al. 2011.
    """
    key = fold(tf.constant(_START, tf.uint32), seed)
    for each in data:
        key = fold(key, each)
    return key


@scopes.do_not_convert
def fold(keys: tf.Tensor, data: Any) -> tf.Tensor:
    """Returns new keys, each a function of a key and an integer.

    Different integers give different keys. The integer's dtype doesn't matter.

    Args:
        keys: uint32, `[2]` or `[n, 2]`.
        data: an int, an integer scalar, integers `[n]` for n examples, or pairs
            `[n, 2]` of 32-bit words, such as other keys.

    Returns:
        uint32 `[2]`, or `[n, 2]` if the keys or the data are of n examples.

    Raises:
        TypeError: the data aren't integers.
        ValueError: an int has more than 64 bits, or the data have another shape.
    """
    low, high = _split(data)
    keys = tf.convert_to_tensor(keys, tf.uint32)
    # For given keys this is a permutation of the pairs (low, high).
    first = _mix(tf.bitwise.bitwise_xor(keys[..., 0], low))
    second = _mix(tf.bitwise.bitwise_xor(keys[..., 1], high) + first)
    return tf.stack([first + second, second], axis=-1)


def _split(data: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the low and the high 32 bits of integers."""
    if isinstance(data, int | np.integer):
        number = _checks.check_int("data", data, -(2**63), 2**64 - 1) % 2**64
        low, high = number % 2**32, number // 2**32
        return tf.constant(low, tf.uint32), tf.constant(high, tf.uint32)
    data = tf.convert_to_tensor(data)
    if not data.dtype.is_integer:
        raise TypeError(
            f"data must be integers, got {data.dtype.name}: cast them, or fold the "
            "words of tf.bitcast"
        )
    if data.shape.rank == 2 and data.shape[1] == 2:
        return tf.cast(data[:, 0], tf.uint32), tf.cast(data[:, 1], tf.uint32)
    if data.shape.rank not in (0, 1):
        raise ValueError(
            f"data must be a scalar, [n] or [n, 2], got shape {data.shape}: reshape "
            "them, or fold one column after the other"
        )
    data = tf.cast(data, tf.int64)
    high = tf.bitwise.right_shift(data, tf.constant(32, tf.int64))
    return tf.cast(data, tf.uint32), tf.cast(high, tf.uint32)


def _multiply(x: tf.Tensor, shift: int, factor: int) -> tf.Tensor:
    """Returns one round of a hash: a xor-shift and a product, a permutation."""
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, shift)) * factor


def _mix(x: tf.Tensor) -> tf.Tensor:
    """Returns a hash: each bit of `x` changes each bit of it with probability 1/2.

    Source: lowbias32 of Chris Wellons' hash-prospector, a permutation.
    """
    x = _multiply(_multiply(x, 16, 0x7FEB352D), 15, 0x846CA68B)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, 16))


@scopes.do_not_convert
def bits(keys: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Returns random bits, a function of each key and the position in its numbers.

    Args:
        keys: uint32, `[2]` or `[n, 2]`.
        shape: of the numbers of one key; ints, scalar tensors, or a 1-D tensor.

    Returns:
        uint32, `shape` or `[n, *shape]`; uniform from 0 to 2**32 - 1. More numbers of
        one key begin with the fewer.
    """
    keys = tf.convert_to_tensor(keys, tf.uint32)
    dims = tf.convert_to_tensor(shape, tf.int32)
    numbers = tf.cast(tf.range(tf.reduce_prod(dims)), tf.uint32) * _STRIDE
    # The keys' second words separate those whose first words give nearby numbers.
    x = _multiply(numbers + keys[..., :1], 16, 0x21F0AAAD)
    x = _mix(tf.bitwise.bitwise_xor(x, keys[..., 1:]))
    return tf.reshape(x, tf.concat([tf.shape(keys)[:-1], dims], 0))


@scopes.do_not_convert
def uniform(keys: tf.Tensor, shape: Shape, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Returns random numbers in [0, 1), a function of each key and the position.

    Args:
        keys: uint32, `[2]` or `[n, 2]`.
        shape: as for `bits`.
        dtype: floating. The numbers are the multiples of its spacing below 1, all as
            probable; those of float64 are multiples of 2**-32.

    Returns:
        `dtype`, `shape` or `[n, *shape]`.
    """
    dtype = tf.as_dtype(dtype)
    num_bits = {tf.float16: 11, tf.bfloat16: 8, tf.float32: 24}.get(dtype, 32)
    wide = tf.float64 if num_bits == 32 else tf.float32
    x = tf.bitwise.right_shift(bits(keys, shape), 32 - num_bits)
    return tf.cast(tf.cast(x, wide) * tf.constant(2.0**-num_bits, wide), dtype)
