"""Sources of examples: nests, files, HDF5, PyTorch's protocol, tf.data, pictures."""

import collections
import pathlib
import re
import threading
import time

import h5py
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from tfreg import data
from tfreg.data import files
from tfreg.training import batches

# NAME must be ALLOWED, got VALUE: DO THIS.
HOUSE = re.compile(r".+ must .+, got .+: .+", re.DOTALL)
ROWS = np.array([5, 0, 3, 3, 9])
Pair = collections.namedtuple("Pair", "left right")


class Listed:
    """A source as PyTorch's and Grain's: one number, or a list of them."""

    def __init__(self, examples, broken=()):
        self.examples, self.broken, self.calls = examples, broken, []

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, row):
        if row in self.broken:
            raise OSError(5, "Input/output error", f"disk/{row}.png")
        return self.examples[row]

    def __getitems__(self, rows):
        assert type(rows) is list and all(type(row) is int for row in rows)
        self.calls.append(len(rows))
        return [self[row] for row in rows]


class Single(Listed):
    """The same source without lists."""

    __getitems__ = property()  # hasattr is False.


def make_examples(rng, count=10):
    x = rng.normal(size=(count, 4, 3)).astype(np.float32)
    y = rng.integers(0, 5, count)
    return x, y, list(zip(x, y, strict=True))


def assert_equal(got, wanted):
    tf.nest.assert_same_structure(got, wanted)
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(wanted), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def check_sentence(info):
    assert HOUSE.fullmatch(str(info.value)), str(info.value)


# Split


def test_a_split_of_a_nest_fetches_the_rows_of_each_array(rng):
    image = rng.integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    age = rng.normal(size=10)
    x = {"image": image, "other": (age, Pair([float(i) for i in range(10)], age > 0))}
    y = {"class": np.arange(10), "box": rng.normal(size=(10, 4)).astype(np.float32)}
    weights = rng.random((10, 7)).astype(np.float32)
    split = data.Split(x, y, weights, pixels=True)
    batch = split.fetch(ROWS)
    wanted = (
        {
            "image": image[ROWS],
            "other": (age[ROWS], Pair(ROWS.astype(np.float64), age[ROWS] > 0)),
        },
        {"class": y["class"][ROWS], "box": y["box"][ROWS]},
        weights[ROWS],
    )
    assert_equal(batch, wanted)
    assert len(split) == 10
    specs = tf.nest.map_structure(
        lambda a: tf.TensorSpec([None, *a.shape[1:]], a.dtype), wanted
    )
    assert split.spec == specs
    assert split.nbytes == image.nbytes + 8 * 10 * 2 + 10 + 80 + 160 + weights.nbytes


def test_a_split_of_columns_of_a_pandas_frame():
    frame = pd.DataFrame({"age": [3, 4, 5], "name": ["a", "bc", "d\u00e9"]})
    split = data.Split({k: frame[k] for k in frame}, frame["age"])
    x, y = split.fetch(np.array([2, 0]))
    assert x["name"].tolist() == ["d\u00e9", "a"] and y.tolist() == [5, 3]
    assert split.spec[0]["name"] == tf.TensorSpec([None], tf.string)
    assert tf.constant(x["name"]).numpy().tolist() == ["d\u00e9".encode(), b"a"]
    with pytest.raises(TypeError, match="x must be .*object: pass each column") as info:
        data.Split(frame, frame["age"])
    check_sentence(info)
    both = data.Split(frame[["age", "age"]], frame["age"])
    assert both.fetch(np.array([1]))[0].tolist() == [[4, 4]]
    assert both.columns == ("age", "age") and split.columns == ()


def test_nonfinite_values_are_named_by_example_and_column():
    x = np.zeros([4, 3], np.float32)
    x[[1, 3], [0, 2]] = np.nan, -np.inf
    y, weights = np.zeros([4, 2, 2], np.float32), np.float32([1, 2, np.inf, 0])
    y[0, 1, 0] = np.nan
    bad, columns = batches.find_nonfinite((x, y, weights), ("age", "b", "size"))
    assert bad.all() and columns == "x, columns `age`, `size`; y, place [1, 0]; weights"
    ids = tf.ragged.constant([[1.0], [], [2.0, np.nan], [3.0]])
    bad, columns = batches.find_nonfinite(({"ids": ids, "n": np.arange(4)}, x[:, 1]))
    assert bad.tolist() == [False, False, True, False]
    assert columns == 'x["ids"], column 1'
    bad, columns = batches.find_nonfinite((np.full([2, 30], np.nan), [0, 1]))
    assert columns.endswith(" 8, 9 and 20 more")


@pytest.mark.parametrize("make", [list, np.array, lambda v: np.array(v, object)])
def test_texts_are_inputs_but_no_targets(make):
    texts = ["a", "bcd", "e"]
    split = data.Split(make(texts), [0, 1, 2])
    assert tf.constant(split.fetch([1, 0])[0]).numpy().tolist() == [b"bcd", b"a"]
    assert split.nbytes >= 3 * 8 + 5  # Pointers and letters, or four bytes a letter.
    with pytest.raises(TypeError, match="y must be an array of numbers.*np.unique"):
        data.Split([0, 1, 2], make(texts))


def test_a_list_of_long_texts_does_not_take_the_longest_ones_memory():
    texts = ["a"] * 1_000 + ["b" * 100_000]
    assert data.Split(texts, np.zeros(1_001)).nbytes < 1_000_000


def test_a_ragged_tensor_is_fetched_by_rows():
    ragged = tf.ragged.constant([[1, 2], [], [3], [4, 5, 6]])
    split = data.Split({"ids": ragged}, np.arange(4))
    x, y = split.fetch(np.array([3, 1, 0]))
    assert x["ids"].to_list() == [[4, 5, 6], [], [1, 2]]
    assert split.spec[0]["ids"].is_compatible_with(x["ids"])
    assert split.spec[0]["ids"].shape.as_list() == [None, None]
    assert split.nbytes == 6 * 4 + 5 * 8 + 4 * 8 and y.tolist() == [3, 1, 0]


# Indexed


@pytest.mark.parametrize("kind", [Listed, Single, lambda examples: examples])
@pytest.mark.parametrize("threads", [1, 8])
def test_indexed_stacks_examples_in_the_order_of_the_rows(rng, kind, threads):
    x, y, examples = make_examples(rng, 600)
    indexed = data.Indexed(kind(examples), threads)
    rows = np.concatenate([rng.permutation(600), ROWS])
    assert_equal(indexed.fetch(rows), (x[rows], y[rows]))
    assert_equal(indexed.fetch(rows[:0]), (x[:0], y[:0]))
    assert indexed.spec == (
        tf.TensorSpec([None, 4, 3], tf.float32),
        tf.TensorSpec([None], tf.int64),
    )
    assert len(indexed) == 600 and indexed.nbytes is None


def test_lists_are_read_in_few_calls(rng):
    source = Listed(make_examples(rng, 600)[2])
    data.Indexed(source).fetch(np.arange(600))
    assert sorted(source.calls) == [1, 88, 256, 256]


def test_the_first_to_be_read_need_not_be_the_first_asked_for():
    class Slow:
        def __len__(self):
            return 8

        def __getitem__(self, row):
            if row:  # The later of a batch come first.
                time.sleep(0.02 * (8 - row))
            finished.append(row)
            return row, threading.get_ident()

    finished = []
    rows = np.arange(1, 8)
    x, y = data.Indexed(Slow(), threads=8).fetch(rows)
    np.testing.assert_array_equal(x, rows)
    assert len(set(y)) == 7 and finished[1:] != rows.tolist()


def test_pythons_numbers_are_float32_and_int64_and_arrays_stay():
    example = {"f": 0.5, "i": 3, "b": True, "d": np.float64(2), "l": [1.0, 2.0]}
    example |= {"s": "caf\u00e9", "t": tf.constant([1.0, 2.0]), "h": np.float16(1)}
    indexed = data.Indexed([((example, [1, 2]), 0, 0.25)] * 3)
    (x, ids), _, weights = indexed.fetch([0, 1])
    dtypes = {k: str(v.dtype) for k, v in x.items()}
    assert dtypes == {
        "f": "float32",
        "i": "int64",
        "b": "bool",
        "d": "float64",
        "l": "float32",
        "s": "object",
        "t": "float32",
        "h": "float16",
    }
    assert indexed.spec[0][0]["s"] == tf.TensorSpec([None], tf.string)
    assert ids.dtype == np.int64 and ids.shape == (2, 2)
    np.testing.assert_array_equal(weights, np.float32([0.25, 0.25]))


@pytest.mark.parametrize("kind", [Listed, Single])
def test_an_example_that_cannot_be_read_is_named_with_its_path(rng, kind):
    indexed = data.Indexed(kind(make_examples(rng)[2], broken=(7, 8)))
    with pytest.raises(data.DataError, match=r"source\[7\] .*'disk/7.png'") as info:
        indexed.fetch(np.array([1, 7, 2, 8]))
    check_sentence(info)
    assert isinstance(info.value.__cause__, OSError)
    assert len(indexed.fetch(np.array([1, 2]))[1]) == 2  # The threads live on.
    with pytest.raises(data.DataError, match=r"source\[0\] must be readable"):
        data.Indexed(kind(make_examples(rng)[2], broken=(0,)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((np.zeros([4, 3]), 0), r"x of source\[6\] must be float32.*got float64"),
        (
            (np.zeros([4, 2], "f"), 0),
            r"x of source\[6\] .*\(4, 3\).*\(4, 2\).*Pipeline",
        ),
        ((np.zeros([4, 3], "f"), 0.5), r"y of source\[6\] must be int64.*got float32"),
        ((np.zeros([4, 3], "f"), [[1], [1, 2]]), r"y of source\[6\]"),
        ((np.zeros([4, 3], "f"), None), r"y of source\[6\] must .*NoneType"),
        (({"a": np.zeros([4, 3], "f")}, 0), r'source\[6\] must hold x, y .*x\["a"\]'),
        ((np.zeros([4, 3], "f"), 0, 1.0), r"source\[6\] must hold x, y .*weights"),
    ],
)
def test_an_example_unlike_the_first_is_named(rng, other, message):
    examples = make_examples(rng)[2]
    examples[6] = other
    with pytest.raises(data.DataError, match=message) as info:
        data.Indexed(examples).fetch(np.arange(10))
    check_sentence(info)


@pytest.mark.parametrize("columns", [False, True])
def test_a_source_that_changes_its_length_is_refused(rng, columns):
    x, y, examples = make_examples(rng)
    source = (x, list(y)) if columns else examples
    indexed = data.Indexed(source)
    indexed.fetch(ROWS)
    (source[1] if columns else source).pop()
    with pytest.raises(data.DataError, match="must keep its 10 .* got 9") as info:
        indexed.fetch(ROWS[:2])
    check_sentence(info)


def test_too_few_of_a_list_are_refused(rng):
    class Short(Listed):
        def __getitems__(self, rows):
            return super().__getitems__(rows)[:1]

    with pytest.raises(data.DataError, match="got 1 for 5") as info:
        data.Indexed(Short(make_examples(rng)[2])).fetch(ROWS)
    check_sentence(info)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ([], ValueError, "source must have examples, got none"),
        (iter([1]), TypeError, "source must have __len__ .*Pipeline"),
        (tf.data.Dataset.range(3), TypeError, "source must have .*Pipeline"),
        (np.zeros([3, 2]), TypeError, r"source\[0\] must be a tuple .*ndarray: "),
        ([{"x": 1}], TypeError, r"source\[0\] must be a tuple .* got a dict"),
        ([(1, 2, 3, 4)], TypeError, r"source\[0\] must be a tuple"),
        (([1], [2], [3], [4]), TypeError, "source must be a tuple .* got 4 parts"),
        (([1, 2], np.zeros(3)), ValueError, "x and y must .* got 2 and 3"),
        ((np.array([{}]), [1]), TypeError, "x must hold numbers or texts, got object"),
    ],
)
def test_what_is_no_source_is_refused_at_once(source, kind, message):
    with pytest.raises(kind, match=message) as info:
        data.Indexed(source)
    check_sentence(info)


@pytest.mark.parametrize("chunks", [None, (7, 2)])
def test_hdf5_and_memory_maps_are_read_by_row(tmp_path, rng, chunks):
    x = rng.normal(size=(300, 4)).astype(np.float32)
    y = rng.integers(0, 9, 300)
    np.save(tmp_path / "w.npy", x[:, 0])
    mapped = np.load(tmp_path / "w.npy", mmap_mode="r")
    names = [f"n{i}" for i in range(300)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x/a", data=x, chunks=chunks)
        file["x/n"] = names
        file["y"] = y
    with h5py.File(tmp_path / "a.h5") as file:
        indexed = data.Indexed((file["x"], file["y"], mapped))
        for rows in (rng.permutation(300), ROWS, np.array([299, 2, 0]), ROWS[:0]):
            got_x, got_y, weights = indexed.fetch(rows)
            assert_equal((got_x["a"], got_y, weights), (x[rows], y[rows], x[rows, 0]))
            assert [n.decode() for n in got_x["n"]] == [names[i] for i in rows]
        assert indexed.spec[0]["a"] == tf.TensorSpec([None, 4], tf.float32)
        assert indexed.spec[0]["n"] == tf.TensorSpec([None], tf.string)


def test_columns_may_be_sources_of_values(rng):
    x, y, _ = make_examples(rng)
    source = ({"a": Listed([{"b": v} for v in x])}, y)
    got, labels = data.Indexed(source).fetch(ROWS)
    assert_equal((got["a"]["b"], labels), (x[ROWS], y[ROWS]))
    source[0]["a"].broken = (3,)
    with pytest.raises(data.DataError, match=r'x\["a"\]\[3\] must be readable') as info:
        data.Indexed(source).fetch(ROWS)
    check_sentence(info)


# Streams


@pytest.mark.parametrize("kind", ["split", "listed", "single", "columns"])
def test_an_epochs_order_and_its_rest_are_a_function_of_seed_and_epoch(rng, kind):
    x, y, examples = make_examples(rng, 50)
    source = {
        "split": lambda: data.Split(x, y),
        "listed": lambda: data.Indexed(Listed(examples)),
        "single": lambda: data.Indexed(Single(examples)),
        "columns": lambda: data.Indexed((x, y)),
    }[kind]()
    for seed, epoch in ((0, 0), (0, 1), (7, 1)):
        order = data.permute(50, seed, epoch)
        blocks = list(data.stream(source, order, 8))
        assert_equal(blocks[3], (x[order[24:32]], y[order[24:32]]))
        assert sum(len(block[1]) for block in blocks) == 50
        tail = list(data.stream(source, order[24:], 8))
        for block, again in zip(blocks[3:], tail, strict=True):
            assert [a.tobytes() for a in block] == [a.tobytes() for a in again]


def test_a_stream_raises_the_readers_own_error_where_its_block_would_stand(rng):
    indexed = data.Indexed(Single(make_examples(rng)[2], broken=(5,)))
    blocks = iter(data.stream(indexed, np.arange(10), 2))
    assert next(blocks)[1].shape == next(blocks)[1].shape == (2,)
    with pytest.raises(data.DataError, match=r"^source\[5\] must .*disk/5.png"):
        next(blocks)


def test_a_stream_reads_two_blocks_in_advance_and_no_more(rng):
    source = Listed(make_examples(rng)[2])
    indexed = data.Indexed(source)
    del source.calls[:]
    blocks = iter(data.stream(indexed, np.arange(10), 1))
    assert not source.calls
    next(blocks)
    deadline = time.monotonic() + 10
    while len(source.calls) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(source.calls) == 3
    blocks.close()
    time.sleep(0.05)
    assert len(source.calls) == 3


# Pipelines


def make_padded(seed, epoch):
    rows = tf.data.Dataset.range(20).shuffle(20, seed=1_000 * seed + epoch)
    examples = rows.map(lambda i: ({"ids": tf.range(i % 4)}, i))
    return examples.padded_batch(3)


def make_ragged(seed, epoch):
    ids = tf.ragged.range(tf.range(20) % 4)
    rows = tf.data.Dataset.from_tensor_slices((ids, tf.range(20), tf.ones([20])))
    return rows.shuffle(20, seed=1_000 * seed + epoch).ragged_batch(3)


def collect(dataset):
    flat = [tf.nest.flatten(batch, expand_composites=True) for batch in dataset]
    return [[value.numpy().tolist() for value in batch] for batch in flat]


@pytest.mark.parametrize("make", [make_padded, make_ragged])
def test_a_pipeline_is_opened_at_any_batch(make):
    pipeline = data.Pipeline(make)
    assert pipeline.steps == 7 and pipeline.spec == make(0, 0).element_spec
    wanted = collect(make(3, 2))
    for start in (0, 1, 5, 7):
        assert collect(pipeline.open(3, 2, start)) == wanted[start:]
    assert collect(pipeline.open(3, 1)) != wanted != collect(pipeline.open(2, 2))


def test_a_pipeline_without_an_end_takes_its_steps():
    pipeline = data.Pipeline(lambda seed, epoch: make_padded(seed, epoch).repeat(), 10)
    assert len(list(pipeline.open(0, 0, 4))) == 6
    assert data.Pipeline(make_padded, 2).open(0, 0).cardinality() == 2


BATCHES = tf.data.Dataset.range(4).map(lambda i: (i, i)).batch(2)


@pytest.mark.parametrize(
    ("make", "steps", "kind", "message"),
    [
        (BATCHES, None, TypeError, "make must be a callable"),
        (
            lambda s, e: [1],
            None,
            TypeError,
            "must return a tf.data.Dataset, got a list",
        ),
        (lambda s, e: BATCHES.repeat(), None, ValueError, "steps .*an infinite number"),
        (
            lambda s, e: BATCHES.filter(lambda x, y: True),
            None,
            ValueError,
            "steps .*an unknown",
        ),
        (
            lambda s, e: BATCHES.unbatch(),
            2,
            ValueError,
            "must return batches, got a sc",
        ),
        (lambda s, e: BATCHES, 3, ValueError, "must return 3 batches, got 2: lower"),
        (lambda s, e: BATCHES.take(0), None, ValueError, "some batches, got 0"),
        (
            lambda s, e: BATCHES.filter(lambda x, y: False),
            3,
            ValueError,
            "some batches, got 0",
        ),
        (
            lambda s, e: BATCHES.map(lambda x, y: {"x": x}),
            None,
            TypeError,
            r"tuples \(x, y\)",
        ),
        (
            lambda s, e: (
                tf.data.Dataset.range(999).shuffle(999).batch(99).map(lambda x: (x, x))
            ),
            None,
            ValueError,
            "the same batches .* pass a seed",
        ),
    ],
)
def test_a_pipeline_that_cannot_be_trained_on_is_refused(make, steps, kind, message):
    with pytest.raises(kind, match=message) as info:
        data.Pipeline(make, steps)
    check_sentence(info)


def test_a_pipeline_of_other_batches_in_a_later_epoch_is_refused():
    other = BATCHES.map(lambda x, y: (tf.cast(x, tf.float32), y))
    pipeline = data.Pipeline(lambda seed, epoch: other if epoch else BATCHES)
    with pytest.raises(data.DataError, match=r"make\(0, 1\) must .*float32") as info:
        pipeline.open(0, 1)
    check_sentence(info)
    with pytest.raises(ValueError, match="start must be an int from 0 to 2, got 3"):
        pipeline.open(0, 0, 3)


# Pictures


@pytest.fixture
def folder(tmp_path, rng):
    """Six images of two classes and files that aren't images."""
    for name in ("cat", "dog", ".hidden"):
        (tmp_path / name).mkdir()
        for i in range(3):
            image = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
            path = str(tmp_path / name / f"{i}.{'png' if i else 'JPG'}")
            encode = tf.io.encode_png if i else tf.io.encode_jpeg
            tf.io.write_file(path, encode(image))
    (tmp_path / "cat" / "notes.txt").write_text("none")
    return tmp_path


def decode(path, channels=3):
    content = pathlib.Path(path).read_bytes()
    return tf.io.decode_image(content, channels, expand_animations=False).numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_read_by_class_in_order(folder, channels):
    source = data.images(folder, channels=channels)
    assert source.classes == ("cat", "dog") and len(source) == 6
    names = [str(pathlib.Path(path).relative_to(folder)) for path in source.paths]
    assert names[:4] == ["cat/0.JPG", "cat/1.png", "cat/2.png", "dog/0.JPG"]
    indexed = data.Indexed(source)
    assert indexed.pixels and not data.Indexed(source, pixels=False).pixels
    rows = np.array([4, 0, 5])
    wanted = np.stack([decode(source.paths[i], channels) for i in rows])
    assert_equal(indexed.fetch(rows), (wanted, np.int32([1, 0, 1])))
    assert_equal(source[4], (wanted[0], np.int32(1)))
    split = data.load_images(folder, channels=channels)
    assert split.pixels and len(split) == 6
    np.testing.assert_array_equal(split.x[rows], wanted)


def test_classes_keep_the_numbers_they_are_given(folder):
    source = data.images(folder, classes=["eel", "dog", "cat"])
    assert source.labels.tolist() == [1, 1, 1, 2, 2, 2]
    with pytest.raises(data.DataError, match="folders of cat, got dog") as info:
        data.images(folder, classes=["cat"])
    check_sentence(info)


@pytest.mark.parametrize("content", [b"", b"text", "cut"])
def test_a_damaged_image_is_named(folder, content):
    path = folder / "dog" / "0.JPG"
    path.write_bytes(path.read_bytes()[:-40] if content == "cut" else content)
    indexed = data.Indexed(data.images(folder))
    for read in (indexed.fetch, lambda rows: indexed.source[3]):
        with pytest.raises(data.DataError, match="dog/0.JPG' must be an image") as info:
            read(np.arange(6))
        check_sentence(info)
        assert "{{" not in str(info.value) and "[Op" not in str(info.value)
    with pytest.raises(data.DataError, match="0.JPG"):
        data.load_images(folder)
    assert len(indexed.fetch(np.array([0, 1, 2]))[1]) == 3


def test_images_of_another_size_are_named_or_resized(folder, rng):
    path = folder / "dog" / "1.png"
    image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    tf.io.write_file(str(path), tf.io.encode_png(image))
    with pytest.raises(data.DataError, match=r"1.png' must be of shape \(6, 5, 3") as e:
        data.load_images(folder)
    check_sentence(e)
    x = data.load_images(folder, size=(6, 5)).x
    np.testing.assert_array_equal(x[0], decode(folder / "cat" / "0.JPG"))
    # Pillow rounds after each axis.
    truth = np.asarray(Image.fromarray(image).resize((5, 6), Image.Resampling.BILINEAR))
    assert np.abs(x[4].astype(int) - truth).max() <= 1
    assert data.images(folder, size=[3, 2]).shape == (3, 2, 3)


def test_a_file_that_is_gone_is_named(folder):
    indexed = data.Indexed(data.images(folder))
    (folder / "cat" / "2.png").unlink()
    with pytest.raises(
        data.DataError, match="cat/2.png' must be an image, got .*No su"
    ):
        indexed.fetch(np.arange(6))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"folder": "/nowhere"}, data.DataError, "folder '/nowhere' must .*No such"),
        ({"channels": 2}, ValueError, "channels must be 1, 3 or 4, got 2"),
        ({"size": 32}, ValueError, r"size must be \(height, width\), got 32"),
        ({"size": (32, 0)}, ValueError, "size must be an int >= 1, got 0"),
        (
            {"folder": "EMPTY"},
            data.DataError,
            "a folder of images per class, got no im",
        ),
    ],
)
def test_images_refuses_what_it_cannot_read(folder, arguments, kind, message):
    given = {"folder": folder} | arguments
    if given["folder"] == "EMPTY":
        given["folder"] = folder / "cat"
    with pytest.raises(kind, match=message) as info:
        data.images(**given)
    check_sentence(info)


def test_images_beyond_the_limit_are_not_loaded(folder, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 6 * 6 * 5 * 3 - 1)
    with pytest.raises(data.DataError, match="got 540: write Indexed") as info:
        data.load_images(folder)
    check_sentence(info)


# TFRecord

FEATURES = {
    "x": tf.io.FixedLenFeature([2], tf.float32),
    "name": tf.io.FixedLenFeature([], tf.string),
    "y": tf.io.FixedLenFeature([], tf.int64),
}


def write_records(path, numbers):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in numbers:
            x = tf.train.FloatList(value=[i, i / 3])
            name = tf.train.BytesList(value=[b"n" * i])
            feature = {
                "x": tf.train.Feature(float_list=x),
                "name": tf.train.Feature(bytes_list=name),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[i])),
            }
            features = tf.train.Features(feature=feature)
            writer.write(tf.train.Example(features=features).SerializeToString())


@pytest.fixture
def two_files(tmp_path):
    paths = [tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]
    write_records(paths[0], range(4))
    write_records(paths[1], range(4, 11))
    return paths


def to_example(record):
    return {"x": record["x"], "n": (record["name"],)}, record["y"] * 2


def test_records_are_read_by_number_as_tf_data_reads_them_in_order(two_files):
    source = data.records(two_files, FEATURES, to_example)
    indexed = data.Indexed(source)
    rows = np.array([10, 0, 3, 4, 4])
    dataset = tf.data.TFRecordDataset([str(path) for path in two_files])
    parsed = dataset.map(lambda s: tf.io.parse_single_example(s, FEATURES))
    parsed = list(parsed.as_numpy_iterator())
    assert len(source) == len(indexed) == len(parsed) == 11
    x, y = indexed.fetch(rows)
    np.testing.assert_array_equal(x["x"], [parsed[i]["x"] for i in rows])
    assert x["n"][0].tolist() == [parsed[i]["name"] for i in rows]
    assert_equal(y, 2 * rows)
    assert indexed.spec[0]["n"] == (tf.TensorSpec([None], tf.string),)
    one = data.records(str(two_files[0]), FEATURES, to_example)
    assert len(one) == 4 and one[2][1] == 4


@pytest.mark.parametrize("cut", [1, 4, 13, 30])
def test_a_truncated_record_file_is_named_with_its_record(two_files, cut):
    content = two_files[1].read_bytes()
    two_files[1].write_bytes(content[:-cut])
    with pytest.raises(data.DataError, match="b.tfrecord.*for record 6, ") as info:
        data.records(two_files, FEATURES, to_example)
    check_sentence(info)


def test_a_damaged_length_is_found_by_its_checksum(two_files):
    content = bytearray(two_files[0].read_bytes())
    content[8] ^= 1
    two_files[0].write_bytes(content)
    with pytest.raises(data.DataError, match="record 0 of .*a.tfrecord.*check") as info:
        data.records(two_files, FEATURES, to_example)
    check_sentence(info)


def test_a_damaged_record_is_named_when_it_is_read(two_files):
    indexed = data.Indexed(data.records(two_files, FEATURES, to_example))
    content = two_files[1].read_bytes()
    at = content.index(b"nnnnn")  # The name of record 1 of the file, 5 letters.
    two_files[1].write_bytes(content[: at - 3] + b"\xff\xff\xff" + content[at:])
    for read in (indexed.fetch, indexed.source.__getitems__):
        with pytest.raises(data.DataError, match="record 1 of .*b.tfrecord") as info:
            read(np.arange(11))
        check_sentence(info)
    two_files[1].write_bytes(content[:at])
    with pytest.raises(
        data.DataError, match="record 1 of .*b.tfrecord.* bytes"
    ) as info:
        indexed.fetch(np.array([0, 5]))
    check_sentence(info)
    assert indexed.fetch(np.array([0, 4]))[1].tolist() == [0, 8]


def test_a_missing_feature_is_named(two_files):
    features = FEATURES | {"z": tf.io.FixedLenFeature([], tf.int64)}
    with pytest.raises(data.DataError, match="record 0 of .*features, got .*z") as info:
        data.Indexed(data.records(two_files, features, to_example))
    check_sentence(info)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"paths": []}, ValueError, "paths must not be empty"),
        ({"features": {}}, ValueError, "features must not be empty"),
        (
            {"features": {"x": tf.io.VarLenFeature(tf.int64)}},
            TypeError,
            r"features\['x'\] must be a tf.io.FixedLenFeature.*Pipeline",
        ),
        ({"to_example": None}, TypeError, "to_example must be a callable"),
        ({"paths": "/nowhere"}, data.DataError, "'/nowhere' must be .*No such file"),
        ({"paths": "GZIP"}, data.DataError, "a gzip file"),
    ],
)
def test_records_refuses_what_it_cannot_read(two_files, arguments, kind, message):
    given = {"paths": two_files, "features": FEATURES, "to_example": to_example}
    given |= arguments
    if given["paths"] == "GZIP":
        given["paths"] = str(two_files[0])
        with tf.io.TFRecordWriter(given["paths"], "GZIP") as writer:
            writer.write(b"1")
    with pytest.raises(kind, match=message) as info:
        data.records(**given)
    check_sentence(info)
