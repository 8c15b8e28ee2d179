"""Examples as NumPy arrays, and an order of them that (seed, epoch) gives.

    order = data.permute(len(dataset.train), seed=0, epoch=3)
    blocks = data.stream(dataset.train, order, examples_per_call=1_000)

The trap: a shuffle buffer has state, so that a resumed run sees another order. Here the
order of an epoch doesn't depend on earlier ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfreg import _checks

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Split:
    """Examples to train on or to evaluate.

    Args:
        x: inputs `[examples, ...]`; an array, a list or a pandas frame of numbers.
        y: targets `[examples, ...]`, integer classes or floating ones, likewise.
        pixels: whether x are uint8 pixels, which a Loop then feeds as float32 divided
            by 255. Without it uint8 are numbers like others, as ids of tokens.

    Raises:
        ValueError: x and y have other lengths, or pixels aren't uint8.
        TypeError: x or y isn't an array of numbers, as a dict or texts.
    """

    x: np.ndarray
    y: np.ndarray
    pixels: bool = False

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            object.__setattr__(self, name, _to_array(name, getattr(self, name)))
        if len(self.x) != len(self.y):
            raise ValueError(
                f"x and y must have as many examples, got {len(self.x)} and "
                f"{len(self.y)}: pass a target for each input"
            )
        if self.pixels and self.x.dtype != np.uint8:
            raise ValueError(
                f"x must be uint8 where pixels is True, got {self.x.dtype}: leave "
                "pixels out"
            )

    def __len__(self) -> int:
        return len(self.y)


def _to_array(name: str, values: Any) -> np.ndarray:
    """Returns the numbers of an array, a list or a pandas frame; a memory map stays."""
    to_numpy = getattr(values, "to_numpy", None) or getattr(values, "numpy", None)
    array = np.asanyarray(to_numpy() if callable(to_numpy) else values)
    if isinstance(values, dict) or array.dtype.kind not in "biufc":
        what = "a dict" if isinstance(values, dict) else f"values of {array.dtype}"
        advice = "encode texts by np.unique(y, return_inverse=True)[1]"
        raise TypeError(
            f"{name} must be an array of numbers, got {what}: "
            + ("pass one array" if isinstance(values, dict) else advice)
        )
    if array.ndim == 0:
        raise ValueError(f"{name} must be [examples, ...], got a scalar: pass a list")
    return array


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of one data set; `num_classes` is None if y holds targets."""

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int | None


def permute(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of an epoch's examples, a function of (seed, epoch) only.

    Args:
        num_examples: int from 1 to 2**31 - 1.
        seed: int from 0 to 2**64 - 1.
        epoch: int from 0 to 2**64 - 1.

    Returns:
        `[num_examples]` int32, every number from 0 to `num_examples - 1` once.

    Raises:
        ValueError: an argument isn't an int in its range.
    """
    _checks.check_int("num_examples", num_examples, 1, 2**31 - 1)
    _checks.check_int("seed", seed, 0, 2**64 - 1)
    _checks.check_int("epoch", epoch, 0, 2**64 - 1)
    key = np.array([seed, epoch], np.uint64)  # Without a dtype NumPy may use floats.
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.permutation(int(num_examples)).astype(np.int32)


def stream(
    split: Split, order: np.ndarray, examples_per_call: int
) -> "tf.data.Dataset":
    """Returns the examples in blocks, for data larger than the device's memory.

    Blocks are gathered on the host, up to two in advance. Arrays may be memory maps.

    Args:
        split: the examples.
        order: `[n]` integers from 0 to `len(split) - 1`, such as those of `permute`.
        examples_per_call: int >= 1, the rows of a block; the last block may be smaller.

    Returns:
        A tf.data.Dataset of (x, y), `[rows, ...]` each; only `rows` isn't static.

    Raises:
        ValueError: `order` or `examples_per_call` isn't as above.
    """
    import tensorflow as tf

    _checks.check_int("examples_per_call", examples_per_call, 1, 2**31 - 1)
    rows = np.array(order)
    fits = rows.ndim == 1 and rows.dtype.kind in "iu"
    if not fits or (rows.size and not 0 <= rows.min() <= rows.max() < len(split)):
        raise ValueError(
            f"order must be [n] ints in [0, {len(split)}), got {rows.tolist()!r:.60}: "
            "write permute(len(split), seed, epoch)"
        )
    arrays = (split.x, split.y)
    dtypes = [tf.as_dtype(array.dtype) for array in arrays]
    shapes = [[None, *array.shape[1:]] for array in arrays]

    def gather(start: np.ndarray) -> list[np.ndarray]:
        block = rows[start : start + examples_per_call]
        return [np.asarray(array[block]) for array in arrays]

    def fetch(start: "tf.Tensor") -> tuple["tf.Tensor", ...]:
        block = tf.numpy_function(gather, [start], dtypes)
        return tuple(map(tf.ensure_shape, block, shapes))

    starts = tf.data.Dataset.range(0, rows.size, int(examples_per_call))
    return starts.map(fetch).prefetch(2)
