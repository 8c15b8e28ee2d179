"""Losses, metrics, augmentations, optimizers and models by their names in flags."""

import json
import pathlib

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

import tfreg
from tfreg import data
from tfreg.cli import commands
from tfreg.data import augment, tasks
from tfreg.runs import calls, config, inputs, named
from tfreg.training import measuring, objectives

RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 3, 40).astype(np.int32)
LOGITS = RNG.normal(size=(40, 3)).astype(np.float32)
YES = RNG.integers(0, 2, (40, 1)).astype(np.float32)
SCORES = RNG.normal(size=(40, 1)).astype(np.float32)
NUMBERS = RNG.normal(50, 20, (40, 2)).astype(np.float32)
GUESSES = RNG.normal(50, 20, (40, 2)).astype(np.float32)
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]
SCALE = (20.0, 5.0)


def make_dataset(kind):
    y = {"classification": CLASSES, "binary": YES, "regression": NUMBERS}[kind]
    split = data.Split(np.zeros([40, 4], np.float32), y)
    scale = SCALE if kind == "regression" else ()
    task = tasks.Task(kind, ("a", "b"), mean=scale and (0.0, 0.0), scale=scale)
    count = 3 if kind == "classification" else None
    return data.Dataset("points", split, split, split, count, task)


LOSSES = [
    (
        "keras:CategoricalCrossentropy(label_smoothing=0.1)",
        "classification",
        LOGITS,
        lambda: keras.losses.CategoricalCrossentropy(True, 0.1)(ONE_HOT, LOGITS),
    ),
    (
        "keras:SparseCategoricalCrossentropy",
        "classification",
        LOGITS,
        lambda: keras.losses.SparseCategoricalCrossentropy(True)(CLASSES, LOGITS),
    ),
    (
        "keras:KLDivergence",
        "classification",
        LOGITS,
        lambda: keras.losses.KLDivergence()(ONE_HOT, keras.ops.softmax(LOGITS)),
    ),
    (
        "keras:BinaryFocalCrossentropy(gamma=1.0)",
        "binary",
        SCORES,
        lambda: keras.losses.BinaryFocalCrossentropy(gamma=1.0, from_logits=True)(
            YES, SCORES
        ),
    ),
    (
        "keras:BinaryCrossentropy(from_logits=False)",
        "binary",
        SCORES,
        lambda: keras.losses.BinaryCrossentropy(True)(YES, SCORES),
    ),
    (
        "keras:Huber(0.5)",
        "regression",
        GUESSES,
        lambda: keras.losses.Huber(0.5)(NUMBERS / SCALE, GUESSES / SCALE),
    ),
    (
        "auto",
        "regression",
        GUESSES,
        lambda: np.mean(((NUMBERS - GUESSES) / SCALE) ** 2),
    ),
]


@pytest.mark.parametrize(("text", "kind", "outputs", "want"), LOSSES)
def test_a_loss_gets_what_it_takes(text, kind, outputs, want):
    dataset = make_dataset(kind)
    loss = named.make_loss(config.Config(loss=text), dataset)
    got = loss(tf.constant(dataset.train.y), tf.constant(outputs))
    assert got.shape[0] == 40
    np.testing.assert_allclose(tf.reduce_mean(got), want(), rtol=1e-5)


def measure(kind, outputs, *texts):
    dataset = make_dataset(kind)
    settings = config.Config(metrics=texts)
    asked = named.make_metrics(settings, dataset)
    loss = named.make_loss(config.Config(loss="keras:Hinge"), dataset)
    metrics = measuring.Metrics(asked, objectives.Objective(loss))
    batch = tf.constant(dataset.train.y), tf.constant(outputs)
    metrics.check(*batch)
    return metrics.result(metrics.update(*batch))


def test_metrics_get_probabilities_and_what_targets_they_take():
    chosen = LOGITS.argmax(1)
    got = measure(
        "classification",
        LOGITS,
        "keras:F1Score(average='macro')",
        "keras:SparseCategoricalAccuracy",
        "keras:Precision(class_id=1)",
        "top_5_accuracy",
    )
    f1 = sklearn_metrics.f1_score(CLASSES, chosen, average="macro")
    precise = sklearn_metrics.precision_score(
        CLASSES == 1, keras.ops.softmax(LOGITS)[:, 1] > 0.5
    )
    assert got["f1_score"] == pytest.approx(f1, rel=1e-5)
    assert got["accuracy"] == pytest.approx(np.mean(chosen == CLASSES))
    assert got["sparse_categorical_accuracy"] == pytest.approx(got["accuracy"])
    assert got["precision"] == pytest.approx(precise) and got["top_5_accuracy"] == 1
    got = measure("binary", SCORES, "keras:AUC(num_thresholds=9999, name='area')")
    auc = sklearn_metrics.roc_auc_score(YES, SCORES)
    assert got["area"] == pytest.approx(auc, abs=5e-3)  # Of thresholds.
    assert got["accuracy"] == pytest.approx(np.mean((SCORES > 0) == YES))
    got = measure("regression", GUESSES, "keras:RootMeanSquaredError")
    want = np.sqrt(np.mean((NUMBERS - GUESSES) ** 2))
    assert got["root_mean_squared_error"] == pytest.approx(want, rel=1e-5)
    assert got["r2"] == pytest.approx(sklearn_metrics.r2_score(NUMBERS, GUESSES))


def test_images_without_channels_are_augmented_as_those_with_them(rng):
    x = rng.integers(0, 256, (8, 6, 5)).astype(np.uint8)
    split = data.Split(x, np.arange(8) % 2, pixels=True)
    dataset = data.Dataset("images", split, split, split, 2)
    settings = config.Config(augment=("flip", "crop(1, mode='reflect')"))
    change = named.make_augmentation(settings, dataset)
    keys = tfreg.random.make_key(3, 0, tf.range(8))
    got, _ = change((tf.constant(x), tf.constant(split.y)), keys)
    plain = augment.chain(augment.flip(), augment.crop(1, "reflect"))
    want, _ = plain((tf.constant(x[..., np.newaxis]), tf.constant(split.y)), keys)
    np.testing.assert_array_equal(got, want[..., 0])
    assert np.any(got != x)


WRONG = [
    ({"loss": "Huber"}, "loss must be auto, keras:NAME or module:function"),
    ({"loss": "keras:Huber(delta=)"}, "loss must be a name, or one with numbers"),
    ({"loss": "keras:open('a')"}, "loss must be keras: and a name in losses"),
    ({"loss": "keras:Hubber"}, "write for example keras:Huber"),
    ({"loss": "keras:Huber(1, 2, 3, 4, 5)"}, "loss must have arguments that Keras"),
    ({"loss": "keras:SparseCategoricalCrossentropy"}, "loss must fit a regression"),
    ({"loss": "no_module:loss"}, "loss must name a module that can be imported"),
    ({"metrics": ("keras:MeanIoU",)}, "missing 1 required positional"),
    ({"metrics": ("acuracy",)}, "write for example accuracy"),
    ({"metrics": ("keras:AUC", "keras:AUC")}, "metrics must have names of their own"),
    ({"augment": ("keras:flip",)}, "augment must be brightness, crop"),
    ({"augment": ("crop(0)",)}, "augment must have the arguments of crop"),
    ({"augment": ("flip",)}, "augment must fit the training data"),
    ({"optimizer": "nets:adam"}, "optimizer must be one of sgd"),
    ({"optimizer": "keras:Lion(1e-3)", "warmup_steps": 3}, "schedule must be const"),
    ({"optimizer": "keras:Lion(1e-3)", "learning_rate": 1.0}, "must be given once"),
    ({"optimizer": "keras:Lion(rate=3)"}, "optimizer must have arguments"),
    ({"model": "keras:MobileNetV2"}, "model keras:MobileNetV2 must have images"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_what_cannot_be_used_is_one_sentence(fields, message):
    dataset = make_dataset("regression")
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as raised:
        settings = config.Config(**fields)
        named.make_loss(settings, dataset)
        named.make_metrics(settings, dataset)
        named.make_augmentation(settings, dataset)
        if settings.model == "mlp":
            named.make_optimizer(settings.optimizer, settings)
        named.make_application(settings.model, (4,), 1, 0)
    assert "\n" not in str(raised.value)


def test_arguments_are_literals():
    call = calls.parse("loss", "keras:Tversky(0.3, beta=-0.7, name='a,b')")
    assert call == calls.Call("Tversky", (0.3,), {"beta": -0.7, "name": "a,b"})
    with pytest.raises(ValueError, match="must be a name, or one with numbers"):
        calls.parse("loss", "keras:Huber(__import__('os').getpid())")


NETS = """
import keras, tensorflow as tf

def build(config, dataset):
    inputs = keras.Input(dataset.train.x.shape[1:])
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dropout(0.2)(keras.layers.Dense(8, "relu")(x))
    return keras.Model(inputs, keras.layers.Dense(3)(x))

def loss(y, outputs):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs)

def confident():
    return keras.metrics.CategoricalAccuracy()

def shift(batch, keys):
    return batch[0] + tf.constant(1, batch[0].dtype), *batch[1:]
"""


def call(*argv):
    return commands.main(["tfreg", *map(str, argv)])


def test_a_run_of_such_parts_resumes_to_the_bit_and_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("parts_of_mine.py").write_text(NETS)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, (60, 6, 6, 1)).astype(np.uint8)
    means = x.mean((1, 2, 3))
    y = np.int32(np.digitize(means, np.quantile(means, (1 / 3, 2 / 3))))
    parts = {f"{a}_{b}": v for b in ("train", "test") for a, v in (("x", x), ("y", y))}
    np.savez("images.npz", **parts)
    flags = ["--dataset=npz", "--data_dir=images.npz", "--batch_size=16"]
    flags += ["--model=parts_of_mine:build", "--loss=parts_of_mine:loss"]
    flags += ["--metrics=keras:F1Score(average='macro'),parts_of_mine:confident"]
    flags += ["--augment=flip,crop(1),parts_of_mine:shift", "--strategy=one"]
    flags += ["--optimizer=keras:Lion(3e-3)", "--compile=graph"]
    assert call("train", *flags, "--epochs=2", "--run_name=alone") == 0
    assert call("train", *flags, "--epochs=1", "--run_name=parts") == 0
    assert call("train", "--resume", "--run=runs/parts", "--epochs=2") == 0
    alone, resumed = (tfreg.load_run(f"runs/{name}") for name in ("alone", "parts"))
    pairs = zip(alone.model.variables, resumed.model.variables, strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    result = json.loads(pathlib.Path("runs/alone/result.json").read_text())["test"]
    labels = alone.predict(x).labels
    assert result["accuracy"] == pytest.approx(np.mean(labels == y))
    assert result["confident"] == pytest.approx(result["accuracy"])
    f1 = sklearn_metrics.f1_score(y, labels, average="macro", labels=[0, 1, 2])
    assert result["f1_score"] == pytest.approx(f1, rel=1e-4, abs=1e-6)


def test_a_table_is_learnt_by_a_loss_and_an_optimizer_of_keras(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(200, 2))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": 1000 * x[:, 0] + 5000})
    frame.to_csv("lines.csv", index=False)
    settings = config.Config(
        data="lines.csv",
        target=("y",),
        model="linear",
        loss="keras:Huber",
        optimizer="keras:Nadam",
        learning_rate=0.1,
        epochs=6,
        strategy="one",
        compile="graph",
    )
    result = tfreg.runs.train(settings)
    assert result["test"]["r2"] > 0.99
    dataset = inputs.load(settings)
    outputs = tfreg.load_run(pathlib.Path("runs", settings.get_run_name()))
    got = outputs.evaluate(dataset.test)["loss"]
    values = outputs.predict(frame).values
    rows = [int(np.argmin(np.abs(frame["y"] - v))) for v in dataset.test.y[:, 0]]
    scale = dataset.task.scale[0]
    want = keras.losses.Huber()(dataset.test.y / scale, values[rows] / scale)
    assert got == pytest.approx(float(want), rel=1e-4)


def test_an_application_of_keras_starts_from_the_seed():
    make = named.make_application
    text = "keras:MobileNetV2(alpha=0.35)"
    models = [make(text, (32, 32), 3, seed) for seed in (1, 1, 2)]
    x = tf.constant(RNG.random((2, 32, 32)), tf.float32)
    first, again, other = (model(x, training=False).numpy() for model in models)
    assert first.shape == (2, 3)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
