"""Examples in blocks, read by a thread while the last block is in use.

    order = data.permute(len(dataset.train), seed=0, epoch=3)
    for x, y in data.stream(dataset.train, order, examples_per_block=1_000):
        print(x.shape, y.shape)

The trap: tf.data turns an error of the thread that reads into an InvalidArgumentError
with a page of nodes. Here it is raised as it was.
"""

import collections
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tfreg import _checks
from tfreg.data.arrays import Batch

if TYPE_CHECKING:
    from concurrent.futures import Future

_AHEAD = 2  # Blocks that are read in advance.


class Source(Protocol):
    """Examples by their numbers: a Split or an Indexed."""

    def __len__(self) -> int:
        """Returns the number of examples."""

    def fetch(self, rows: np.ndarray) -> Batch:
        """Returns examples, `[n]` ints, as a batch."""


@dataclass(frozen=True)
class _Blocks:
    """An iterable that starts a reading thread for each of its iterators."""

    source: Source
    rows: np.ndarray
    size: int

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        from concurrent import futures  # As slow to import as all of tfreg.data.

        blocks: collections.deque[Future] = collections.deque()
        reader = futures.ThreadPoolExecutor(1, "tfreg.data.stream")
        try:
            for start in range(0, len(self.rows), self.size):
                rows = self.rows[start : start + self.size]
                blocks.append(reader.submit(self.source.fetch, rows))
                if len(blocks) > _AHEAD:
                    yield blocks.popleft().result()
            while blocks:
                yield blocks.popleft().result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def stream(
    source: Source, order: np.ndarray, examples_per_block: int
) -> Iterable[Batch]:
    """Returns the examples in blocks, for data larger than the device's memory.

    A thread reads up to two blocks in advance. Arrays may be memory maps.

    Args:
        source: the examples, a Split or an Indexed.
        order: `[n]` integers from 0 to `len(source) - 1`, such as those of `permute`.
        examples_per_block: int >= 1, the rows of a block; the last may have fewer.

    Returns:
        An iterable with a length, of batches (x, y) or (x, y, weights) of NumPy arrays
        `[rows, ...]`. It raises what the source raises, where that block would stand.

    Raises:
        ValueError: `order` or `examples_per_block` isn't as above.
    """
    size = _checks.check_int("examples_per_block", examples_per_block, 1, 2**31 - 1)
    rows = np.array(order)
    fits = rows.ndim == 1 and rows.dtype.kind in "iu"
    if not fits or (rows.size and not 0 <= rows.min() <= rows.max() < len(source)):
        raise ValueError(
            f"order must be [n] ints in [0, {len(source)}), got {rows.tolist()!r:.60}: "
            "write permute(len(split), seed, epoch)"
        )
    return _Blocks(source, rows, size)
