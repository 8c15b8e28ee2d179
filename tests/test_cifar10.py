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
    defined = module.flags.FLAGS
    was_parsed = defined.is_parsed()
    defined.mark_as_parsed()
    yield module
    names = "data_dir", "batch_size", "epochs", "steps", "rate", "float64"
    for name in names:  # Other tests may define them.
        delattr(defined, name)
    if not was_parsed:
        defined.unparse_flags()
    sys.modules.pop("cifar10", None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype, rate, bound", [(np.float32, 0.01, 1e-4), (np.float64, 0.1, 1e-10)]
)
def test_the_tutorial_trains_as_its_original(
    benchmark, rng, capsys, dtype, rate, bound
):
    benchmark.flags.FLAGS["rate"].value = rate
    benchmark.flags.FLAGS["float64"].value = dtype is np.float64
    images = rng.normal(size=(24, 24, 24, 3)).astype(dtype)
    batches = benchmark.make_batches(images, rng.integers(0, 10, 24), 4, 1)
    assert len(batches) == 6
    assert benchmark.compare(batches) < bound
    out = capsys.readouterr().out
    assert "port / original" in out and "reversed: largest" in out


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
