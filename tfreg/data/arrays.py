"""Examples as NumPy arrays, and an order of them that (seed, epoch) gives.

    split = data.Split({"image": x, "age": np.arange(6)}, y)
    order = data.permute(len(split), seed=0, epoch=3)
    inputs, targets = split.fetch(order[:2])

The trap: a shuffle buffer has state, so that a resumed run sees another order. Here the
order of an epoch doesn't depend on earlier ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfreg import _checks
from tfreg.data import nests

Batch = tuple  # (x, y) or (x, y, weights), each a nest of arrays of as many rows.


@dataclass(frozen=True, eq=False)
class Split:
    """Examples in memory or in memory maps, to train on or to evaluate.

    Args:
        x: inputs `[examples, ...]`: an array, a list, a pandas frame of numbers, a
            tf.RaggedTensor, or a dict or tuple of these, nested in any way. They are
            numbers or texts. A tuple of lists of numbers is one array.
        y: targets `[examples, ...]`, integer classes or floating ones, likewise; texts
            are refused.
        weights: None, or one array `[examples, ...]` of the examples' weights, or of
            the weights of their positions.
        pixels: whether the uint8 arrays of x are pixels, which a Loop then feeds as
            float32 divided by 255. Without it uint8 are numbers like others, as ids of
            tokens.

    Attributes:
        columns: names of the columns of x, where it was a pandas frame.

    Raises:
        ValueError: arrays have other lengths, rows of a list have other lengths, a
            nest is empty, or no array of x is uint8 although `pixels` is True.
        TypeError: a value isn't an array of numbers (or, in x, of texts).
    """

    x: Any
    y: Any
    weights: Any = None
    pixels: bool = False
    columns: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(map(str, _get_columns(self.x))))
        for name in ("x", "y", "weights"):
            value = getattr(self, name)
            if name != "weights" or value is not None:
                object.__setattr__(self, name, _to_arrays(name, value))
        (first, array), *others = self._get_leaves()
        for name, other in others:
            if len(self) != _count(other):
                raise ValueError(
                    f"{first} and {name} must have as many examples, got "
                    f"{_count(array)} and {_count(other)}: pass a "
                    f"{'weight' if name == 'weights' else 'target'} for each input"
                )
        dtypes = [str(leaf.dtype) for _, leaf in nests.flatten("x", self.x)]
        if self.pixels and not any("uint8" in dtype for dtype in dtypes):
            raise ValueError(
                f"x must be uint8 where pixels is True, got {', '.join(dtypes)}: leave "
                "pixels out"
            )

    def __repr__(self) -> str:
        return f"Split({show(self._get_batch())}{', pixels=True' * self.pixels})"

    def __len__(self) -> int:
        return _count(self._get_leaves()[0][1])

    def fetch(self, rows: np.ndarray) -> Batch:
        """Returns examples as a batch (x, y) or (x, y, weights) of NumPy arrays.

        Args:
            rows: `[n]` ints from 0 to `len(split) - 1`, in any order.

        Returns:
            The rows of every array, `[n, ...]`; of a RaggedTensor a RaggedTensor.
        """
        return nests.convert(lambda leaf: _gather(leaf, rows), self._get_batch())

    @property
    def spec(self) -> Batch:
        """The batch's tf.TensorSpecs or tf.RaggedTensorSpecs, of any number of rows."""
        return nests.convert(_describe, self._get_batch())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, a text's among them."""
        return sum(_measure(leaf) for _, leaf in self._get_leaves())

    def _get_batch(self) -> Batch:
        batch = (self.x, self.y, self.weights)
        return batch[:2] if self.weights is None else batch

    def _get_leaves(self) -> list[tuple[str, Any]]:
        return _flatten(self._get_batch())


def _flatten(batch: Batch) -> list[tuple[str, Any]]:
    parts = zip(("x", "y", "weights"), batch, strict=False)
    return [leaf for name, part in parts for leaf in nests.flatten(name, part)]


def show(batch: Batch, count: int | None = None) -> str:
    """Returns the dtypes and shapes of a batch in a line, for reprs.

    Args:
        batch: nests of arrays or of their specs.
        count: number of examples, where specs leave it open.
    """
    shown = []
    for name, leaf in _flatten(batch):
        sizes = [] if getattr(leaf.shape, "rank", 0) is None else list(leaf.shape)
        sizes[:1] = [count if size is None else size for size in sizes[:1]]
        shown.append(f"{name}={getattr(leaf.dtype, 'name', leaf.dtype)}{sizes}")
    return ", ".join(shown)


def make_spec(shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Returns the tf.TensorSpec of any number of values; NumPy's texts are tf.string.

    Args:
        shape: of one example.
        dtype: of NumPy.
    """
    import tensorflow as tf

    kind = tf.string if dtype.kind in "OSU" else tf.as_dtype(dtype)
    return tf.TensorSpec([None, *shape], kind)


def locate(wrong: np.ndarray, columns: Sequence[str] = (), first: int = 0) -> str:
    """Returns the rows and columns with True in words, the first ten of each.

    Args:
        wrong: bool `[rows, ...]`.
        columns: as for `name_columns`.
        first: the number of the first row.
    """
    rows = first + np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))
    text = _enumerate("row", rows.tolist())
    return text if wrong.ndim == 1 else f"{text}, {name_columns(wrong, columns)}"


def name_columns(wrong: np.ndarray, columns: Sequence[str] = ()) -> str:
    """Returns the columns with True in words, the first ten of them.

    Args:
        wrong: bool `[rows, d1, ...]`.
        columns: their names; (): numbers from 0.
    """
    places = np.argwhere(wrong.any(0)).tolist()
    if wrong.ndim > 2:
        return _enumerate("place", places)
    return _enumerate(
        "column", [f"`{columns[i]}`" if columns else i for (i,) in places]
    )


def _enumerate(noun: str, values: Sequence[Any]) -> str:
    more = f" and {len(values) - 10:,} more" if len(values) > 10 else ""
    return f"{noun}{'s' * (len(values) > 1)} {', '.join(map(str, values[:10]))}{more}"


def _get_columns(x: Any) -> Sequence[Any]:
    is_frame = len(getattr(x, "shape", ())) == 2 and hasattr(x, "to_numpy")
    return x.columns if is_frame else ()


def is_text(array: np.ndarray) -> bool:
    """Returns whether every value of an array is a str or bytes."""
    return array.dtype.kind in "SU" or (
        array.dtype.kind == "O"
        and all(isinstance(value, str | bytes) for value in array.flat)
    )


def _to_arrays(name: str, values: Any) -> Any:
    leaves = nests.flatten(name, values, _is_nest_of_arrays)
    if not leaves:
        raise ValueError(f"{name} must hold an array, got {values!r}: pass one")
    if name == "weights" and (isinstance(values, bool) or len(leaves) > 1):
        got = values if isinstance(values, bool) else f"{len(leaves)} of them"
        advice = "write pixels=True" if values is True else "pass one array"
        raise TypeError(f"weights must be an array of numbers, got {got}: {advice}")
    arrays = [_to_array(*leaf) for leaf in leaves]
    return nests.pack(values, arrays, _is_nest_of_arrays)


def _is_nest_of_arrays(value: Any) -> bool:
    """Returns whether a tuple isn't merely another way to write a list of numbers."""
    if not isinstance(value, tuple) or hasattr(value, "_fields"):
        return nests.is_nest(value)
    return not value or any(
        _is_nest_of_arrays(item) if nests.is_nest(item) else _is_array(item)
        for item in value
    )


def _is_array(value: Any) -> bool:
    return len(getattr(value, "shape", ())) > 0


def _is_ragged(value: Any) -> bool:
    # TensorFlow isn't imported: whoever has a RaggedTensor has imported it.
    return hasattr(value, "row_splits") and hasattr(value, "flat_values")


def _to_array(name: str, values: Any) -> Any:
    """Returns the array of one leaf; a memory map and a RaggedTensor stay as they are.

    Raises:
        ValueError: rows of several lengths, or a scalar.
        TypeError: neither numbers nor, in x, texts.
    """
    if _is_ragged(values):
        return values
    to_numpy = getattr(values, "to_numpy", None) or getattr(values, "numpy", None)
    # NumPy's own texts take four bytes for each letter of the longest.
    texts = isinstance(values, list) and values and isinstance(values[0], str | bytes)
    try:
        array = np.asanyarray(
            to_numpy() if callable(to_numpy) else values, object if texts else None
        )
    except ValueError as error:
        raise ValueError(
            f"{name} must have rows of equal lengths, got several: pass "
            "tf.ragged.constant(rows), or pad them"
        ) from error
    is_input = name[0] == "x"
    if array.ndim == 0 and array.dtype.kind != "O":
        raise ValueError(f"{name} must be [examples, ...], got a scalar: pass a list")
    if array.dtype.kind not in "biufc" and not (is_input and is_text(array)):
        advice = "encode texts by np.unique(y, return_inverse=True)[1]"
        if hasattr(values, "toarray"):
            advice = f"it is sparse, write {name}.toarray()"
        elif is_input:
            advice = 'pass each column by itself, as {"age": frame["age"]}'
        raise TypeError(
            f"{name} must be an array of numbers{' or texts' * is_input}, got values "
            f"of {array.dtype}: {advice}"
        )
    return array


def _count(leaf: Any) -> int:
    return int(leaf.shape[0])


def _gather(leaf: Any, rows: np.ndarray) -> Any:
    if not _is_ragged(leaf):
        return np.asarray(leaf[rows])  # A memory map's rows are in memory now.
    import tensorflow as tf

    with tf.device("CPU:0"):
        return tf.gather(leaf, rows)


def _describe(leaf: Any) -> Any:
    if not _is_ragged(leaf):
        return make_spec(leaf.shape[1:], leaf.dtype)
    import tensorflow as tf

    return tf.RaggedTensorSpec(
        [None, *leaf.shape[1:]], leaf.dtype, leaf.ragged_rank, leaf.row_splits.dtype
    )


def _measure(leaf: Any) -> int:
    if _is_ragged(leaf):
        splits = sum(row_splits.numpy().nbytes for row_splits in leaf.nested_row_splits)
        return splits + _measure(leaf.flat_values.numpy())
    texts = leaf.flat if leaf.dtype.kind == "O" else ()
    return leaf.nbytes + sum(map(len, texts))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of one data set; `num_classes` is None if y holds targets.

    `task` is what is learnt, a `tasks.Task`; None: classes, or numbers without
    `num_classes`. `reader` reads other data in the same way, with what was learnt of
    the training examples; None: the data set is one of arrays.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int | None
    task: Any = None
    reader: Any = None

    def __repr__(self) -> str:
        sizes = "/".join(f"{len(p)}" for p in (self.train, self.validation, self.test))
        shown = f"{sizes} examples, {self.train!r}"
        return f"Dataset({self.name!r}, {shown}, num_classes={self.num_classes})"


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
    order = np.arange(num_examples, dtype=np.int32)
    np.random.Generator(np.random.Philox(key=key)).shuffle(order)
    return order
