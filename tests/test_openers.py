"""The usage example at the top of each module of tfreg runs.

As in a doctest, it can use the module's names. It can also use `tfreg`, `keras`,
`np`, `tf`, the module and its package by name, and the values of `make_given`.
"""

import ast
import contextlib
import importlib
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg

ROOT = pathlib.Path(__file__).resolve().parents[1] / "tfreg"


def read_opener(path):
    """Returns the indented lines of a module's docstring at their lines of the file."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    text = (ast.get_docstring(module, clean=False) or "").splitlines()
    kept = [line[4:] if line.startswith("    ") else "" for line in text]
    first = module.body[0].lineno if any(kept) else 1
    return "\n" * (first - 1) + "\n".join(kept)


def name_module(path):
    """Returns the name that a file of the package is imported by."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


OPENERS = {
    name_module(path): (path, text)
    for path in sorted(ROOT.rglob("*.py"))
    if (text := read_opener(path)).strip()
}
# A sweep's are one story: each goes on where the one above it ends.
STORY = [
    f"tfreg.sweeps.{name}"
    for name in ("plans", "runner", "selection", "decision", "report", "plots")
]


def forward(x):
    """A function written for TF1: one penalized weight."""
    from tfreg import tf1

    regularizer = tf1.l2_regularizer(1e-4)
    return x @ tf1.get_variable("w", [x.shape[-1], 3], regularizer=regularizer)


def make_given(folder):
    """Returns names and values for the lines: six examples of three classes."""
    from tfreg import tf1
    from tfreg.runs import config

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)).astype(np.float32), np.arange(6) % 3
    parts = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    np.savez(folder / "points.npz", **parts)
    model = tfreg.models.MLP([4, 3], kernel_regularizer=tfreg.l2_regularizer(1e-4))
    net = tf1.Model(forward)
    cross_entropy = tfreg.losses.sparse_softmax_cross_entropy
    with tf.GradientTape(persistent=True) as tape:
        loss = tfreg.losses.total_loss(cross_entropy(y, model(x)), model)
    step = tfreg.Step(model, cross_entropy, tfreg.optimizers.adam(1e-3))
    dataset = tfreg.data.load("npz", folder / "points.npz")
    return {
        "x": tf.constant(x),  # [6, 5]
        "y": tf.constant(y),  # [6], classes 0, 1, 2
        "images": tf.constant(rng.random((6, 28, 28, 1)), tf.float32),
        "logits": model(x),  # [6, 3]
        "w": tf.Variable(rng.normal(size=(5, 3)), dtype=tf.float32, name="w"),
        "data_loss": tf.ones([6]),
        "tape": tape,
        "loss": loss,
        "gradients": tape.gradient(loss, model.trainable_variables),
        "model": model,
        "net": net,
        "forward": forward,
        "total_loss": lambda x, y: (
            tf1.losses.sparse_softmax_cross_entropy(y, net(x))
            + tf1.losses.get_regularization_loss()
        ),
        "regularizer": tfreg.l2_regularizer(1e-4),
        "optimizer": tfreg.optimizers.adam(1e-3),
        "strategy": tf.distribute.get_strategy(),
        "dataset": dataset,
        "trained": tfreg.Loop(step, dataset.train, batch_size=3, seed=0),
        "settings": config.Config(
            dataset="npz",
            data_dir=str(folder / "points.npz"),
            hidden=(4,),
            strategy="one",
            run_name="a",
            batch_size=3,
            epochs=2,
        ),
    }


def run_opener(name, given):
    """Runs a module's opener; returns its names, with those that it has set."""
    from tfreg import tf1

    path, text = OPENERS[name]
    module = importlib.import_module(name)
    package = importlib.import_module(name.rpartition(".")[0] or name)
    known = {"tfreg": tfreg, "keras": keras, "np": np, "tf": tf}
    known |= {each.__name__.rpartition(".")[2]: each for each in (package, module)}
    names = known | given | vars(module) | {"__name__": "opener"}
    code = compile(text, str(path), "exec")
    # TF1's functions are called in a forward pass, and its losses in a step.
    with contextlib.ExitStack() as stack:
        if name.startswith("tfreg.tf1"):
            stack.enter_context(tf1.VariableStore().as_default())
            stack.enter_context(tfreg.step_scope(step=given["optimizer"].step))
        exec(code, names)
    return names


@pytest.mark.parametrize(
    "name",
    [name for name in OPENERS if name not in STORY],
)
def test_the_usage_at_the_top_of_a_module_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_opener(name, make_given(tmp_path))


@pytest.mark.slow
def test_the_usages_at_the_top_of_the_sweeps_modules_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = make_given(tmp_path)
    for name in STORY:
        before = set(vars(importlib.import_module(name)))
        names = run_opener(name, given)
        given |= {k: v for k, v in names.items() if k not in before}


def test_every_module_but_a_packages_list_opens_with_its_usage():
    names = {name_module(path) for path in ROOT.rglob("*.py")}
    packages = {
        name for name in names if ROOT.parent.joinpath(*name.split(".")).is_dir()
    }
    assert names - packages <= set(OPENERS)
