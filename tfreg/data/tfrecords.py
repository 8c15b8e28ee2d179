"""TFRecord files read by number instead of in order.

    with tf.io.TFRecordWriter("a.tfrecord") as writer:
        feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[3]))
        features = tf.train.Features(feature={"age": feature})
        writer.write(tf.train.Example(features=features).SerializeToString())
    age = {"age": tf.io.FixedLenFeature([], tf.int64)}
    source = data.Indexed(data.records("a.tfrecord", age, lambda e: (e["age"], 1)))

The trap: a shuffle buffer over files in order mixes near records only. By number, every
order is possible and a run resumes at once.
"""

import array
import functools
import mmap
import os
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfreg import _checks
from tfreg.data import files, nests

if TYPE_CHECKING:
    import tensorflow as tf

_AROUND = 16  # Bytes of a record beside its data: its length and two checksums.


class _Records:
    """What `records` returns.

    Attributes:
        paths: of the files.
    """

    def __init__(
        self,
        paths: list[str],
        features: Mapping[str, Any],
        to_example: Callable[[dict], tuple],
    ) -> None:
        self.paths = paths
        self._features = dict(features)
        self._to_example = to_example
        indexed = [index(path) for path in self.paths]
        self._offsets = np.concatenate([offsets for offsets, _ in indexed])
        self._lengths = np.concatenate([lengths for _, lengths in indexed])
        # The number of the first record of each file.
        self._starts = np.cumsum([0, *(len(offsets) for offsets, _ in indexed)])

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, row: int) -> tuple:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple]:
        import tensorflow as tf

        serialized = self._read(rows)
        try:
            with tf.device("CPU:0"):
                batch = self._parse(tf.constant(serialized, tf.string))
        except tf.errors.OpError as error:
            for row in rows if len(rows) > 1 else ():
                self[row]
            # The stack of the graph may stand before the reason.
            found = re.findall(r"(?:Key|Feature): .*", error.message)
            text = " ".join((found or [error.message])[0].split())[:200]
            raise files.DataError(
                f"{self._locate(rows[0])} must hold the features, got {text}: check "
                "them, or write it again"
            ) from error
        leaves = [leaf.numpy() for _, leaf in nests.flatten("", batch)]
        return [nests.pack(batch, values) for values in zip(*leaves, strict=True)]

    @functools.cached_property
    def _parse(self) -> "tf.types.experimental.GenericFunction":
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def parse(serialized: "tf.Tensor") -> Any:
            parsed = tf.io.parse_example(serialized, self._features)
            specs = {
                name: tf.TensorSpec(value.shape[1:], value.dtype)
                for name, value in parsed.items()
            }
            function = tf.function(self._to_example).get_concrete_function(specs)
            return tf.map_fn(
                function,
                parsed,
                parallel_iterations=64,
                fn_output_signature=tf.nest.map_structure(
                    lambda spec: tf.TensorSpec(spec.shape, spec.dtype),
                    function.structured_outputs,
                ),
            )

        return parse

    def _read(self, rows: Sequence[int]) -> list[bytes]:
        """Returns the records' bytes; each file is opened once."""
        serialized = [b""] * len(rows)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            path = self.paths[number]
            with files.reading(repr(path)), open(path, "rb", buffering=0) as file:
                for i in np.flatnonzero(numbers == number).tolist():
                    length = int(self._lengths[rows[i]])
                    offset = int(self._offsets[rows[i]])
                    serialized[i] = os.pread(file.fileno(), length, offset)
                    if len(serialized[i]) != length:
                        raise files.DataError(
                            f"{self._locate(rows[i])} must have {length} bytes, got "
                            f"{len(serialized[i])}: the file was cut meanwhile"
                        )
        return serialized

    def _locate(self, row: int) -> str:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"record {row - self._starts[number]} of {self.paths[number]!r}"


def records(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    features: Mapping[str, Any],
    to_example: Callable[[dict], tuple],
) -> Any:
    """Returns a source of the tf.train.Examples in TFRecord files, by their numbers.

    The files' length headers are read now, and compared with their checksums and the
    file's size. The checksums of the data aren't compared.

    Args:
        paths: one uncompressed TFRecord file, or several in the order of the numbers.
        features: name -> tf.io.FixedLenFeature.
        to_example: function of a dict, name -> tensor of one record, that returns an
            example (x, y) or (x, y, weights). It is traced once, as in tf.data's map,
            and decodes images, for example. It must not draw random numbers.

    Returns:
        A source for Indexed.

    Raises:
        ValueError: there are no paths or features.
        TypeError: a feature isn't a FixedLenFeature, or `to_example` no function.
        DataError: a file is missing, compressed or cut: the record is named. Reading a
            record that hasn't the features raises it too.
    """
    import tensorflow as tf

    example = 'lambda e: (e["image"], e["label"])'
    _checks.check_function("to_example", to_example, example)
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not paths or not features:
        name, value = ("features", features) if paths else ("paths", paths)
        raise ValueError(f"{name} must not be empty, got {value!r}: pass some")
    for name, feature in features.items():
        if not isinstance(feature, tf.io.FixedLenFeature):
            raise TypeError(
                f"features[{name!r}] must be a tf.io.FixedLenFeature, got a "
                f"{type(feature).__name__}: write a Pipeline, which takes ragged "
                "batches"
            )
    return _Records(list(map(os.fsdecode, paths)), features, to_example)


def index(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the offsets and lengths of the data of a file's records, int64."""
    offsets, lengths, crcs = array.array("q"), array.array("q"), array.array("I")
    with files.reading(repr(path)), open(path, "rb") as file:
        size = os.path.getsize(path)
        if file.read(2) == b"\x1f\x8b":
            raise ValueError("a gzip file; decompress it, or write a Pipeline")
        if not size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = 0
            while start < size:
                header = content[start : start + 12].ljust(12, b"\0")
                length, crc = struct.unpack("<QI", header)
                if start + _AROUND + length > size:
                    raise ValueError(
                        f"{size - start} bytes for record {len(offsets)}, which "
                        f"takes {_AROUND + length}"
                    )
                offsets.append(start + 12)
                lengths.append(length)
                crcs.append(crc)
                start += _AROUND + length
    damaged = np.flatnonzero(_mask_crcs(np.array(lengths, "<u8")) != np.array(crcs))
    if damaged.size:
        raise files.DataError(
            f"record {damaged[0]} of {path!r} must have the checksum of its length, "
            "got another: write the file again"
        )
    return np.array(offsets, np.int64), np.array(lengths, np.int64)


def _mask_crcs(lengths: np.ndarray) -> np.ndarray:
    """Returns the masked CRC-32C of each length, as TFRecord files store it."""
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    crcs: np.ndarray = np.full(len(lengths), 0xFFFFFFFF, np.uint32)
    for byte in lengths.view(np.uint8).reshape(-1, 8).T:
        crcs = table[(crcs ^ byte) & 0xFF] ^ (crcs >> 8)
    final = ~crcs
    return ((final >> 15) | (final << 17)) + np.uint32(0xA282EAD8)
