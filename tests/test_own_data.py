"""Data by a function of one's own, sentences, and TFRecords as a table."""

import collections
import json
import string

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, runs
from tfreg.cli import commands
from tfreg.data import encoding, features, returned, splits, texts
from tfreg.runs import config

POINTS = """
import numpy as np

def load(config):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, config.options.get("count", 90))
    return rng.normal(size=(len(y), 4)) + y[:, None], np.array(["c", "a", "b"])[y]

def none(config):
    return None
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a module of one's own."""
    name = f"points_{tmp_path.name.replace('-', '_')}"  # Modules are imported once.
    (tmp_path / f"{name}.py").write_text(POINTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path, f"{name}:load"


SMALL = {"hidden": (4,), "epochs": 2, "strategy": "one", "compile": "graph"}


# A function


def test_a_run_on_a_function_names_its_classes_and_its_source(folder, capsys):
    path, name = folder
    settings = config.Config(data=name, set=("count=60",), run_name="a", **SMALL)
    result = runs.train(settings)
    assert "classification of `y`: 3 classes" in capsys.readouterr().out
    x = np.random.default_rng(1).normal(size=(5, 4))
    run = tfreg.load_run("runs/a")
    assert set(run.predict(x).labels) <= set("abc")
    assert runs.evaluate("runs/a") == pytest.approx(result["test"], rel=1e-6)
    np.save("x.npy", x)
    flags = ["--run=runs/a", "--data=x.npy", "--output=out.csv"]
    assert commands.main(["tfreg", "predict", *flags]) == 0
    want = [str(label) for label in run.predict(x).labels]
    assert pd.read_csv("out.csv")["label"].tolist() == want
    said, source = [], path / f"{name.partition(':')[0]}.py"
    source.write_text(POINTS + "# another\n")
    more = config.Config(
        data=name, set=("count=60",), run_name="a", **SMALL | {"epochs": 3}
    )
    runs.train(more, resume=True, log=said.append)
    assert any(f"the source of {name} isn't that" in text for text in said)
    with pytest.raises(ValueError, match="must be used with a run on a file"):
        runs.evaluate("runs/a", source="x.npy")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data=NAME:none"], "must be examples, got a NoneType: return (x, y)"),
        (["--data=NAME:nothing"], "data must name a function of its module"),
        (["--data=absent:load"], "must name a module that can be imported"),
        (["--data=NAME:load", "--target=y"], "target must not be used with a functi"),
        (["--data=x.h5"], "data must be a folder of images, module:function, or"),
        (["--data=x.npz", "--target=y"], "arrays must be dataset='npz' without tar"),
        (["--data=absent.npz"], "absent.npz"),
    ],
)
def test_a_function_that_cannot_be_used_is_one_sentence(flags, message, folder, capsys):
    module = folder[1].partition(":")[0]
    flags = [flag.replace("NAME", module) for flag in flags]
    assert commands.main(["tfreg", "train", *flags]) in (2, 3)
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (folder[0] / "runs").exists() or not list((folder[0] / "runs").iterdir())


class Source:
    """Examples by their number, as PyTorch's."""

    def __len__(self):
        return 50

    def __getitem__(self, i):
        if i >= 50:
            raise IndexError(i)
        return np.float32([i, i % 2]), i % 2


X, Y = np.arange(80.0).reshape(40, 2), np.arange(40) % 4
RETURNED = {
    "arrays": ((X, Y), (32, 4, 4), 4),
    "lists": ((X.tolist(), Y.tolist()), (32, 4, 4), 4),
    "frames": ((pd.DataFrame(X), pd.Series(Y)), (32, 4, 4), 4),
    "amounts": ((X, Y / 7), (32, 4, 4), None),
    "a source": (Source(), (40, 5, 5), 2),
    "train and test": ({"train": (X, Y), "test": (X[:9], Y[:9])}, (36, 4, 9), 4),
    "parts": (dict.fromkeys(splits.NAMES, (X, Y)), (40, 40, 40), 4),
    "a split": (data.Split(X.astype("f4"), Y), (32, 4, 4), 4),
}


@pytest.mark.parametrize("name", RETURNED)
def test_what_a_function_returns_becomes_parts(name):
    value, sizes, num_classes = RETURNED[name]
    dataset = returned.make_dataset("points", value)
    parts = [getattr(dataset, part) for part in splits.NAMES]
    assert tuple(map(len, parts)) == sizes
    assert dataset.num_classes == num_classes
    for part in parts:
        assert part.x.dtype == np.float32 and not part.pixels
        assert part.y.shape[1:] == (() if num_classes else (1,))
    if name != "parts":
        assert not {*map(tuple, parts[0].x)} & {*map(tuple, parts[1].x)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((X, Y[:3]), r"int64 of \[3\]"),
        (X, "got a tuple|must be examples|must be a tuple"),
        ({"test": (X, Y)}, "got a dict of test"),
        ((np.where(X == 6, np.nan, X), Y), "got NaN or infinity in row 3, column 0"),
        (
            (pd.DataFrame(np.where(X == 7, np.inf, X), columns=["age", "b"]), Y),
            "row 3, column `b`: fill it in",
        ),
        ({"train": (X, Y), "test": (X, Y + 1)}, "classes from 0 to 3.*1 to 4 in test"),
        ({"train": (X, Y), "test": (X[:, :1], Y)}, "parts of several shapes"),
        ((["a"] * 40, Y), "must be examples, got object"),
    ],
)
def test_what_a_function_must_not_return_is_said(value, message):
    with pytest.raises((ValueError, TypeError), match=message):
        returned.make_dataset("points", value)


# Sentences

SENTENCES = ["A fine, fine house.", "a cheap House", "", "The castle!", "a hut"]


def test_words_are_those_of_the_training_rows_by_their_number():
    plain = str.maketrans("", "", string.punctuation)
    split = [set(text.lower().translate(plain).split()) for text in SENTENCES]
    words = texts.learn(SENTENCES[:4])
    every = [
        word for text in SENTENCES[:4] for word in text.lower().translate(plain).split()
    ]
    counts = collections.Counter(every)
    assert set(words) == set(counts)
    assert [counts[word] for word in words] == sorted(counts.values(), reverse=True)
    want = [
        [bool(known - set(words)), *(word in known for word in words)]
        for known in split
    ]
    np.testing.assert_array_equal(texts.encode(words, SENTENCES), np.float32(want))


def make_reviews(count=80):
    rng = np.random.default_rng(0)
    is_good = rng.random(count) < 0.5
    words = np.where(is_good[:, None], ["good", "fine", "well"], ["bad", "poor", "ill"])
    text = [f"{a}, {b} house" for a, b in words[np.arange(count)][:, :2]]
    return pd.DataFrame(
        {"text": text, "rooms": rng.integers(1, 9, count), "is": is_good}
    )


def test_a_run_on_sentences_predicts_as_its_export(tmp_path):
    make_reviews().to_csv(tmp_path / "reviews.csv", index=False)
    settings = config.Config(
        data=str(tmp_path / "reviews.csv"),
        text=("text",),
        target=("is",),
        learning_rate=0.05,
        logdir=str(tmp_path),
        run_name="a",
        **SMALL | {"epochs": 4},
    )
    assert runs.train(settings)["test"]["accuracy"] > 0.9
    kept = json.loads((tmp_path / "a" / "data.json").read_text())["reader"]
    assert "house" in kept["columns"][0]["words"]
    run = tfreg.load_run(tmp_path / "a")
    new = {"text": ["a fine villa", "poor", None], "rooms": [3, 4, 5]}
    want = run.predict(new)
    assert want.labels[:2].tolist() == ["True", "False"]
    run.export(tmp_path / "saved")
    saved = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    sentences = tf.constant([text or "" for text in new["text"]])
    got = saved(text=sentences, rooms=tf.constant([3.0, 4.0, 5.0]))
    np.testing.assert_allclose(got["probabilities"], want.values, 1e-6, 1e-6)
    with pytest.raises(ValueError, match="TFLite can't split texts into words"):
        run.export(tmp_path / "a.tflite", "tflite")


def test_a_column_without_words_is_refused(tmp_path):
    frame = pd.DataFrame({"t": ["", "?"] * 20, "a": range(40), "y": [0.5, 1] * 20})
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(data.DataError, match="`t` must have words"):
        data.load_table(tmp_path / "a.csv", ["y"], sentences=["t"])


# TFRecords


def make_feature(value):
    if isinstance(value, str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
    values = np.ravel(value)
    if values.dtype.kind == "i":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write_records(path, rows):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            features = {name: make_feature(value) for name, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def make_rows(count=60):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        row = {"x": rng.normal(size=(2, 2)), "city": "Bern" if i % 3 else "Zug"}
        row |= {"n": i % 5, "price": float(rng.normal())}
        rows.append(row if i % 7 else {k: v for k, v in row.items() if k != "x"})
    return rows


SPEC = ("x:float32[2x2]", "city:string", "n:int64", "price:float32")


def test_records_are_read_as_the_same_csv(tmp_path):
    rows = make_rows()
    write_records(tmp_path / "a.tfrecord", rows)
    frame = pd.DataFrame(
        [
            {f"x_{k}": np.ravel(row["x"])[k] if "x" in row else None for k in range(4)}
            | {name: row[name] for name in ("city", "n", "price")}
            for row in rows
        ]
    )
    frame.astype({f"x_{k}": "float32" for k in range(4)}).to_csv(
        tmp_path / "a.csv", index=False
    )
    a = data.load_table(tmp_path / "a.tfrecord", ["price"], features=SPEC)
    b = data.load_table(tmp_path / "a.csv", ["price"])
    np.testing.assert_allclose(a.train.x, b.train.x, rtol=1e-6, atol=1e-7)  # Decimals.
    np.testing.assert_allclose(a.test.y, b.test.y, rtol=1e-6)
    names = [column.name for column in a.reader.columns]
    assert names == ["x_0", "x_1", "x_2", "x_3", "city", "n"]
    from tfreg.data import tables

    again = tables.make_reader(json.loads(json.dumps(a.reader.describe())), a.task)
    assert again == a.reader
    parts = np.concatenate(list(again.read(tmp_path / "a.tfrecord")))
    np.testing.assert_array_equal(parts, encoding.encode(a.reader.columns, frame))


def damage(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("change", "spec", "message"),
    [
        (lambda c: c[:-5], SPEC, "record 59"),
        (lambda c: damage(c, len(c) - 9), SPEC, "record 59 .*corrupted"),
        (lambda c: damage(c, 3), SPEC, "record 0|bytes for record 0"),
        (lambda c: c, (*SPEC[:2], "n:float32", SPEC[3]), "record 0 .*Data types"),
        (lambda c: c, ("x:float32[3]", *SPEC[1:]), "record 1 .*Number of float"),
        (lambda c: c, (*SPEC, "m:int64"), "record 0 .*m .*could not be found"),
        (lambda c: c, (), "must have a specification of its records"),
    ],
)
def test_a_damaged_record_is_named(change, spec, message, tmp_path):
    path = tmp_path / "a.tfrecord"
    write_records(path, make_rows())
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(data.DataError, match=message):
        data.load_table(path, ["price"], features=spec)


@pytest.mark.parametrize("text", ["age", "age:float", "age:int64[0]", "a:int64[2,2]"])
def test_a_specification_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="features must be a name, one of float32"):
        features.parse([text])


# What a beginner tries


def test_a_regularizer_by_name_is_that_of_the_command_line():
    dense = tfreg.layers.Dense(3, kernel_regularizer="l2")
    dense(tf.ones([2, 4]))
    want = 1e-4 * np.sum(dense.kernel.numpy() ** 2) / 2
    assert float(tfreg.losses.total_loss(tf.zeros([2]), dense)) == pytest.approx(want)


def make_loop():
    model = tfreg.models.MLP([3])
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, tfreg.optimizers.adam(1e-3))
    split = data.Split(np.ones([6, 2], np.float32), np.arange(6) % 3)
    return tfreg.Loop(step, split, batch_size=2)


def test_methods_of_keras_say_what_to_call():
    loop = make_loop()
    for each in (loop, loop.step, loop.step.model, tfreg.layers.Dense(2)):
        for name in ("fit", "predict", "compile"):
            assert not hasattr(each, name)
            with pytest.raises(
                AttributeError, match=f"has no {name}: (write|call|pass)"
            ):
                getattr(each, name)
        with pytest.raises(AttributeError, match="object has no attribute 'fits'"):
            _ = each.fits


def test_reprs_are_one_line():
    loop, dataset = make_loop(), data.load("mnist5k")
    assert repr(loop) == (
        "Loop(MLP, Split(x=float32[6, 2], y=int64[6]), batch_size=2, 3 steps)"
    )
    step, model = loop.step, loop.step.model
    assert repr(model) == "MLP(Flatten('flatten_0'), Dense('dense_0'))"
    assert repr(tfreg.models.ResNet20(10)).count("layers)") == 1
    tfreg.rules.apply("l2(0.1)@kernel;l1(0.1)@bias", model)
    shown = "Step(MLP, sparse_softmax_cross_entropy, adam, 2 penalties)"
    assert repr(step) == shown and repr(step.optimizer) == "adam(0.001)"
    assert repr(tfreg.Trainer(loop, directory="a")) == f"Trainer({shown}, 'a', step 0)"
    indexed = data.Indexed((np.zeros([4, 3, 3], "u1"), [0, 1, 1, 0]), pixels=True)
    assert repr(indexed) == "Indexed(x=uint8[4, 3, 3], y=int64[4], pixels=True)"
    batches = tf.data.Dataset.from_tensor_slices((tf.zeros([4, 2]), [1, 2, 3, 4]))
    pipeline = data.Pipeline(lambda seed, epoch: batches.batch(3))
    assert repr(pipeline) == "Pipeline(x=float32[None, 2], y=int32[None], 2 steps)"
    adam = tfreg.optimizers.adam(tf.Variable(0.1))
    groups = tfreg.optimizers.groups(
        [("a.*", adam), ("", tf.keras.optimizers.Lion(0.125))]
    )
    assert repr(groups) == "groups(adam(a variable), Lion(0.125))"
    assert repr(dataset).startswith("Dataset('mnist5k', 4000/500/500 examples, Split(x")
    assert "\n" not in repr(dataset) and len(repr(dataset)) < 150


def test_a_sparse_matrix_is_named():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"it is sparse, write x.toarray\(\)"):
        data.Split(sparse.csr_matrix(X), Y)
