"""The usage example at the top of each module of tfreg runs.

As in a doctest, it can use the module's names. It can also use `tfreg`, `keras`,
`np`, `tf`, the module and its package by name, and the values of `Given`.
"""

import ast
import contextlib
import importlib
import pathlib
import re
from functools import cached_property as cached

import keras
import numpy as np
import pandas as pd
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


def write_files(folder):
    """Writes what the lines read."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)).astype(np.float32), np.arange(6) % 3
    parts = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    np.savez(folder / "points.npz", **parts)
    table = pd.DataFrame({"age": range(20, 40), "city": ["Bonn", "Köln"] * 10})
    table["price"] = rng.normal(size=20)
    table.to_csv(folder / "houses.csv", index=False)
    for name in ("daisy", "tulip"):
        (folder / "flowers" / name).mkdir(parents=True)
        for number in range(10):
            pixels = tf.constant(rng.integers(0, 256, (4, 4, 3)), tf.uint8)
            path = folder / "flowers" / name / f"{number}.png"
            path.write_bytes(tf.io.encode_png(pixels).numpy())
    build = "lambda config, dataset: tfreg.models.MLP([4, 3])"
    texts = {
        "nets.py": f"import tfreg\n\nbuild = {build}\n",
        "train_tf1.py": "import tensorflow as tf\nregularizer = tf.contrib.layers\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


class Given:
    """The values for the lines, each made when asked for: six examples, three classes.

    Args:
        folder: of `write_files`.
    """

    def __init__(self, folder):
        self.folder = folder

    def pick(self, text):
        """Returns the values whose names are in a text."""
        words = set(re.findall(r"\w+", text)) & set(vars(Given)) - {"pick"}
        return {word: getattr(self, word) for word in sorted(words)}

    forward = staticmethod(forward)
    x = cached(lambda self: tf.random.stateless_normal((6, 5), (0, 0)))
    y = cached(lambda self: tf.constant([0, 1, 2, 0, 1, 2]))
    images = cached(lambda self: tf.random.stateless_uniform((6, 28, 28, 1), (0, 0)))
    logits = cached(lambda self: self.model(self.x))  # [6, 3]
    w = cached(lambda self: tf.Variable(self.x[:5, :3], name="w"))
    data_loss = cached(lambda self: tf.ones([6]))
    frame = cached(lambda self: pd.read_csv(self.folder / "houses.csv"))  # [20]
    dataset = cached(lambda self: tfreg.data.load("npz", self.folder / "points.npz"))
    regularizer = cached(lambda self: tfreg.l2_regularizer(1e-4))
    optimizer = cached(lambda self: tfreg.optimizers.adam(1e-3))
    strategy = cached(lambda self: tf.distribute.get_strategy())
    net = cached(lambda self: tfreg.tf1.Model(forward))
    loss = cached(lambda self: self.taped[1])
    tape = cached(lambda self: self.taped[0])

    @cached
    def model(self):
        model = tfreg.models.MLP([4, 3], kernel_regularizer=self.regularizer)
        model(self.x)  # Creates the variables.
        return model

    @cached
    def taped(self):
        data_loss = tfreg.losses.sparse_softmax_cross_entropy
        with tf.GradientTape(persistent=True) as tape:
            data_losses = data_loss(self.y, self.model(self.x))
            loss = tfreg.losses.total_loss(data_losses, self.model)
        return tape, loss

    @cached
    def gradients(self):
        return self.tape.gradient(self.loss, self.model.trainable_variables)

    @cached
    def total_loss(self):
        losses, net = tfreg.tf1.losses, self.net
        return lambda x, y: (
            losses.sparse_softmax_cross_entropy(y, net(x))
            + losses.get_regularization_loss()
        )

    @cached
    def trained(self):
        data_loss = tfreg.losses.sparse_softmax_cross_entropy
        step = tfreg.Step(self.model, data_loss, self.optimizer)
        return tfreg.Loop(step, self.dataset.train, batch_size=3, seed=0)

    @cached
    def settings(self):
        return tfreg.runs.config.Config(
            dataset="npz",
            data_dir=str(self.folder / "points.npz"),
            hidden=(4,),
            strategy="one",
            run_name="a",
            batch_size=3,
            epochs=2,
        )


def run_opener(name, given):
    """Runs a module's opener; returns its names, with those that it has set."""
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
            stack.enter_context(tfreg.tf1.VariableStore().as_default())
            stack.enter_context(tfreg.step_scope(step=tf.Variable(0, dtype=tf.int64)))
        exec(code, names)
    return names


@pytest.mark.parametrize(
    "name",
    [name for name in OPENERS if name not in STORY],
)
def test_the_usage_at_the_top_of_a_module_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # A model of one's own is imported there.
    write_files(tmp_path)
    run_opener(name, Given(tmp_path).pick(OPENERS[name][1]))


@pytest.mark.slow
def test_the_usages_at_the_top_of_the_sweeps_modules_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    given = Given(tmp_path).pick("\n".join(OPENERS[name][1] for name in STORY))
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
