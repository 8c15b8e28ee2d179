"""From a file of one's own to predictions: train, evaluate, predict, export."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn import metrics

import tfreg
from tfreg import runs
from tfreg.cli import commands
from tfreg.data import splits, tasks
from tfreg.runs import config, directories

KINDS = {
    "regression": ["price"],
    "binary": ["sold"],
    "classification": ["kind"],
    "multilabel": ["garden", "garage"],
}
PARTS = (0.8, 0.1, 0.1)
DROPPED = ("price", "sold", "kind", "garden", "garage")


def make_frame(count=150):
    """Returns houses, with missing values and a target of each kind of task."""
    rng = np.random.default_rng(1)
    age, city = rng.normal(40, 9, count), rng.integers(0, 3, count)
    score = age / 9 + 2 * city
    frame = pd.DataFrame(
        {
            "age of house": np.where(rng.random(count) < 0.1, np.nan, age),
            "city": np.array(["Bern", "Genève", "Zug"], object)[city],
            "price": 1e5 + 1e4 * score + rng.normal(0, 1e3, count),
            "sold": np.where(score > 6.5, "yes", "no"),
            "kind": np.array(["flat", "house", "villa"])[city],
            "garden": (score > 6).astype(int),
            "garage": (age > 40).astype(int),
        }
    )
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    make_frame().to_csv(folder / "houses.csv", index=False)
    make_frame(40).iloc[:, :2].to_csv(folder / "new.csv", index=False)
    return folder


def train(folder, kind, **changes):
    """Trains a run once; returns its path."""
    target = KINDS[kind]
    if not (folder / kind).exists():
        settings = config.Config(
            data=str(folder / "houses.csv"),
            target=tuple(target),
            drop=tuple(name for name in DROPPED if name not in target),
            hidden=(16,),
            epochs=8,
            learning_rate=0.01,
            logdir=str(folder),
            run_name=kind,
            strategy="one",
            compile="graph",
            **changes,
        )
        runs.train(settings)
    return folder / kind


def read_test(path):
    return json.loads((path / "result.json").read_text())["test"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_a_table_predicts_its_test_results(kind, folder):
    path = train(folder, kind)
    run, result = tfreg.load_run(path), read_test(path)
    assert run.inputs.task.kind == kind
    assert runs.evaluate(path) == pytest.approx(result, rel=1e-6)
    assert run.evaluate(folder / "houses.csv").keys() == result.keys()
    rows = splits.draw(150, PARTS, 0)["test"]
    frame = pd.read_csv(folder / "houses.csv").iloc[rows]
    got = run.predict(frame)
    y = frame[KINDS[kind]].to_numpy()
    if kind == "regression":
        want = metrics.mean_absolute_error(y, got.values)
        assert want == pytest.approx(result["mean_absolute_error"], rel=1e-4)
        assert metrics.r2_score(y, got.values) == pytest.approx(result["r2"], rel=1e-4)
        assert result["r2"] > 0.5
    elif kind == "multilabel":
        assert np.mean(got.labels == y) == pytest.approx(result["accuracy"])
        assert metrics.log_loss(y[:, 0], got.values[:, 0]) < 0.7
    else:
        assert np.mean(got.labels == y[:, 0]) == pytest.approx(result["accuracy"])
        names = list(run.inputs.task.classes)
        loss = metrics.log_loss(y[:, 0], got.values, labels=names)
        assert loss == pytest.approx(result["loss"], rel=1e-4)


SERVE = """
import json, sys, numpy as np, tensorflow as tf
model = tf.saved_model.load("saved").signatures["serving_default"]
rows = json.load(open("rows.json"))
age = tf.constant(rows["age"], tf.float32)
outputs = model(age_of_house=age, city=tf.constant(rows["city"]))
arrays = {k: v.numpy() for k, v in outputs.items()}
np.savez("out.npz", **{k: a.astype("S") if a.dtype == object else a
                       for k, a in arrays.items()})
assert "tfreg" not in sys.modules
"""


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_an_exported_model_takes_columns_and_needs_no_tfreg(kind, folder, tmp_path):
    path = train(folder, kind)
    run, frame = tfreg.load_run(path), pd.read_csv(folder / "new.csv")
    want = run.predict(frame)
    run.export(tmp_path / "saved")
    age = frame["age of house"].tolist()
    rows = {"age": age, "city": frame["city"].tolist()}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "serve.py").write_text(SERVE)
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "serve.py"]
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)
    key = "values" if kind == "regression" else "probabilities"
    with np.load(tmp_path / "out.npz") as outputs:
        np.testing.assert_allclose(outputs[key], want.values, 1e-6, 1e-6)
        if kind == "binary":
            names = [name.decode() for name in outputs["names"]]
            assert names == want.labels.tolist()
    run.export(tmp_path / "model.tflite", "tflite")
    lite = tf.lite.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    city = np.array([text.encode() for text in frame["city"]])
    outputs = lite(age_of_house=np.float32(age), city=city)
    np.testing.assert_allclose(outputs[key], want.values, 1e-6, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_is_that_of_scikit_learn(kind, folder):
    path = train(folder, kind)
    report = json.loads((path / "result.json").read_text())["report"]
    split = runs.inputs.load(directories.read_config(path / "config.json")).test
    rows = pd.read_csv(folder / "houses.csv").iloc[splits.draw(150, PARTS, 0)["test"]]
    got, y = tfreg.load_run(path).predict(rows), rows[KINDS[kind]].to_numpy()
    assert len(split) == len(y)
    if kind == "regression":
        error = metrics.root_mean_squared_error(y, got.values)
        row = report["targets"]["price"]
        assert row["root_mean_squared_error"] == pytest.approx(error, rel=1e-4)
        assert row["r2"] == pytest.approx(metrics.r2_score(y, got.values), rel=1e-4)
        return
    columns = y.T if kind == "multilabel" else [y[:, 0] == n for n in report["classes"]]
    labels = (
        got.labels.T
        if kind == "multilabel"
        else [got.labels == name for name in report["classes"]]
    )
    for k, row in enumerate(report["classes"].values()):
        want = metrics.precision_recall_fscore_support(
            columns[k], labels[k], average="binary", zero_division=0
        )
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(want[:3])
        assert row["support"] == sum(columns[k])
        if 0 < sum(columns[k]) < len(y):
            auc = metrics.roc_auc_score(columns[k], got.values[:, k])
            assert row["auc"] == pytest.approx(auc)
    if kind != "multilabel":
        want = metrics.confusion_matrix(y, got.labels, labels=list(report["classes"]))
        assert report["confusion"] == want.tolist()
        assert report["macro_f1"] == pytest.approx(
            metrics.f1_score(y[:, 0], got.labels, average="macro", zero_division=0)
        )
        assert list((path / "test").glob("events*"))
    lines = runs.scoring.format(report).splitlines()
    assert max(map(len, lines)) <= 80


def test_a_report_of_many_classes_fits_a_terminal():
    rng = np.random.default_rng(0)
    values = rng.random((500, 12))
    y = np.where(rng.random(500) < 0.5, values.argmax(1), rng.integers(0, 11, 500))
    task = tasks.Task("classification")
    report = runs.scoring.score(task, y, values, 12)
    want = metrics.confusion_matrix(y, values.argmax(1), labels=np.arange(12))
    assert report["confusion"] == want.tolist()
    assert report["classes"]["11"]["auc"] is not None
    lines = runs.scoring.format(report).splitlines()
    assert max(map(len, lines)) <= 80 and " taken for " in lines[-1]
    ties = np.round(values[:, 0], 1)
    auc = runs.scoring.compute_auc(y == 0, ties)
    assert auc == pytest.approx(metrics.roc_auc_score(y == 0, ties))
    assert runs.scoring.draw(want).shape == (312, 312, 1)
    assert runs.scoring.score(task, y, np.zeros((500, 101)), 101) is None


def call(*argv):
    return commands.main(["tfreg", *map(str, argv)])


def test_the_command_line_goes_from_a_file_to_predictions(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    drop = ",".join(name for name in DROPPED if name != "sold")
    flags = [f"--data={folder / 'houses.csv'}", "--target=sold", f"--drop={drop}"]
    assert call("train", *flags, "--epochs=2", "--class_weights=balanced") == 0
    out, err = capsys.readouterr()
    first = "binary classification of `sold`: "
    assert out.startswith(first) and " of no, " in out
    assert "`age of house` is missing in" in err
    (path,) = (tmp_path / "runs").iterdir()
    assert path.name.startswith("houses-mlp128-none-target=sold")
    assert call("evaluate", f"--run={path}") == 0
    assert json.loads(capsys.readouterr().out) == read_test(path)
    assert call("evaluate", f"--run={path}", f"--data={flags[0][7:]}", "--report") == 0
    assert "true \\ predicted" in capsys.readouterr().out
    new = [f"--run={path}", f"--data={folder / 'new.csv'}"]
    assert call("predict", *new, "--output=whole.csv") == 0
    with open("whole.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    want = tfreg.load_run(path).predict(pd.read_csv(folder / "new.csv"))
    assert [row["label"] for row in rows] == want.labels.tolist()
    probabilities = [float(row["probability_yes"]) for row in rows]
    np.testing.assert_array_equal(np.float32(probabilities), want.values[:, 1])
    text = (tmp_path / "whole.csv").read_text()
    (tmp_path / "part.csv").write_text(text[: len(text) // 2])
    assert call("predict", *new, "--output=part.csv", "--resume") == 0
    np.testing.assert_allclose(
        pd.read_csv("part.csv").iloc[:, 2:], pd.read_csv("whole.csv").iloc[:, 2:], 1e-6
    )
    # What the run doesn't fit is a sentence.
    (tmp_path / "bad.csv").write_text("city\nBern\n")
    bad = [f"--run={path}", "--data=bad.csv", "--output=bad_out.csv"]
    assert call("predict", *bad) == 3
    assert "got none named age of house" in capsys.readouterr().err
    assert not (tmp_path / "bad_out.csv").exists()


def test_a_run_keeps_what_it_learnt_when_the_file_changes(folder, tmp_path):
    path, said = train(folder, "regression"), []
    other = tmp_path / "houses.csv"
    frame = make_frame()
    frame["age of house"] += 1000
    frame.to_csv(other, index=False)
    result = runs.evaluate(path, source=str(other))
    assert result["r2"] < 0  # Standardized by the training rows, not by these.
    settings = directories.read_config(path / "config.json")
    kept = runs.inputs.read(path)
    changed = config.Config(**{**vars(settings), "data": str(other)})
    dataset = runs.inputs.load(changed, said.append, kept)
    assert dataset.reader == kept.reader
    assert "aren't those that the run was trained on" in said[-1]


def test_a_killed_run_on_a_table_ends_with_the_same_weights(folder, tmp_path):
    from tfreg.runs import signals

    whole = train(folder, "classification")
    settings = directories.read_config(whole / "config.json")
    settings = config.Config(**{**vars(settings), "logdir": str(tmp_path)})
    calls = iter([False, False, False, True])
    with pytest.raises(signals.Interrupted):
        runs.train(settings, is_interrupted=lambda: next(calls, True))
    runs.train(settings, resume=True)
    resumed = tmp_path / "classification"
    frame = pd.read_csv(folder / "new.csv")
    got, want = (tfreg.load_run(p).predict(frame) for p in (resumed, whole))
    np.testing.assert_array_equal(got.values, want.values)
    assert got.labels.tolist() == want.labels.tolist()


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--data=no.csv", "--target=y"], 3, "No such file"),
        (
            ["--data=houses.txt", "--target=y"],
            3,
            "data must be a folder of images, module:function, or",
        ),
        (["--data={csv}"], 3, "write --target= and one of age of house, city"),
        (["--data={csv}", "--target=prize"], 3, "must have the column 'prize'"),
        (["--target=price"], 2, "target must be used with data"),
        (
            ["--data={csv}", "--target=price", "--class_weights=balanced"],
            3,
            "class_weights must be used with classes, got a regression",
        ),
    ],
)
def test_wrong_use_is_one_sentence(
    argv, status, message, folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    argv = [word.format(csv=folder / "houses.csv") for word in argv]
    assert call("train", *argv) == status
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def write_arrays(path, y, x=None):
    x = np.random.default_rng(0).normal(size=(len(y), 3)) if x is None else x
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)


@pytest.mark.parametrize(
    ("y", "doubt", "task", "outputs"),
    [
        (np.arange(30.0) % 3, "whole numbers, stored as floats", "classification", 3),
        (np.eye(3)[np.arange(30) % 3], "y_train is one-hot", "classification", 3),
        (np.arange(30) % 3 * 10, "has 3 of the 21 classes", "classification", 3),
        (np.arange(30) % 2, None, "binary", 1),
        (np.arange(30) % 3, None, "regression", 1),
    ],
)
def test_arrays_say_their_doubts_and_a_flag_decides(y, doubt, task, outputs, tmp_path):
    path, said = tmp_path / "points.npz", []
    write_arrays(path, y)
    settings = config.Config(dataset="npz", data_dir=str(path))
    plain = runs.inputs.load(settings, said.append)
    assert (
        [doubt is not None] == [any(doubt in text for text in said)]
        if doubt
        else (not said)
    )
    settings = config.Config(dataset="npz", data_dir=str(path), task=task)
    decided = runs.inputs.load(settings, said.append)
    run = runs.build(settings, dataset=decided)
    assert runs.inputs.get_task(decided).kind == task
    assert run.model(tf.zeros([1, 3])).shape[1] == outputs
    assert plain.train.x.shape == decided.train.x.shape


def test_ids_of_tokens_are_doubted(tmp_path):
    said = []
    x = np.random.default_rng(0).integers(0, 20_000, (30, 3))
    write_arrays(tmp_path / "ids.npz", np.arange(30) % 2, x)
    settings = config.Config(dataset="npz", data_dir=str(tmp_path / "ids.npz"))
    runs.inputs.load(settings, said.append)
    assert any("as ids of tokens do" in text for text in said)
