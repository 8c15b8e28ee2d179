"""Tables in CSV, TSV, Parquet and TFRecord files, in parts, with errors by row.

    for frame in frames.read("houses.csv"):  # pandas frames of up to 65,536 rows
        ...
    frame = frames.read_all("houses.csv")

The trap: a row with a field too many, which pandas may take for an index, and shift all
columns of the table.
"""

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfreg import _checks
from tfreg.data import features as tfrecord
from tfreg.data import files

SUFFIXES = (
    *(".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet"),
    *tfrecord.SUFFIXES,
)
ROWS = 2**16


def is_table(path: str | os.PathLike) -> bool:
    """Returns whether a file's name is that of a table."""
    return os.fsdecode(path).lower().endswith(SUFFIXES)


def read(
    path: str | os.PathLike,
    texts: Collection[str] = (),
    columns: Collection[str] | None = None,
    keep: Collection[str] = (),
    features: Sequence[str] = (),
) -> Iterator[Any]:
    """Returns an iterator of pandas frames, the rows of a file in order.

    Args:
        path: of a file with one of SUFFIXES; the first line of a CSV has the names.
        texts: columns that are read as texts, also where they hold numbers.
        columns: those to read, of which the file may lack some; None: all.
        keep: columns whose numbers keep their types; others become float32.
        features: of a TFRecord file, as for `features.parse`.

    Raises:
        DataError: the file can't be read, or isn't a table; or a package is missing.
    """
    path = os.path.expanduser(os.fsdecode(path))
    _checks.check_regular(path, files.DataError)
    parts: Iterator[Any]
    if path.lower().endswith(tfrecord.SUFFIXES):
        parts = tfrecord.read(path, tfrecord.parse(features), ROWS, columns)
    else:
        is_parquet = path.lower().endswith(".parquet")
        parts = (_read_parquet if is_parquet else _read_csv)(path, texts, columns)
    count = 0
    with _explain(path):
        for frame in parts:
            count += len(frame)
            numbers = frame.select_dtypes(["number"]).columns.difference(list(keep))
            with np.errstate(over="ignore"):  # Infinities are refused by their rows.
                yield frame.astype(dict.fromkeys(numbers, np.float32))
    if not count:
        raise files.DataError(
            f"{path!r} must have rows below its line of names, got none: add them"
        )


def read_all(
    path: str | os.PathLike,
    texts: Collection[str] = (),
    keep: Collection[str] = (),
    features: Sequence[str] = (),
) -> Any:
    """Returns all rows of a file as one pandas frame.

    Args:
        path: as for `read`.
        texts: as for `read`.
        keep: as for `read`.
        features: as for `read`.

    Raises:
        DataError: as for `read`.
    """
    pandas = import_pandas()
    parts = list(read(path, texts, keep=keep, features=features))
    numeric = [frame.dtypes.map(is_number) for frame in parts]
    mixed = {
        str(name)
        for name in parts[0].columns
        if len({bool(kinds[name]) for kinds in numeric}) > 1
    }
    if mixed - set(texts):  # Numbers in one part, and a text in another one.
        del parts
        return read_all(path, {*texts, *mixed}, keep, features)
    names = list(parts[0].columns)
    # One column after another, whose parts are freed: not twice the table.
    return pandas.DataFrame(
        {
            name: pandas.concat([frame.pop(name) for frame in parts], ignore_index=True)
            for name in names
        },
        copy=False,
    )


def import_pandas() -> Any:
    """Returns the module pandas.

    Raises:
        DataError: it isn't installed.
    """
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise files.DataError(
            "a table must be read by the package pandas, got no such package: run "
            "python -m pip install pandas"
        ) from error


def is_number(dtype: Any) -> bool:
    """Returns whether a pandas dtype is of numbers or bools without missing ones."""
    return getattr(dtype, "kind", "O") in "iufb"


def _read_csv(
    path: str, texts: Collection[str], columns: Collection[str] | None
) -> Iterator[Any]:
    pandas = import_pandas()
    known = columns and set(columns)
    separator = "\t" if ".tsv" in path[-7:].lower() else ","
    with _explain(path):
        options: dict[str, Any] = {
            "sep": separator,
            "dtype": dict.fromkeys(texts, str),
            "index_col": False,
            "chunksize": ROWS,
            "usecols": None if known is None else lambda name: name in known,
        }
        with pandas.read_csv(path, **options) as parts:
            while True:
                with warnings.catch_warnings():
                    # Of a field too many in every row, which would be dropped.
                    warnings.simplefilter("error", pandas.errors.ParserWarning)
                    frame = next(parts, None)
                if frame is None:
                    return
                frame.columns = frame.columns.map(str)
                yield frame


def _read_parquet(
    path: str, texts: Collection[str], columns: Collection[str] | None
) -> Iterator[Any]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise files.DataError(
            f"{path!r} must be read by the package pyarrow, got no such package: run "
            "python -m pip install pyarrow"
        ) from error
    with _explain(path):
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        wanted = [n for n in names if columns is None or n in columns]
        for batch in file.iter_batches(ROWS, columns=wanted):
            frame = batch.to_pandas()
            frame.columns = frame.columns.map(str)
            yield frame.astype({n: str for n in texts if n in frame})


@contextlib.contextmanager
def _explain(path: str) -> Iterator[None]:
    """Names the row of bytes that are no text, which pandas doesn't."""
    try:
        with files.reading(repr(path)):
            yield
    except files.DataError as error:
        cause = error.__cause__
        if isinstance(cause, UnicodeDecodeError):
            raise files.DataError(
                f"{path!r} must be UTF-8, got other bytes in row {_find_bytes(path)}: "
                "save it as UTF-8"
            ) from error
        raise


def _find_bytes(path: str) -> int:
    """Returns the number of the first row that isn't UTF-8; that of the names is 0."""
    import gzip

    opened = gzip.open if path.lower().endswith(".gz") else io.open
    with opened(path, "rb") as file:
        for row, line in enumerate(file):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return row
    return 0


def to_frame(rows: Any) -> Any:
    """Returns a pandas frame of a frame, or of a dict of columns.

    Raises:
        ValueError: something else.
    """
    pandas = import_pandas()
    if isinstance(rows, Mapping):
        return pandas.DataFrame(dict(rows))
    if isinstance(rows, pandas.DataFrame):
        return rows
    raise ValueError(
        f"x must be a pandas frame or a dict of columns, as the table of the training, "
        f"got a {type(rows).__name__}: pass columns by their names"
    )
