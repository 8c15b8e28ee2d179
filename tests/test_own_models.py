"""A model of one's own by --model=module:function, and the linear one."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model

import tfreg
from tfreg import runs
from tfreg.cli import commands
from tfreg.runs import config

NETS = """
import keras

def build(config, dataset):
    depth = config.options["depth"]
    hidden = [keras.layers.Dense(4, "tanh") for _ in range(depth)]
    return keras.Sequential([keras.Input(dataset.train.x.shape[1:]), *hidden,
                             keras.layers.Dense(1)])

def nothing(config, dataset):
    return None
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Returns the working directory, with lines.csv and a module of models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(5, 2, (120, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["y"] = 100 + x @ [3.0, -2.0, 0.0] + rng.normal(0, 0.1, 120)
    frame.to_csv("lines.csv", index=False)
    name = f"nets_{tmp_path.name.replace('-', '_')}"  # Modules are imported once.
    pathlib.Path(f"{name}.py").write_text(NETS)
    return tmp_path, name


def call(*argv):
    return commands.main(["tfreg", *map(str, argv)])


FLAGS = ["--data=lines.csv", "--target=y", "--strategy=one", "--compile=graph"]


def test_a_model_of_the_working_directory_is_trained_and_reloaded(folder, capsys):
    path, name = folder
    flags = [*FLAGS, f"--model={name}:build", "--set", "depth=2", "--run_name=own"]
    assert call("train", *flags, "--epochs=2") == 0
    out = capsys.readouterr().out
    assert out.startswith("regression of `y`, 1 output\n")
    assert "tfreg predict --run=runs/own --data=NEW" in out
    kept = json.loads(pathlib.Path("runs/own/data.json").read_text())
    assert len(kept["source"]) == 64
    run = tfreg.load_run("runs/own")
    assert len(run.model.trainable_variables) == 6
    want = json.loads(pathlib.Path("runs/own/result.json").read_text())["test"]
    assert runs.evaluate("runs/own") == pytest.approx(want, rel=1e-6)
    # Another source is said, and the run goes on.
    source = pathlib.Path(f"{name}.py")
    source.write_text(source.read_text() + "\n# another line\n")
    assert call("train", "--resume", "--run=runs/own", "--epochs=3") == 0
    assert "isn't that which the run began with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no_such_module:build", "must name a module that can be imported"),
        ("{name}:missing", "must name a function of its module"),
        ("{name}:nothing", "must return a model, got None"),
    ],
)
def test_what_is_no_model_is_one_sentence(model, message, folder, capsys):
    _, name = folder
    assert call("train", *FLAGS, f"--model={model.format(name=name)}") == 2
    assert message in capsys.readouterr().err
    assert not pathlib.Path("runs").exists()


def test_the_linear_model_becomes_that_of_least_squares(folder):
    settings = config.Config(
        data="lines.csv",
        target=("y",),
        model="linear",
        epochs=150,
        learning_rate=0.03,
        schedule="cosine",
        strategy="one",
        compile="graph",
    )
    result = runs.train(settings)
    path = pathlib.Path("runs", settings.get_run_name())
    dataset = runs.inputs.load(settings)
    fitted = linear_model.LinearRegression().fit(dataset.train.x, dataset.train.y)
    want = fitted.predict(dataset.test.x)
    got = [p.values for p in tfreg.load_run(path).predict_file("lines.csv")]
    assert result["test"]["r2"] > 0.99
    loaded = runs.inputs.load(settings).test
    table = pd.read_csv("lines.csv")
    rows = [int(np.argmin(np.abs(table["y"] - value))) for value in loaded.y[:, 0]]
    np.testing.assert_allclose(got[0][rows], want, rtol=2e-3)  # Adam stops near it.


def test_a_flag_without_effect_is_refused(folder, capsys):
    assert call("train", *FLAGS, "--model=linear", "--dropout=0.5") == 2
    assert "dropout must be used with hidden layers" in capsys.readouterr().err
