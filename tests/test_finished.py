"""A finished run predicts, and so does what it exports, without tfreg."""

import csv
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, runs
from tfreg.cli import commands
from tfreg.runs import config, directories


def write_points(path, classes=True, images=False):
    """Writes an .npz of 90 examples that can be learnt."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, size in (("train", 60), ("test", 30)):
        y = rng.integers(0, 3, size)
        x = rng.normal(size=(size, 5)) + y[:, None]
        if images:
            x = rng.integers(0, 60, (size, 14, 14)) + 60 * y[:, None, None]
        parts[f"x_{name}"] = x.astype(np.uint8 if images else np.float32)
        parts[f"y_{name}"] = y if classes else x.sum(1, keepdims=True).astype("f4")
    np.savez(path, **parts)
    return parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


CASES = {
    "classes": {},
    "images": {"model": "cnn", "patience": 5, "epochs": 2},
    "targets": {"ema": 0.5, "reg": "l2_sp"},
}


def train(folder, name):
    """Trains a run once; returns its path and its arrays."""
    points = folder / f"{name}.npz"
    parts = write_points(points, name != "targets", name == "images")
    settings = config.Config(
        **{"epochs": 3, "hidden": (8,), "batch_size": 16, "learning_rate": 0.05}
        | CASES[name],
        dataset="npz",
        data_dir=str(points),
        logdir=str(folder),
        run_name=name,
    )
    if not (folder / name).exists():
        runs.train(settings)
    return folder / name, parts


@pytest.mark.parametrize("name", CASES)
def test_a_run_predicts_what_its_test_results_are(name, folder):
    path, parts = train(folder, name)
    run = tfreg.load_run(path)
    got = run.predict(parts["x_test"])
    result = json.loads((path / "result.json").read_text())["test"]
    y = parts["y_test"]
    if name == "targets":
        error = np.mean((got.values - y) ** 2)
        assert got.labels is None and got.values.shape == y.shape
        assert error == pytest.approx(result["loss"], rel=1e-5)
    else:
        rows = np.arange(len(y))
        loss = -np.mean(np.log(got.values[rows, y]))
        assert loss == pytest.approx(result["loss"], rel=1e-5)
        assert np.mean(got.labels == y) == pytest.approx(result["accuracy"])
        assert np.array_equal(got.labels, got.values.argmax(1))
    split = data.Split(parts["x_test"], y, pixels=name == "images")
    kind = np.float32 if name == "targets" else np.int32
    split = dataclasses.replace(split, y=y.astype(kind))
    assert run.evaluate(split) == pytest.approx(result, rel=1e-5)
    one = [run.predict(parts["x_test"][i : i + 1]).values for i in range(3)]
    np.testing.assert_allclose(np.concatenate(one), got.values[:3], 1e-5, 1e-6)


SERVE = """
import sys, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
outputs = model.signatures["serving_default"](inputs=tf.constant(np.load(sys.argv[2])))
np.savez(sys.argv[3], **{k: v.numpy() for k, v in outputs.items()})
assert "tfreg" not in sys.modules
"""


@pytest.mark.parametrize("name", CASES)
def test_what_is_exported_predicts_the_same_without_tfreg(name, folder, tmp_path):
    path, parts = train(folder, name)
    run = tfreg.load_run(path)
    x = parts["x_test"]
    want = run.predict(x)
    run.export(tmp_path / "saved")
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "serve.py").write_text(SERVE)
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "serve.py", "saved", "x.npy", "out.npz"],
        cwd=tmp_path,
        env=environ,
        check=True,
    )
    key = "values" if name == "targets" else "probabilities"
    with np.load(tmp_path / "out.npz") as outputs:
        np.testing.assert_allclose(outputs[key], want.values, 1e-6, 1e-6)
        if want.labels is not None:
            np.testing.assert_array_equal(outputs["labels"], want.labels)
    run.export(tmp_path / "model.tflite", "tflite")
    lite = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    runner = lite.get_signature_runner()
    outputs = runner(inputs=x)
    np.testing.assert_allclose(outputs[key], want.values, 1e-6, 1e-6)


def call(*argv):
    return commands.main(["tfreg", *map(str, argv)])


def test_the_command_writes_rows_and_continues_them(folder, tmp_path, capsys):
    path, parts = train(folder, "classes")
    x = np.concatenate([parts["x_test"]] * 50)
    np.save(tmp_path / "x.npy", x)
    flags = [f"--run={path}", f"--data={tmp_path / 'x.npy'}"]
    whole, part = tmp_path / "whole.csv", tmp_path / "part.csv"
    assert call("predict", *flags, f"--output={whole}") == 0
    with open(whole) as file:
        rows = list(csv.DictReader(file))
    want = tfreg.load_run(path).predict(x)
    assert [int(row["label"]) for row in rows] == want.labels.tolist()
    assert float(rows[7]["probability_2"]) == want.values[7, 2]
    # Interrupted in the middle of a row.
    text = whole.read_text()
    part.write_text(text[: len(text) // 3])
    assert call("predict", *flags, f"--output={part}") == 4
    assert "write --resume to continue it" in capsys.readouterr().err
    assert call("predict", *flags, f"--output={part}", "--resume") == 0
    again = [line.split(",")[:2] for line in part.read_text().splitlines()]
    assert again == [line.split(",")[:2] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["predict"], 2, "run must be given: write --run=..."),
        (["predict", "--run=no", "--data=x", "--output=o"], 4, "config.json must be"),
        (
            ["predict", "--run={run}", "--data=no", "--output=o"],
            3,
            "data must be an .npy",
        ),
        (
            ["predict", "--run={run}", "--data={bad}", "--output=o"],
            2,
            "x must be float32",
        ),
        (["export", "--run={run}"], 2, "output must be given"),
        (
            ["export", "--run={run}", "--output={run}"],
            4,
            "the exported model must be new",
        ),
        (
            ["export", "--run={run}", "--output=o", "--format=h5"],
            2,
            "format must be one",
        ),
    ],
)
def test_wrong_use_is_one_sentence(
    argv, status, message, folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path, _ = train(folder, "classes")
    capsys.readouterr()
    np.save(tmp_path / "bad.npy", np.zeros([3, 4], np.float32))
    names = {"run": path, "bad": tmp_path / "bad.npy"}
    assert call(*(word.format(**names) for word in argv)) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_inputs_of_another_kind_are_refused(folder):
    path, parts = train(folder, "images")
    run = tfreg.load_run(path)
    x = parts["x_test"]
    wide = np.uint16(x) * 257  # Their low bytes are those of x.
    for other in (x / 255.0, x[0], np.zeros([0, 14, 14], "u1"), wide):
        with pytest.raises(
            ValueError, match=r"x must be uint8 of shape \[None, 14, 14"
        ):
            run.predict(other)


def test_nan_in_an_input_is_named_by_its_row_and_column(folder):
    path, parts = train(folder, "classes")
    x = np.tile(parts["x_test"], [40, 1])
    x[[3, 1100], 2] = np.nan, np.inf
    run = tfreg.load_run(path)
    assert repr(run) == f"FinishedRun({str(path)!r}, MLP, classification)"
    predicted = run.predict(x[:2])
    assert repr(predicted) == "Prediction(values=float32[2, 3], labels=int32[2])"
    with pytest.raises(data.DataError, match="NaN or infinity in row 3, column 2:"):
        run.predict(x)
    with pytest.raises(data.DataError, match="NaN or infinity in row 1100, column 2:"):
        list(run.predict_each(x, start=4))


def test_a_run_that_is_none_or_older_is_refused(folder, tmp_path):
    path, _ = train(folder, "classes")
    with pytest.raises(directories.DirectoryError, match="config.json must be intact"):
        tfreg.load_run(tmp_path)
    (tmp_path / "config.json").write_text((path / "config.json").read_text())
    with pytest.raises(directories.DirectoryError, match="data.json' .No such file"):
        tfreg.load_run(tmp_path)
    (tmp_path / "data.json").write_text('{"shape": [5]}')
    with pytest.raises(directories.DirectoryError, match="data.json must be intact"):
        tfreg.load_run(tmp_path)
