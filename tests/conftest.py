"""What every test gets: four logical CPUs, a store of its own, seeded numbers."""

import gc
import os
import pathlib

# Read by TensorFlow when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import numpy as np
import pytest
import tensorflow as tf

# Before anything runs on the CPU: afterwards TensorFlow refuses.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
)

# A first example traces and compiles: no deadline holds for it.
hypothesis.settings.register_profile("tfreg", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tfreg")


@pytest.fixture(autouse=True)
def fresh_store():
    """Gives the test a default store of its own."""
    from tfreg.collections import store

    with store.Store(seed=0).as_default():
        yield


@pytest.fixture(autouse=True)
def own_collectives():
    """Keeps a test's strategies apart from those of other numbers of devices."""
    # The next group of a process takes this number: two groups of one number abort.
    tf.distribute.MirroredStrategy._collective_key_base += 100


gc.freeze()  # TensorFlow's modules, which each collection would look through.


@pytest.fixture(autouse=True, scope="module")
def collected():
    """Frees a module's graphs, which refer to themselves."""
    yield
    gc.collect()


@pytest.fixture
def rng():
    """Returns a NumPy generator that starts at the same place in every test."""
    return np.random.default_rng(0)


@pytest.fixture
def two_replicas():
    """Returns a strategy of two logical CPUs."""
    # Without collectives, whose numbers the strategies of several tests share.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], reduction)


@pytest.fixture
def small_blocks(monkeypatch):
    """Makes several blocks of a few kilobytes, where examples are read in blocks."""
    from tfreg.training import feeding

    monkeypatch.setattr(feeding, "BLOCK_BYTES", 2**13)


@pytest.fixture
def mended_slim(monkeypatch):
    """Gives slim the names that TensorFlow has moved since."""
    from tensorflow.python.framework import ops

    for name in ("Tensor", "IndexedSlices"):
        monkeypatch.setattr(ops, name, getattr(tf, name), raising=False)


@pytest.fixture(scope="session")
def mnist_dir():
    """Returns the folder of MNIST's four idx files, or skips where there is none."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
    folder = pathlib.Path(os.environ.get("TFREG_MNIST", beside))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set TFREG_MNIST to MNIST's four idx files")
    return folder
