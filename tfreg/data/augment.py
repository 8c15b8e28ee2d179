"""Augmentation of batches of images on the device, with a key for each example.

    change = augment.chain(augment.flip(), augment.crop(4), augment.cutout(8))
    keys = tfreg.random.make_key(0, 3, tf.range(6))  # seed, epoch, examples: [6, 2]
    images, y = change((images, y), keys)

A function of this module takes a batch `(x, y)` or `(x, y, weights)` and keys
`[n, 2]`, and returns a batch of the same shapes. The trap: `tf.image`'s functions under
`map_fn`, which work on one picture after the other, and whose random numbers depend on
the order. These work on the whole batch, compile under XLA, and give each example the
same result in every mode, in any batch and on any replica.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfreg import _checks
from tfreg.collections import random, scopes

Batch: TypeAlias = tuple[Any, ...]  # (x, y) or (x, y, weights).
Augmentation: TypeAlias = Callable[[Batch, tf.Tensor], Batch]

_QUANTILES = 4096  # Cells of the table of a Beta distribution.


def _of_images(
    change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], name: str
) -> Augmentation:
    """Returns an augmentation of a function of images and keys."""

    @scopes.do_not_convert
    def augment(batch: Batch, keys: tf.Tensor) -> Batch:
        images = _check_images(batch[0], name)
        return change(images, _check_keys(keys)), *batch[1:]

    augment.__name__ = augment.__qualname__ = name
    return augment


def _check_images(x: Any, name: str) -> tf.Tensor:
    if tf.nest.is_nested(x):
        raise TypeError(
            f"x of {name} must be a tensor of images, got a {type(x).__name__}: write "
            f'augment.on("image", augment.{name}(...)) for those of a dict'
        )
    x = tf.convert_to_tensor(x)
    if x.shape.rank != 4 or None in x.shape[1:]:
        raise ValueError(
            f"x of {name} must be images [n, height, width, channels] of a static "
            f"size, got shape {x.shape}: reshape them"
        )
    if not (x.dtype.is_floating or x.dtype == tf.uint8):
        raise TypeError(
            f"x of {name} must be uint8 or floating, got {x.dtype.name}: cast it"
        )
    return x


def _check_keys(keys: tf.Tensor) -> tf.Tensor:
    keys = tf.convert_to_tensor(keys, tf.uint32)
    if keys.shape.rank != 2:
        raise ValueError(
            f"keys must be [n, 2], one for each example, got shape {keys.shape}: write "
            "tfreg.random.make_key(seed, epoch, examples)"
        )
    return keys


def _choose(keys: tf.Tensor, limits: tuple[int, ...]) -> list[tf.Tensor]:
    """Returns int32 `[n]` for each limit: integers from 0 to `limit - 1`."""
    halves = tf.bitwise.right_shift(random.bits(keys, [len(limits)]), 16)
    # Half a unit away from the integers: rounding doesn't matter. XLA computes a
    # division once, where it would hash again for each pixel.
    places = (tf.cast(halves, tf.float64) + 0.5) / (2.0**16 / np.array(limits))
    return tf.unstack(tf.cast(places, tf.int32), axis=1)


def _expand(values: tf.Tensor) -> tf.Tensor:
    """Returns values `[n]` as `[n, 1, 1, 1]`."""
    return tf.reshape(values, [-1, 1, 1, 1])


def flip() -> Augmentation:
    """Returns a mirroring of each image, left and right, with probability 1/2."""

    def change(x: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        is_flipped = random.bits(keys, []) >= 2**31
        return tf.where(_expand(is_flipped), tf.reverse(x, [2]), x)

    return _of_images(change, "flip")


def crop(padding: int = 4, mode: str = "constant") -> Augmentation:
    """Returns a shift of each image by up to `padding` pixels, in both directions.

    Args:
        padding: int from 1 to 2**15 - 1; number of pixels added at each side, before a
            window of the old size is cut out. All its places are as probable.
        mode: what is added: "constant" for zeros, "reflect" for the pixels mirrored at
            the edge, without the edge itself.

    Raises:
        ValueError: an argument isn't as above.

    Source: the augmentation of CIFAR-10 in He et al. 2016.
    """
    padding = _checks.check_int("padding", padding, 1, 2**15 - 1)
    if mode not in ("constant", "reflect"):
        raise ValueError(
            f"mode must be 'constant' or 'reflect', got {mode!r}: choose one of them"
        )

    def change(x: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        height, width = x.shape[1:3]
        if mode == "reflect" and padding >= min(height, width):
            raise ValueError(
                f"padding must be < {min(height, width)}, the size of the images, got "
                f'{padding}: take less, or mode="constant"'
            )
        top, left = _choose(keys, (2 * padding + 1,) * 2)
        rows = top[:, None] + tf.range(height)
        columns = left[:, None] + tf.range(width)
        if mode == "reflect":  # tf.pad refuses an empty batch, and is slower.
            rows = tf.gather(np.pad(np.arange(height), padding, "reflect"), rows)
            columns = tf.gather(np.pad(np.arange(width), padding, "reflect"), columns)
        else:
            x = tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        # Contiguous rows first: the fastest of several ways on a CPU.
        x = tf.gather(x, rows, axis=1, batch_dims=1)
        return tf.gather(x, columns, axis=2, batch_dims=1)

    return _of_images(change, "crop")


def cutout(size: int) -> Augmentation:
    """Returns a black square in each image.

    Args:
        size: int >= 1, width of the square. Its centre is any pixel of the image, so
            that a part of the square may be outside.

    Raises:
        ValueError: `size` isn't as above.

    Source: DeVries and Taylor 2017.
    """
    size = _checks.check_int("size", size, 1, 2**15 - 1)

    def change(x: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        dims = x.shape[1:3]
        inside = []
        for length, centre in zip(dims, _choose(keys, tuple(dims)), strict=True):
            first = centre[:, None] - size // 2
            place = tf.range(length)
            inside.append((place >= first) & (place < first + size))
        rows, columns = inside
        square = rows[:, :, None, None] & columns[:, None, :, None]
        return tf.where(square, tf.zeros([], x.dtype), x)

    return _of_images(change, "cutout")


def brightness(max_delta: float) -> Augmentation:
    """Returns a change of each image's brightness, the same for all its pixels.

    Args:
        max_delta: float > 0, as a fraction of the range from black to white. The change
            is uniform from `-max_delta` to `max_delta`; uint8 images are rounded and
            kept in their range, floating ones, of a range of 1, aren't.

    Raises:
        ValueError: `max_delta` isn't as above.

    Source: `tf.image.random_brightness`, which draws one change for a batch.
    """
    max_delta = _checks.check_float("max_delta", max_delta)

    def change(x: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        delta = (random.uniform(keys, [], tf.float64) * 2 - 1) * max_delta
        if x.dtype != tf.uint8:
            # Rounded to float32: no mode computes product and sum in one operation.
            return x + _expand(tf.cast(tf.cast(delta, tf.float32), x.dtype))
        levels = tf.round(tf.clip_by_value(delta, -1, 1) * 255)
        changed = tf.cast(x, tf.int32) + _expand(tf.cast(levels, tf.int32))
        return tf.cast(tf.clip_by_value(changed, 0, 255), tf.uint8)

    return _of_images(change, "brightness")


def mixup(alpha: float) -> Augmentation:
    """Returns weighted means of each example and the next one of the batch.

    Inputs, targets and weights are mixed alike; the next of the last example is the
    first. Unlike that of the other functions, a result depends on the batch, and so on
    the number of replicas.

    Args:
        alpha: float > 0. The weight of an example is of Beta(alpha, alpha), a multiple
            of 2**-24: 1 is uniform, smaller values mix less.

    Raises:
        ValueError: `alpha` isn't as above. The function raises TypeError for integers
            other than uint8 images.

    Source: Zhang et al. 2018.
    """
    table = _tabulate_beta(_checks.check_float("alpha", alpha))

    @scopes.do_not_convert
    def augment(batch: Batch, keys: tf.Tensor) -> Batch:
        for name, part in zip(("x", "y", "weights"), batch, strict=False):
            for values in tf.nest.flatten(part):
                _check_mixable(name, tf.convert_to_tensor(values).dtype)
        weight = _draw_weights(_check_keys(keys), table)
        return tf.nest.map_structure(lambda values: _mix(values, weight), batch)

    return augment


def _check_mixable(name: str, dtype: tf.DType) -> None:
    if not dtype.is_floating and (name, dtype) != ("x", tf.uint8):
        raise TypeError(
            f"{name} of mixup must be floating, got {dtype.name}: write "
            "tf.one_hot(y, num_classes) for classes, and mix no other integers"
        )


def _tabulate_beta(alpha: float) -> np.ndarray:
    """Returns the quantiles of Beta(alpha, alpha) as multiples of 2**-24."""
    # Where v is uniform, the density of x = v ** (1 / power) / 2 has no pole at 0.
    power = min(alpha, 1.0)
    v = np.linspace(0, 1, 2**17 + 1)
    x = v ** (1 / power) / 2
    logs = (alpha - 1) * np.log1p(-x)
    if alpha > 1:
        with np.errstate(divide="ignore"):  # log(0), of a density of 0.
            logs += (alpha - 1) * np.log(x)
    density = np.exp(logs - logs.max())
    cumulated = np.append(0, np.cumsum(density[1:] + density[:-1]))
    levels = np.linspace(0, 0.5, _QUANTILES // 2 + 1)
    half = np.interp(levels, cumulated / cumulated[-1] / 2, v) ** (1 / power) / 2
    return np.round(np.append(half, 1 - half[-2::-1]) * 2**24)


def _draw_weights(keys: tf.Tensor, table: np.ndarray) -> tf.Tensor:
    """Returns float64 weights `[n]`, multiples of 2**-24, by inverting the table."""
    bits = random.bits(keys, [])
    cell = tf.cast(tf.bitwise.right_shift(bits, 20), tf.int32)
    fraction = tf.cast(tf.bitwise.bitwise_and(bits, 2**20 - 1), tf.float64) * 2.0**-20
    lower, upper = tf.gather(table, cell), tf.gather(table, cell + 1)
    return tf.round(lower + fraction * (upper - lower)) * 2.0**-24


def _mix(values: Any, weight: tf.Tensor) -> tf.Tensor:
    """Returns the weighted means of rows and the next ones, in the values' dtype."""
    values = tf.convert_to_tensor(values)
    # Products of 24 and 25 bits are exact: no mode rounds them another way.
    wide = tf.cast(values, tf.float64)
    weight = tf.reshape(weight, [-1] + [1] * (wide.shape.rank - 1))
    mixed = wide * weight + tf.roll(wide, -1, 0) * (1 - weight)
    if values.dtype.is_integer:
        mixed = tf.round(mixed)
    elif values.dtype.size < 4:
        mixed = tf.cast(mixed, tf.float32)
    return tf.cast(mixed, values.dtype)


def chain(*changes: Augmentation) -> Augmentation:
    """Returns several augmentations one after the other.

    Args:
        *changes: the augmentations. Each gets keys of its own, folded with its
            position: two of the same kind change an image in two ways.
    """
    for change in changes:
        _checks.check_function("changes", change, "augment.flip()")

    def augment(batch: Batch, keys: tf.Tensor) -> Batch:
        for position, change in enumerate(changes):
            batch = change(batch, random.fold(keys, position))
        return batch

    return augment


def on(name: Any, change: Augmentation) -> Augmentation:
    """Returns an augmentation of one entry of `x`, a dict.

    Args:
        name: its key.
        change: the augmentation.
    """
    _checks.check_function("change", change, "augment.flip()")

    def augment(batch: Batch, keys: tf.Tensor) -> Batch:
        x, *rest = batch
        value, *rest = change((x[name], *rest), keys)
        return {**x, name: value}, *rest

    return augment
