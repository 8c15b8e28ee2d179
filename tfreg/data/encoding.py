"""The columns of a table as numbers: what they learn, encode, and serve with.

    known = encoding.learn(frame, ["age", "city"], np.arange(4), print)  # 4 rows train
    x = encoding.encode(known, frame)  # float32 [rows, width]

Numbers are standardized, texts one-hot, and what is missing is marked. The trap: means,
scales and categories of all rows, those of the test set among them.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfreg.data import files, frames, texts

if TYPE_CHECKING:
    import tensorflow as tf

MOST_CATEGORIES = 1000
_FEW = 20  # Columns of fewer different texts are never refused.
_NEARLY_ALL = 0.9
_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column has learnt of the training rows.

    Attributes:
        name: in the file.
        mean: of a number, which stands for a missing one.
        scale: its standard deviation, 1.0 of a constant.
        marked: whether another output says that the number is missing.
        categories: the texts, sorted, one output each; "" is a missing one; None: it
            is a column of numbers. Other texts are zeros.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    marked: bool = False
    categories: tuple[str, ...] | None = None
    words: tuple[str, ...] | None = None

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.categories is not None or self.words is not None

    @property
    def width(self) -> int:
        """Number of outputs."""
        if self.words is not None:
            return 1 + len(self.words)
        if self.categories is not None:
            return len(self.categories)
        return 1 + self.marked


def make_column(fields: dict[str, Any]) -> Column:
    """Returns the Column of its fields as JSON has them."""
    several = ("categories", "words")
    known = {k: tuple(fields[k]) for k in several if fields.get(k) is not None}
    return Column(**fields | known)


def learn(
    frame: Any,
    names: Sequence[str],
    rows: np.ndarray,
    log: Callable[[str], None],
    sentences: Collection[str] = (),
) -> tuple[Column, ...]:
    """Returns the columns with what the training rows say of them.

    Args:
        frame: of pandas, all rows.
        names: of the columns.
        rows: numbers of the training rows.
        log: called with what isn't as it seems: missing and constant values.
        sentences: names of the columns of sentences.

    Raises:
        DataError: a column of texts has nearly as many texts as rows, or is one of
            numbers but for a few texts; or a number is infinite.
    """
    return tuple(
        _learn_words(name, frame[name], rows)
        if name in sentences
        else _learn(name, frame[name], rows, log)
        for name in names
    )


def _learn_words(name: str, column: Any, rows: np.ndarray) -> Column:
    words = texts.learn(_to_texts(column.iloc[rows]).tolist())
    if not words:
        raise files.DataError(
            f"`{name}` must have words in the training rows, got none: leave --text out"
        )
    return Column(name, words=words)


def _learn(
    name: str, column: Any, rows: np.ndarray, log: Callable[[str], None]
) -> Column:
    if not frames.is_number(column.dtype):
        check_texts(name, column)
        values = _to_texts(column.iloc[rows])
        known = sorted(set(values.tolist()))
        if "" in known:
            count = np.count_nonzero(values == "")
            _log_missing(name, count, len(values), "a category", log)
        if len(known) > MOST_CATEGORIES or (
            len(known) > _FEW and 2 * len(known) > len(values)
        ):
            raise files.DataError(
                f"`{name}` must be numbers, or texts that many rows share, got "
                f"{len(known):,} different texts in {len(values):,} rows: write "
                f"--drop={name}, or --text={name} if they are sentences"
            )
        return Column(name, categories=tuple(known))
    values = to_numbers(name, column)[rows]
    missing = np.isnan(values)
    if missing.all():
        raise files.DataError(
            f"`{name}` must have values in the training rows, got none: write "
            f"--drop={name}"
        )
    present = values[~missing] if missing.any() else values
    mean = np.float32(np.mean(present, dtype=np.float64))
    scale = np.float32(np.std(present, dtype=np.float64))
    if scale <= abs(mean) * 1e-6:
        log(f"`{name}` is {float(mean):g} in all training rows: it says nothing")
        scale = np.float32(1)
    if missing.any():
        _log_missing(
            name, missing.sum(), len(values), "the mean, and marked by an input", log
        )
    return Column(name, float(mean), float(scale), bool(missing.any()))


def _log_missing(
    name: str,
    count: Any,
    total: int,
    what: str,
    log: Callable[[str], None],
) -> None:
    log(f"`{name}` is missing in {count:,} of {total:,} training rows: it is {what}")


def check_texts(name: str, column: Any) -> None:
    """Checks that a column isn't one of numbers but for a few texts.

    Raises:
        DataError: it is; the message names the first row.
    """
    pandas = frames.import_pandas()
    numbers = pandas.to_numeric(column, errors="coerce")
    present = column.notna().to_numpy()
    wrong = present & numbers.isna().to_numpy()
    share = 1 - wrong.sum() / max(present.sum(), 1)
    if wrong.any() and share >= _NEARLY_ALL and numbers.nunique() > _FEW:
        row = int(np.argmax(wrong))
        raise files.DataError(
            f"`{name}` must be numbers as in most of its rows, got "
            f"{str(column.iloc[row])!r:.60} in row {row + 1}: mend it, or write "
            f"--drop={name}"
        )


def to_numbers(name: str, column: Any, first: int = 0) -> np.ndarray:
    """Returns a column's values as `[rows]` float32, NaN where they are missing.

    Args:
        name: of the column.
        column: of pandas.
        first: the number of its first row, for messages.

    Raises:
        DataError: a value is a text, or infinite in float32; the row is named.
    """
    if not frames.is_number(column.dtype):
        pandas = frames.import_pandas()
        numbers = pandas.to_numeric(column, errors="coerce")
        wrong = (numbers.isna() & column.notna()).to_numpy()
        _check_rows(name, column, wrong, first)
        column = numbers
    if column.dtype == np.float32:  # Without a copy.
        values = column.to_numpy()
    else:
        with np.errstate(over="ignore"):
            values = column.to_numpy(np.float32, na_value=np.nan)
    _check_rows(name, column, np.isinf(values), first)
    return values


def _check_rows(name: str, column: Any, wrong: np.ndarray, first: int) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise files.DataError(
            f"`{name}` must be finite numbers, got {str(column.iloc[row])!r:.60} in "
            f"row {first + row + 1}: mend it, or leave the row out"
        )


def _to_texts(column: Any) -> np.ndarray:
    """Returns an object array of str, "" where a value is missing."""
    if frames.is_number(column.dtype):  # As a file without the texts is read.
        values = column.tolist()
        whole = [v == v and v == int(v) and not isinstance(v, bool) for v in values]
        pairs = zip(values, whole, strict=True)
        written = ["" if v != v else str(int(v) if w else v) for v, w in pairs]
        return np.array(written, object)
    missing = column.isna().to_numpy()
    written = [str(value) for value in column.tolist()]
    return np.where(missing, "", np.array(written, object))


def encode(
    columns: Sequence[Column],
    frame: Any,
    first: int = 0,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the columns of some rows as `[rows, width]` float32.

    Args:
        columns: of `learn`.
        frame: of pandas.
        first: the number of the frame's first row, for messages.
        rows: numbers of the rows; None: all.

    Raises:
        DataError: the frame lacks a column, or a value isn't a number.
    """
    missing = [column.name for column in columns if column.name not in frame]
    if missing:
        raise files.DataError(
            f"data must have the columns of the training, got none named "
            f"{', '.join(missing)}: add them, missing values may be empty"
        )
    rows = np.arange(len(frame)) if rows is None else rows
    width = sum(column.width for column in columns)
    if 4 * width * len(rows) > files.LIMIT:
        raise files.DataError(
            f"data must take at most {files.LIMIT:,} bytes as numbers, got {width:,} "
            f"for each of {len(rows):,} rows: drop columns or rows"
        )
    x = np.zeros([len(rows), width], np.float32)
    numbers, start = [], 0
    for column in columns:
        part, series = x[:, start : start + column.width], frame[column.name]
        start += column.width
        if column.is_text:
            _encode_texts(column, _to_texts(series.iloc[rows]).tolist(), part)
        else:
            numbers.append((column, to_numbers(column.name, series, first), part))
    # Block by block: a column of x alone is far apart in memory.
    for begin in range(0, len(rows), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        for column, values, part in numbers:
            _encode_numbers(column, values[rows[block]], part[block])
    return x


def _encode_texts(column: Column, values: list[str], outputs: np.ndarray) -> None:
    if column.words is not None:
        outputs[:] = texts.encode(column.words, values)
        return
    places = {text: i for i, text in enumerate(column.categories or ())}
    found = np.array([places.get(text, -1) for text in values], np.int64)
    known = np.flatnonzero(found >= 0)
    outputs[known, found[known]] = 1


def _encode_numbers(column: Column, values: np.ndarray, outputs: np.ndarray) -> None:
    mean, nan = np.float32(column.mean), np.isnan(values)
    outputs[:, 0] = (np.where(nan, mean, values) - mean) * _invert(column)
    if column.marked:
        outputs[:, 1] = nan


def _invert(column: Column) -> np.float32:
    # TensorFlow turns a division by a constant into this product.
    return np.float32(1) / np.float32(column.scale)


def make_specs(columns: Sequence[Column]) -> "list[tf.TensorSpec]":
    """Returns the columns' tensors, `[rows]`, by names that a signature can have."""
    import tensorflow as tf

    specs, taken = [], set()
    for column in columns:
        plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in column.name)
        plain = plain if plain[:1].isalpha() else f"column_{plain}"
        name, number = plain.lower(), 1
        while name in taken:
            name, number = f"{plain.lower()}_{number}", number + 1
        taken.add(name)
        kind = tf.string if column.is_text else tf.float32
        specs.append(tf.TensorSpec([None], kind, name))
    return specs


def compute(columns: Sequence[Column], tensors: "Sequence[tf.Tensor]") -> "tf.Tensor":
    """Returns what `encode` does, in a graph that needs neither NumPy nor pandas.

    Args:
        columns: of `learn`.
        tensors: of `make_specs`; NaN and "" are missing.
    """
    import tensorflow as tf

    parts = []
    for column, values in zip(columns, tensors, strict=True):
        if column.words is not None:
            hot = texts.make_layer(column.words)(values)  # int64 in a graph.
            parts.append(tf.reshape(tf.cast(hot, tf.float32), [-1, column.width]))
            continue
        values = values[:, tf.newaxis]
        if column.categories is not None:
            # TFLite compares texts, but has no table of them.
            known = tf.constant(column.categories)[tf.newaxis]
            parts.append(tf.cast(tf.equal(values, known), tf.float32))
            continue
        nan = tf.not_equal(values, values)
        mean, inverse = tf.constant(column.mean), tf.constant(_invert(column))
        parts.append((tf.where(nan, mean, values) - mean) * inverse)
        if column.marked:
            parts.append(tf.cast(nan, tf.float32))
    return tf.concat(parts, 1)
