"""The examples run, and reach what they are there to show."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import tfreg
from tfreg import runs

ROOT = pathlib.Path(__file__).resolve().parents[1]


def load(name):
    """Returns an example as a module, newly executed."""
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    before = set(flags.FLAGS)
    spec.loader.exec_module(module)
    for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)  # Another example may have the same one.
    return module


def test_own_loop_learns(capsys):
    example = load("own_loop")
    assert example.main() > 0.85
    assert len(capsys.readouterr().out.splitlines()) == example.EPOCHS


def test_total_of_the_own_loop_is_data_and_penalties():
    example = load("own_loop")
    x, y = example.x[:8], example.y[:8]
    with tfreg.step_scope():
        logits = example.model(x)
        per_example = tfreg.losses.sparse_softmax_cross_entropy(y, logits)
        total = tfreg.losses.total_loss(per_example, example.model)
    kernels = [v.numpy() for v in example.model.variables if v.shape.rank == 2]
    first, _ = (layer for layer in example.model.submodules if "dense" in layer.name)
    # No activity of a relu is negative: L1 is the sum.
    hidden = first(x.reshape(8, -1))
    expected = (
        np.mean(per_example)
        + sum(1e-4 * np.sum(kernel.astype(np.float64) ** 2) / 2 for kernel in kernels)
        + 1e-6 * np.sum(hidden) / 8
    )
    # Float32 sums of 100,000 squares.
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_each_total_of_the_gan_counts_its_own_model():
    example = load("gan")
    batch = tf.zeros([2, 2]), tf.zeros([2, example.NOISE])
    models = [(example.generator, 1e-5), (example.discriminator, 1e-3)]
    example.train_step(*batch)  # creates the variables
    penalties = []
    for model, scale in models:
        kernels = [v.numpy() for v in model.variables if v.shape.rank == 2]
        assert len(kernels) == 3
        penalties.append(sum(scale * np.sum(kernel**2) / 2 for kernel in kernels))
    real, noise = batch
    got = example.g_step(noise, real).regularization
    np.testing.assert_allclose(got, penalties[0], rtol=1e-5)  # Float32.
    got = example.d_step(noise, real).regularization
    np.testing.assert_allclose(got, penalties[1], rtol=1e-5)


def test_each_step_of_the_gan_trains_its_own_model():
    example = load("gan")
    batch = tf.ones([2, example.NOISE]), tf.zeros([2, 2])
    example.train_step(*batch[::-1])
    models = example.generator, example.discriminator
    for k, step in enumerate([example.g_step, example.d_step]):
        before = [[v.numpy() for v in model.variables] for model in models]
        step(*batch)
        after = [[v.numpy() for v in model.variables] for model in models]
        changed = [
            any(not np.array_equal(a, b) for a, b in zip(*pair, strict=True))
            for pair in zip(before, after, strict=True)
        ]
        assert changed == [k == 0, k == 1]


def test_gan_learns_the_circle():
    radii = load("gan").main()
    # The circle's radius is 1; before training all points are within 0.5 of 0.
    assert 0.8 < np.mean(radii) < 1.2
    assert np.std(radii) < 0.3


@pytest.mark.slow  # Half of it traces 155 layers.
def test_mobilenet_trains_on_a_folder(tmp_path, rng, capsys):
    for k, name in enumerate(["dark", "light"]):
        (tmp_path / name).mkdir()
        for i in range(32):
            image = rng.integers(0, 128, (36, 40, 3)) + 128 * k
            encoded = tf.io.encode_png(np.uint8(image)).numpy()
            (tmp_path / name / f"{i}.png").write_bytes(encoded)
    example = load("mobilenet")
    initial, _ = example.train(tmp_path, 0)
    model, report = example.train(tmp_path, 2)
    kernels = [v.numpy() for v in model.trainable_variables if v.shape.rank > 1]
    assert len(kernels) == len(report.penalties) == 53
    expected = 1e-4 * sum(np.sum(kernel.astype(np.float64) ** 2) for kernel in kernels)
    np.testing.assert_allclose(report.regularization, expected / 2, rtol=1e-5)
    assert len(re.findall(r"epoch \d: \d\.\d+ ", capsys.readouterr().out)) == 2
    # Four steps learn nothing that could be measured; but every variable moves.
    pairs = zip(initial.trainable_variables, model.trainable_variables, strict=True)
    assert not [v.path for u, v in pairs if np.array_equal(u, v)]


def test_sonnet_learns_and_is_penalized():
    model, accuracy = load("sonnet_model").main()
    assert accuracy > 0.85
    total = tfreg.losses.total_loss(tf.zeros([1]), model)
    kernels = [layer.w.numpy() for layer in (model.hidden, model.logits)]
    expected = 1e-4 * sum(np.sum(kernel**2) / 2 for kernel in kernels)
    expected += 1e-4 * np.sum(np.abs(model.logits.b.numpy()))
    np.testing.assert_allclose(total, expected, rtol=1e-5)  # Float32.


def test_tfrecords_are_learned(tmp_path):
    example = load("tfrecord")
    report = example.main()
    assert report.num_steps == 32
    assert report.metrics["accuracy"] > 0.9
    pipeline = example.make_pipeline(example.write(tmp_path))
    orders = [
        np.concatenate([x.ravel() for x, _ in pipeline.open(*key).as_numpy_iterator()])
        for key in [(0, 1), (0, 1), (1, 0)]
    ]
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert np.array_equal(np.sort(orders[0]), np.sort(orders[2]))


def test_two_outputs_are_learned():
    report = load("two_outputs").main()
    names = {"digit/accuracy", "digit/top_3", "ink/r2"}
    assert set(report.metrics) == names
    assert report.metrics["digit/accuracy"] > 0.85
    assert report.metrics["digit/top_3"] > report.metrics["digit/accuracy"]
    assert report.metrics["ink/r2"] > 0.2
    # Loss weights: the total's data loss is the weighted sum.
    expected = report.data_losses["digit"] + 0.5 * report.data_losses["ink"]
    np.testing.assert_allclose(report.loss, expected, rtol=1e-5)


def test_rdrop_learns_and_reports_its_divergence(capsys):
    report = load("rdrop").main()
    assert report.metrics["accuracy"] > 0.85
    # In training two masks differ; in an evaluation there is no dropout.
    first, *_ = re.findall(r"'rdrop': (\d\.\d+)", capsys.readouterr().out)
    assert float(first) > 0.01
    assert report.metrics["divergence"] == 0.0


@pytest.mark.slow
def test_two_replicas_have_the_loss_of_one_device():
    # In a process of its own: it splits the CPU in two, conftest.py in four.
    command = [sys.executable, str(ROOT / "examples" / "replicas.py")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    two, one = map(float, re.findall(r"\d\.\d{6}", done.stdout))
    # Float32.
    np.testing.assert_allclose(two, one, rtol=1e-5)


def make_trunk(shape, name, **_):
    """Returns two layers with names of MobileNetV2's, which takes 20 times as long."""
    layers = [
        keras.layers.Conv2D(4, 3, 4, name="block_1_expand"),
        keras.layers.BatchNormalization(name="block_1_expand_BN"),
        keras.layers.ReLU(),
        keras.layers.Conv2D(6, 3, 2, name="Conv_1"),
    ]
    return keras.Sequential([keras.Input(shape), *layers], name=name)


@pytest.mark.slow
def test_a_fine_tuning_resumes_to_the_bit(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(keras.applications, "MobileNetV2", make_trunk)
    for k in range(4):
        (tmp_path / "images" / str(k)).mkdir(parents=True)
        for i in range(16):
            image = np.uint8(rng.integers(0, 60, (32, 32, 3)) + 60 * k)
            encoded = tf.io.encode_png(image).numpy()
            (tmp_path / "images" / str(k) / f"{i}.png").write_bytes(encoded)
    example = load("finetune")
    example.BATCH = 8
    data = [example.load(tmp_path / "images", half) for half in (True, False)]
    assert [len(part) for part in data[1]] == [25, 7] and set(data[1][0].y) == {0, 1}
    example.pretrain(data[0], tmp_path / "alone", 1)
    shutil.copytree(tmp_path / "alone", tmp_path / "parts")

    def fail(event):
        if event.step > 4:
            raise RuntimeError

    def finetune(name, **options):
        with tfreg.Store().as_default():  # It numbers penalties of equal names.
            return example.finetune(data[1], tmp_path / name, 2, **options)

    alone = finetune("alone")
    with pytest.raises(runs.hooks.HookError, match="saved in .* after step [5-8]"):
        finetune("parts", hooks=[fail])
    parts = finetune("parts")
    for key in ("steps", "train", "validation", "best_step"):
        assert parts[key] == alone[key]
    assert any("l2_sp" in tag for tag in alone["train"])
    assert alone["steps"] == 8
