"""Examples that are read one by one: of files, HDF5, or a source of PyTorch or Grain.

    source = [({"a": np.ones(3), "b": 2.0}, i % 2) for i in range(100)]
    indexed = data.Indexed(source, threads=2)
    inputs, targets = indexed.fetch(np.array([99, 0]))  # targets: [1, 0], int64

The trap: threads don't help a source that computes in Python, nor does a large block a
source that can read many at once. For the latter `__getitems__` takes many numbers.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfreg import _checks
from tfreg.data import arrays, files, nests

if TYPE_CHECKING:
    from concurrent import futures

_MOST = 256  # Examples that one call of `__getitems__` or of a thread reads.


class Indexed:
    """Examples of a source that has `__len__` and `__getitem__`.

    Threads read a batch's examples in any order and the batch has them in that of its
    rows. Python's floats become float32, its ints int64.

    Args:
        source: `source[i]` is an example `(x, y)` or `(x, y, weights)`, each a dict,
            tuple or array, equal in shapes and dtypes for all i. Where there is
            `source.__getitems__(list)`, as in PyTorch and Grain, it returns a list of
            examples. Or a tuple `(x, y)` or `(x, y, weights)` of sources of values, or
            of dicts and tuples of them, such as HDF5's datasets and memory maps.
        threads: int >= 1; the source must allow as many calls at once.
        pixels: whether the uint8 arrays of x are pixels, as in Split; None: what
            `source.pixels` says, otherwise False.

    Raises:
        ValueError: the source is empty, its parts have other lengths, or `threads`
            isn't as above.
        TypeError: the source has no length or no numbers, or an example isn't a tuple.
        DataError: the first example can't be read.
    """

    nbytes = None  # Not known before everything is read.

    def __init__(
        self, source: Any, threads: int = 8, pixels: bool | None = None
    ) -> None:
        self.source = source
        self.threads = _checks.check_int("threads", threads)
        own = getattr(source, "pixels", False)
        self.pixels = bool(own if pixels is None else pixels)
        names = ("x", "y", "weights")
        if isinstance(source, tuple) and len(source) not in (2, 3):
            raise TypeError(
                f"source must be a tuple (x, y) or (x, y, weights), got {len(source)} "
                "parts: pass a list of examples"
            )
        columns = source if isinstance(source, tuple) else ()
        parts = [
            leaf
            for part in zip(names, columns, strict=False)
            for leaf in nests.flatten(*part)
        ]
        if not isinstance(source, tuple):
            parts = [("source", source)]
        self._sizes = [(name, _count(name, part)) for name, part in parts]
        for name, size in self._sizes:
            if size != len(self):
                raise ValueError(
                    f"{self._sizes[0][0]} and {name} must have as many examples, got "
                    f"{len(self)} and {size}: pass a target for each input"
                )
        self._readers = [_make_reader(*part, self.threads) for part in parts]

    def __repr__(self) -> str:
        shown = arrays.show(self.spec, len(self))
        return f"Indexed({shown}{', pixels=True' * self.pixels})"

    def __len__(self) -> int:
        return self._sizes[0][1]

    @property
    def spec(self) -> arrays.Batch:
        """The batch's tf.TensorSpecs, of any number of rows, from the first example."""
        return self._pack(
            [
                nests.convert(lambda v: arrays.make_spec(v.shape, v.dtype), r.example)
                for r in self._readers
            ]
        )

    def fetch(self, rows: np.ndarray) -> arrays.Batch:
        """Returns examples as a batch (x, y) or (x, y, weights) of NumPy arrays.

        Args:
            rows: `[n]` ints from 0 to `len(source) - 1`, in any order.

        Raises:
            DataError: an example can't be read, or has other shapes or dtypes than the
                first: its number is named; or the source's length has changed.
        """
        for reader, (name, size) in zip(self._readers, self._sizes, strict=True):
            if len(reader.source) != size:
                raise files.DataError(
                    f"{name} must keep its {size} examples, got {len(reader.source)} "
                    "now: make another Indexed of it"
                )
        rows = np.asarray(rows)
        started = [reader.start(rows, self._pool) for reader in self._readers]
        return self._pack([finish() for finish in started])

    def _pack(self, parts: list) -> arrays.Batch:
        is_tuple = isinstance(self.source, tuple)
        return nests.pack(self.source, parts) if is_tuple else parts[0]

    @functools.cached_property
    def _pool(self) -> "futures.ThreadPoolExecutor":
        from concurrent import futures

        return futures.ThreadPoolExecutor(self.threads, "tfreg.data.Indexed")


class _Slices:
    """Reads the rows of an array that isn't in memory, as a dataset of HDF5."""

    def __init__(self, name: str, source: Any) -> None:
        self.name, self.source = name, source
        first = np.asarray(source[:1])
        self.example = np.empty(first.shape[1:], first.dtype)
        if first.dtype.kind not in "biufc" and not arrays.is_text(first):
            raise TypeError(
                f"{name} must hold numbers or texts, got {first.dtype}: convert it"
            )

    def start(
        self, rows: np.ndarray, pool: "futures.ThreadPoolExecutor"
    ) -> Callable[[], np.ndarray]:
        """Starts to read; returns the function that waits for the values."""
        return pool.submit(self._read, rows).result

    def _read(self, rows: np.ndarray) -> np.ndarray:
        try:
            if isinstance(self.source, np.ndarray):
                return np.asarray(self.source[rows])
            # HDF5 takes only increasing numbers, and 28 us for each. A slice takes 4.
            unique, inverse = np.unique(rows, return_inverse=True)
            values = np.empty([len(unique), *self.example.shape], self.example.dtype)
            gaps = np.flatnonzero(np.diff(unique) > 2) + 1
            stops = [*gaps.tolist(), len(unique)] if len(unique) else []
            for start, stop in zip([0, *stops], stops, strict=False):
                part = unique[start:stop]
                block = np.asarray(self.source[int(part[0]) : int(part[-1]) + 1])
                values[start:stop] = block[part - part[0]]
            return values[inverse]
        except Exception as error:
            raise _make_error(f"{self.name}[{_shorten(rows)}]", error) from error


class _Items:
    """Reads examples one by one, or in lists where the source can."""

    def __init__(self, name: str, source: Any, threads: int) -> None:
        self.name, self.source, self._threads = name, source, threads
        self._in_lists = hasattr(source, "__getitems__")
        (example,) = self._read([0])
        self._leaves = self._get_values(0, example)
        self.example = nests.pack(example, self._leaves.values())

    def start(
        self, rows: np.ndarray, pool: "futures.ThreadPoolExecutor"
    ) -> Callable[[], Any]:
        """Starts to read; returns the function that waits for the nest of values."""
        values = [
            np.empty([len(rows), *v.shape], v.dtype) for v in self._leaves.values()
        ]
        # The threads share a batch, unless the source reads faster in lists.
        each = -(-len(rows) // (1 if self._in_lists else self._threads))
        size = max(1, min(_MOST, each))
        jobs = [
            pool.submit(self._fill, values, rows, start, start + size)
            for start in range(0, len(rows), size)
        ]

        def finish() -> Any:
            try:
                for job in jobs:
                    job.result()
            finally:
                for job in jobs:
                    job.cancel()
            return nests.pack(self.example, values)

        return finish

    def _fill(
        self, values: list[np.ndarray], rows: np.ndarray, start: int, stop: int
    ) -> None:
        numbers = rows[start:stop].tolist()
        for i, example in enumerate(self._read(numbers)):
            leaves = self._get_values(numbers[i], example)
            for array, leaf in zip(values, leaves.values(), strict=True):
                array[start + i] = leaf[()]

    def _read(self, rows: list[int]) -> Sequence[Any]:
        """Reads examples; an error names the first of them that can't be read."""
        if not self._in_lists and len(rows) > 1:
            return [example for row in rows for example in self._read([row])]
        try:
            if not self._in_lists:
                return [self.source[rows[0]]]
            examples = list(self.source.__getitems__(rows))
        except Exception as error:
            for row in rows if len(rows) > 1 else ():
                self._read([row])
            raise _make_error(f"{self.name}[{_shorten(rows)}]", error) from error
        if len(examples) != len(rows):
            raise files.DataError(
                f"{self.name}.__getitems__ must return as many examples as numbers, "
                f"got {len(examples)} for {len(rows)}: return a list of examples"
            )
        return examples

    def _get_values(self, row: int, example: Any) -> dict[str, np.ndarray]:
        """Returns an example's values by path, after comparing them with the first's.

        Raises:
            DataError: they have other paths, shapes or dtypes.
        """
        where = f"{self.name}[{row}]"
        parts: Any = [(self.name, example)]
        if self.name == "source":  # Not a column's.
            if not isinstance(example, tuple) or len(example) not in (2, 3):
                raise TypeError(
                    f"{where} must be a tuple (x, y) or (x, y, weights), got "
                    f"{_name_type(example)}: convert it, or pass a tuple (x, y) of "
                    "sources of values"
                )
            parts = zip(("x", "y", "weights"), example, strict=False)
        leaves = [leaf for part in parts for leaf in nests.flatten(*part)]
        values = {path: _to_value(f"{path} of {where}", leaf) for path, leaf in leaves}
        known = getattr(self, "_leaves", values)  # The first example sets them.
        if values.keys() != known.keys():
            raise files.DataError(
                f"{where} must hold {', '.join(known)} as {self.name}[0] does, got "
                f"{', '.join(values)}: make them alike"
            )
        for path, first in known.items():
            value = values[path]
            if (value.shape, value.dtype) != (first.shape, first.dtype):
                raise files.DataError(
                    f"{path} of {where} must be {first.dtype} of shape {first.shape} "
                    f"as in {self.name}[0], got {value.dtype} of {value.shape}: "
                    "convert it, or write a Pipeline, which takes ragged batches"
                )
        return {path: values[path] for path in known}


def _make_reader(name: str, source: Any, threads: int) -> Any:
    is_array = len(getattr(source, "shape", ())) > 0 and name != "source"
    return _Slices(name, source) if is_array else _Items(name, source, threads)


def _count(name: str, source: Any) -> int:
    """Returns the number of a source's examples.

    Raises:
        ValueError: there are none.
        TypeError: it has no length or takes no numbers.
    """
    if not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
        raise TypeError(
            f"{name} must have __len__ and __getitem__, got {_name_type(source)}: "
            "pass a list or a data set of examples, or write a Pipeline"
        )
    if not len(source):
        raise ValueError(f"{name} must have examples, got none: pass some")
    return len(source)


def _to_value(name: str, value: Any) -> np.ndarray:
    """Returns a leaf of an example as an array; Python's floats as float32."""
    if isinstance(value, str | bytes):
        return np.asarray(value, object)
    try:
        array = np.asarray(value)
    except Exception as error:
        raise _make_error(name, error) from error
    if array.dtype.kind in "SU":
        return array.astype(object)
    if array.dtype.kind not in "biufc" and not arrays.is_text(array):
        raise files.DataError(
            f"{name} must be numbers or texts, got {_name_type(value)}: convert it, or "
            "write a Pipeline, which takes ragged batches"
        )
    is_python = array.dtype == np.float64 and not hasattr(value, "dtype")
    return array.astype(np.float32) if is_python else array


def _make_error(name: str, error: Exception) -> files.DataError:
    if isinstance(error, files.DataError):  # A source's own sentence.
        return files.DataError(f"{error} ({name})")
    text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return files.DataError(
        f"{name} must be readable, got {text}: repair it, or leave it out"
    )


def _shorten(rows: Sequence[int] | np.ndarray) -> str:
    if len(rows) == 1:
        return str(rows[0])
    return f"{rows[0]}, ..., {rows[-1]}" if len(rows) else ""


def _name_type(value: Any) -> str:
    return f"a {type(value).__name__}"
