"""The examples run, and reach what they are there to show."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfreg

ROOT = pathlib.Path(__file__).resolve().parents[1]


def load(name):
    """Returns an example as a module, newly executed."""
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
    example.train_step(tf.zeros([2, 2]), tf.zeros([2, example.NOISE]))
    scales = [(example.generator, 1e-5), (example.discriminator, 1e-3)]
    for model, scale in scales:
        kernels = [v.numpy() for v in model.variables if v.shape.rank == 2]
        assert len(kernels) == 3
        expected = sum(scale * np.sum(kernel**2) / 2 for kernel in kernels)
        # Float32.
        got = tfreg.losses.total_loss(tf.zeros([1]), model)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_gan_learns_the_circle():
    radii = load("gan").main()
    # The circle's radius is 1; before training all points are within 0.5 of 0.
    assert 0.8 < np.mean(radii) < 1.2
    assert np.std(radii) < 0.3


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
