"""TFRecord files as tables: a specification says what the records hold.

    text = "age:int64,x:float32[3],city:string"
    spec = features.parse(text.split(","))
    features.list_columns(spec)  # ["age", "x_0", "x_1", "x_2", "city"]

The trap: a record without a feature, which TensorFlow names by its place in a batch.
Here its number in the file is named.
"""

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfreg.data import files, tfrecords

SUFFIXES = (".tfrecord", ".tfrecords")
DTYPES = ("float32", "int64", "string")
_FEATURE = re.compile(rf"([^:,\[\]]+):({'|'.join(DTYPES)})(?:\[(\d+(?:x\d+)*)\])?")

Spec = dict[str, tuple[str, tuple[int, ...]]]  # Name -> dtype, shape.


def parse(texts: Sequence[str]) -> Spec:
    """Returns the features of `--features`, each `name:dtype` or `name:dtype[28x28]`.

    Raises:
        ValueError: a text has another form, or a name comes twice.
    """
    spec: Spec = {}
    for text in texts:
        found = _FEATURE.fullmatch(text)
        sizes = tuple(map(int, found[3].split("x"))) if found and found[3] else ()
        if found is None or found[1] in spec or 0 in sizes:
            raise ValueError(
                f"features must be a name, one of {', '.join(DTYPES)} and perhaps a "
                f"shape, each name once, got {text!r}: write for example "
                "age:float32,x:float32[28x28]"
            )
        spec[found[1]] = found[2], sizes
    return spec


def list_columns(spec: Spec) -> list[str]:
    """Returns the columns' names: a feature of a shape has one for each number."""
    names: list[str] = []
    for name, (_, shape) in spec.items():
        count = math.prod(shape)
        names += [f"{name}_{i}" for i in range(count)] if shape else [name]
    return names


def read(
    path: str, spec: Spec, rows: int, columns: Collection[str] | None
) -> Iterator[Any]:
    """Returns an iterator of pandas frames of up to `rows` records of a file.

    A float or a text that a record lacks is missing.

    Args:
        path: of an uncompressed TFRecord file of tf.train.Examples.
        spec: of `parse`.
        rows: of a frame.
        columns: those to read; None: all.

    Raises:
        DataError: the file is damaged, or a record hasn't the features; it is named.
    """
    import pandas
    import tensorflow as tf

    if not spec:
        raise files.DataError(
            f"{path!r} must have a specification of its records, got none: write for "
            "example --features=age:float32,x:float32[4],label:int64"
        )
    wanted = {
        name: feature
        for name, feature in spec.items()
        if columns is None or set(list_columns({name: feature})) & set(columns)
    }
    tfrecords.index(path)  # A cut file, or a damaged length, is named by its record.
    parse_batch = tf.function(lambda serialized: _parse(serialized, wanted))
    serialized = tf.data.TFRecordDataset(path).batch(rows)
    first = 0
    iterator = iter(serialized)
    while True:
        try:
            with tf.device("CPU:0"):
                batch = next(iterator, None)
                if batch is None:
                    return
                parsed = parse_batch(batch)
        except tf.errors.OpError as error:
            raise _locate(path, wanted, first, error) from error
        yield pandas.DataFrame(_to_columns(parsed, wanted))
        first += len(batch)


def _parse(serialized: Any, spec: Spec) -> Any:
    import tensorflow as tf

    wanted = {}
    for name, (dtype, shape) in spec.items():
        missing = {"float32": np.nan, "string": ""}.get(dtype)
        default = None if missing is None else np.full(shape, missing).tolist()
        wanted[name] = tf.io.FixedLenFeature(shape, tf.as_dtype(dtype), default)
    return tf.io.parse_example(serialized, wanted)


def _to_columns(parsed: Mapping[str, Any], spec: Spec) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for name, feature in spec.items():
        values = parsed[name].numpy().reshape(len(parsed[name]), -1)
        if feature[0] == "string":
            texts = [value.decode("utf-8", "replace") for value in values.ravel()]
            values = np.array(texts, object).reshape(values.shape)
            values[values == ""] = None
        made |= zip(list_columns({name: feature}), values.T, strict=True)
    return made


def _locate(path: str, spec: Spec, first: int, error: Any) -> files.DataError:
    """Returns the error with the number of the first record that is to blame."""
    import tensorflow as tf

    number = first
    try:
        for serialized in tf.data.TFRecordDataset(path).skip(first):
            _parse(serialized[tf.newaxis], spec)
            number += 1
    except tf.errors.OpError as found:
        error = found
    # The stack of the graph may stand before the reason.
    reasons = re.findall(r"(?:Key|Feature): .*|corrupted record[^;[]*", error.message)
    text = " ".join((reasons or [error.message])[0].split())[:200]
    return files.DataError(
        f"record {number} of {os.fsdecode(path)!r} must hold the features, got {text}: "
        "check --features, or write the file again"
    )
