"""How batches reach the device: from arrays held there, in blocks, or one by one.

    feed = feeding.Feed(dataset.train, batch_size=3, seed=0)
    for call in feed.list_calls(epoch=0):
        for i in range(call.start, call.stop):  # in a graph
            batch, numbers = feeding.take(call.data, i, 0, call.size)
            x, y = feed.finish(batch, numbers, i, epoch=0)

The traps: a copy of each batch to the device, which costs more than its step, and an
order that depends on earlier epochs, so that a resumed run sees another one.
"""

import dataclasses
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfreg import data
from tfreg.collections import random, scopes
from tfreg.training import batches

BLOCK_BYTES = 2**26


class Call(NamedTuple):
    """The examples of one call of the compiled loop.

    Attributes:
        data: `Held`, or an iterator of batches.
        start: number of the first step, in `data.order`.
        stop: number of the last step plus one.
        size: number of examples in each batch of the call.
        position: number of steps of the epoch before `start`.
    """

    data: Any
    start: int
    stop: int
    size: int
    position: int


class Replicas(NamedTuple):
    """The replicas of a process: those from `first` to `stop - 1` of `total`."""

    first: int
    stop: int
    total: int


ALONE = Replicas(0, 1, 1)


class Held(NamedTuple):
    """Examples on the device.

    Attributes:
        arrays: a tuple (x, y) or (x, y, weights) of nests, `[n, ...]`.
        order: int32 `[m]`; the rows of step i are `order[i * stride:][:size]`.
        numbers: int32 `[m]`, the numbers of these examples in the source.
        stride: number of examples in a full batch.
    """

    arrays: Any
    order: Any
    numbers: Any
    stride: int


def is_indexed(source: Any) -> bool:
    """Returns whether examples can be read by number."""
    return hasattr(source, "fetch")


def check_source(source: Any, seed: int) -> None:
    """Checks a source and the seed of its order.

    Raises:
        ValueError: it has no examples or too many, or the seed is out of range.
        TypeError: the source isn't one of tfreg.data.
    """
    if not is_indexed(source) and not hasattr(source, "open"):
        advice = "write for example Split(x, y) with two arrays"
        if isinstance(source, tf.data.Dataset):
            advice = "write Pipeline(make), where make(seed, epoch) returns its batches"
        raise TypeError(
            f"source must be a Split, Indexed or Pipeline of tfreg.data, got a "
            f"{type(source).__name__}: {advice}"
        )
    if is_indexed(source) and not 0 < (size := len(source)) < 2**31:  # Of int32.
        got = f"{size}: pass a part of them" if size else "none: pass some"
        raise ValueError(f"source must have examples, fewer than 2**31, got {got}")
    data.permute(1, seed, 0)  # Checks the seed now, not in `train`.


def check_structure(source: Any, trained: Any) -> None:
    """Checks that inputs and targets are nests as those of training.

    Raises:
        ValueError: they have other parts.
    """
    got, want = source.spec[:2], trained.spec[:2]
    try:
        tf.nest.assert_same_structure(got, want, check_types=False)
    except (ValueError, TypeError):
        shown = [
            str(tf.nest.map_structure(lambda v: str(getattr(v, "shape", v)), spec))
            for spec in (want, got)
        ]
        raise ValueError(
            f"source must have inputs and targets as in training, {shown[0]}, got "
            f"{shown[1]}: name its parts alike"
        ) from None


class Feed:
    """Feeds the batches of a source to compiled steps.

    Args:
        source: see `tfreg.data`.
        batch_size: number of examples in a batch, of an indexed source.
        seed: seed of the order and of the augmentation.
        augment: callable (batch, keys) -> batch, applied on the device; None: none.
        device_bytes: larger sources are read in blocks.
        place: copies a tensor to the devices; None: one device.
        replicas: of this process, among those of all; blocks hold only the examples
            that these train on.
    """

    def __init__(
        self,
        source: Any,
        batch_size: int,
        seed: int,
        augment: Callable | None = None,
        device_bytes: int = 2**30,
        place: Callable[[tf.Tensor], Any] | None = None,
        replicas: Replicas = ALONE,
    ) -> None:
        self.source, self.seed, self.augment = source, seed, augment
        self.batch_size = batch_size
        self.device_bytes = device_bytes
        self._place = place or (lambda tensor: tensor)
        self._replicas = replicas
        self._held: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def replace(self, source: Any, batch_size: int) -> "Feed":
        """Returns a feed of another source, without augmentation, for one device."""
        feed = Feed(source, batch_size, self.seed, None, self.device_bytes)
        feed._held = self._held
        return feed

    @property
    def is_shared(self) -> bool:
        """Whether other processes take part in each step."""
        return self._replicas.stop - self._replicas.first < self._replicas.total

    @property
    def num_steps(self) -> int:
        """Number of steps in an epoch, including a smaller last one."""
        if is_indexed(self.source):
            return -(-len(self.source) // self.batch_size)
        return self.source.steps

    def read_example(self) -> tuple:
        """Returns a batch of the first examples, at most two."""
        if is_indexed(self.source):
            rows = np.arange(min(2, len(self.source)))
            batch = self.source.fetch(rows)
        else:
            batch = next(iter(self.source.open(self.seed, 0, 0)))
            batch = tf.nest.map_structure(lambda v: v[:2], batch)
        return self.finish(tf.nest.map_structure(_to_tensor, batch))

    def make_specs(self, size: int | None) -> tuple:
        """Returns the specs of the arguments of `finish`, for batches of a size."""
        batch = self.source.spec
        if is_indexed(self.source):
            batch = tf.nest.map_structure(lambda spec: _resize(spec, size), batch)
        numbers = tf.TensorSpec([_get_size(batch)], tf.int32)
        return batch, numbers, tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int64)

    def list_calls(
        self, epoch: int | None, start: int = 0, limit: Callable[[], int] | None = None
    ) -> Iterator[Call]:
        """Yields the calls of an epoch.

        Args:
            epoch: None: every example once, in the order of the source.
            start: number of steps to skip.
            limit: returns the largest number of steps in the next call; None: no limit.
        """
        limit = limit or (lambda: self.num_steps)
        if not is_indexed(self.source):
            yield from self._list_streamed(epoch, start, limit)
            return
        order = np.arange(len(self.source), dtype=np.int32)
        if epoch is not None:
            order = data.permute(len(self.source), self.seed, epoch)
        position = start
        for held, num_rows in self._list_blocks(order[start * self.batch_size :]):
            num_full, rest = divmod(num_rows, self.batch_size)
            first = 0
            while first < num_full:
                stop = min(first + limit(), num_full)
                yield Call(held, first, stop, self.batch_size, position)
                position, first = position + stop - first, stop
            if rest:
                yield Call(held, num_full, num_full + 1, rest, position)

    def _list_streamed(
        self, epoch: int | None, start: int, limit: Callable[[], int]
    ) -> Iterator[Call]:
        iterator = iter(self.source.open(self.seed, epoch or 0, start))
        while start < self.num_steps:
            stop = min(start + limit(), self.num_steps)
            yield Call(iterator, start, stop, 0, start)
            start = stop

    def reopen(self, call: Call, epoch: int) -> Call:
        """Returns a call that can be run again; an iterator is read only once."""
        if is_indexed(self.source):
            return call
        iterator = iter(self.source.open(self.seed, epoch, call.start))
        return call._replace(data=iterator)

    def _list_blocks(self, order: np.ndarray) -> Iterator[tuple[Held, int]]:
        """Yields examples on the device, and the number of their rows to train on."""
        nbytes = self.source.nbytes
        if nbytes is not None and nbytes <= self.device_bytes:
            if self.source not in self._held:
                everything = self.source.fetch(slice(None))
                self._held[self.source] = self._put(everything)
            numbers = self._put(order)
            arrays = self._held[self.source]
            yield Held(arrays, numbers, numbers, self.batch_size), order.size
            return
        if not order.size:
            return
        rows = min(self._count_block(), order.size)
        own = _Own(self.source, self._list_own)
        # A smaller last batch may be divided less evenly.
        most = max(self._list_own(n).size for n in (rows, order.size % rows))
        start = 0
        for block in data.stream(own, order, rows):  # type: ignore[arg-type]
            numbers = order[start : start + rows]
            start += numbers.size
            places = np.zeros(rows, np.int32)
            read = self._list_own(numbers.size)
            places[read] = np.arange(read.size)
            # Blocks of one size are one program.
            block = tf.nest.map_structure(lambda v: _pad(v, most), block)
            padded = self._put(_pad(numbers, rows))
            held = Held(self._put(block), self._put(places), padded, self.batch_size)
            yield held, numbers.size

    def _cut_batch(self, size: Any) -> tuple[Any, Any]:
        """Returns the first and the last place, plus one, of this process's examples.

        Args:
            size: number of examples in a batch.
        """
        if len(self.source.spec) == 3:
            return 0 * size, size  # The sum of all weights is needed.
        first, stop, total = self._replicas
        return size * first // total, size * stop // total

    def _list_own(self, num_rows: int) -> np.ndarray:
        """Returns the places in a block that this process's replicas train on."""
        places = np.arange(num_rows)
        batches, within = np.divmod(places, self.batch_size)
        is_full = batches < num_rows // self.batch_size
        sizes = np.where(is_full, self.batch_size, num_rows % self.batch_size)
        first, stop = self._cut_batch(sizes)
        return places[(within >= first) & (within < stop)]

    def _count_block(self) -> int:
        """Returns the number of examples in a block, a multiple of the batch size."""
        example = self.source.fetch(np.arange(1))
        nbytes = sum(np.asarray(leaf).nbytes for leaf in tf.nest.flatten(example))
        num_steps = BLOCK_BYTES // max(1, nbytes * self.batch_size)
        return max(1, num_steps) * self.batch_size

    def _put(self, arrays: Any) -> Any:
        return tf.nest.map_structure(lambda v: self._place(_to_tensor(v)), arrays)

    @scopes.do_not_convert
    def finish(
        self, batch: tuple, numbers: Any = None, i: Any = None, epoch: Any = None
    ) -> tuple:
        """Returns a batch as the model takes it.

        Args:
            batch: of the source.
            numbers: int32 `[batch]`, the numbers of the examples in an indexed source,
                or of the rows in a batch of another; None: no augmentation.
            i: number of the step.
            epoch: number of the epoch.
        """
        if self.augment is not None and numbers is not None:
            places = (epoch,) if is_indexed(self.source) else (epoch, i)
            keys = random.make_key(self.seed, *places, numbers)
            batch = self.augment(batch, keys)
        return batches.scale(batch, getattr(self.source, "pixels", False))

    def describe_nonfinite(self, call: Call, i: int) -> str:
        """Returns which examples of a step have NaN or infinite values, or "".

        Args:
            call: that can be read.
            i: number of the step.
        """
        source, first, stop = call.data, 0, call.size
        where = f"examples {{}} of batch {i}"
        for _ in range(call.start, i if not isinstance(source, Held) else call.start):
            next(source)
        if isinstance(source, Held):
            source = Held(*(_take_first(part) for part in source))
            first, stop = self._cut_batch(call.size)
            where = "examples {}"
        batch, numbers = take(source, tf.constant(i), first, stop)
        columns = getattr(self.source, "columns", ())
        bad, parts = batches.find_nonfinite(batch, columns)
        if not bad.any():
            return ""
        names = ", ".join(map(str, np.asarray(numbers)[bad][:10]))
        return f"{where.format(names)} have NaN or infinity in {parts}: leave them out"


@dataclasses.dataclass(frozen=True)
class _Own:
    """A source that reads only those examples of each block that `choose` gives."""

    source: Any
    choose: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, rows: np.ndarray) -> Any:
        """Returns the examples of a block that are read here."""
        return self.source.fetch(rows[self.choose(len(rows))])


def take(source: Any, i: Any, first: Any, stop: Any) -> tuple:
    """Returns examples of the batch of a step, and their numbers.

    Args:
        source: `Held`, an iterator, or a batch of an iterator.
        i: number of the step.
        first: number of the first example in the batch.
        stop: number of the last example in the batch, plus one.
    """
    if isinstance(source, Held):
        # With a slice, XLA would compile again for each `i`.
        places = i * source.stride + tf.range(first, stop)
        rows = tf.gather(source.order, places)
        batch = tf.nest.map_structure(lambda v: tf.gather(v, rows), source.arrays)
        return batch, tf.gather(source.numbers, places)
    if hasattr(source, "get_next"):
        batch = source.get_next()
        return batch, tf.range(batches.count_rows(batch))
    batch = tf.nest.map_structure(lambda v: v[first:stop], source)
    return batch, tf.range(first, stop)


def _to_tensor(value: Any) -> Any:
    composite = isinstance(value, tf.RaggedTensor | tf.SparseTensor)
    return value if composite else tf.convert_to_tensor(value)


def _take_first(value: Any) -> Any:
    copies = tf.distribute.DistributedValues
    return tf.nest.map_structure(
        lambda v: v.values[0] if isinstance(v, copies) else v, value
    )


def _pad(array: Any, rows: int) -> Any:
    missing = rows - len(array)
    if not missing:
        return array
    return np.concatenate([array, np.zeros([missing, *array.shape[1:]], array.dtype)])


def _resize(spec: Any, size: int | None) -> Any:
    if not isinstance(spec, tf.TensorSpec):
        return spec
    return tf.TensorSpec([size, *spec.shape[1:]], spec.dtype)


def _get_size(batch: Any) -> int | None:
    spec = tf.nest.flatten(batch)[0]
    return spec.shape[0] if isinstance(spec, tf.TensorSpec) else None
