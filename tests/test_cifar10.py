"""The CIFAR-10 tutorial, ported by the command, on synthetic images."""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

PATH = pathlib.Path(__file__).parents[1] / "benchmarks" / "cifar10.py"


@pytest.fixture
def benchmark():
    """Returns benchmarks/cifar10.py as a module."""
    spec = importlib.util.spec_from_file_location("cifar10", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("data_dir", "batch_size", "epochs"):  # Other tests may define them.
        delattr(module.flags.FLAGS, name)
    sys.modules.pop("cifar10", None)


@pytest.mark.slow
def test_the_tutorial_trains_as_its_original(benchmark, rng, capsys):
    images = rng.normal(size=(24, 24, 24, 3)).astype(np.float32)
    batches = benchmark.make_batches(images, rng.integers(0, 10, 24), 4, 1)
    assert len(batches) == 6
    assert benchmark.compare(batches) < 1e-4
    assert "port / original" in capsys.readouterr().out


def test_a_folder_of_classes_is_read_and_cropped(benchmark, rng, tmp_path):
    for name in ("train/cat", "train/dog"):
        (tmp_path / name).mkdir(parents=True)
        pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        data = tf.io.encode_jpeg(pixels).numpy()
        (tmp_path / name / "0000.jpg").write_bytes(data)
    images, labels = benchmark.read_images(benchmark.unpack(tmp_path, tmp_path))
    assert images.shape == (2, 24, 24, 3) and labels.tolist() == [0, 1]
    np.testing.assert_allclose(images.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(images.std((1, 2, 3)), 1, rtol=1e-5)
