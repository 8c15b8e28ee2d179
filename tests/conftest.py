"""What every test gets: four logical CPUs, a store of its own, seeded numbers."""

import gc
import os
import pathlib

# Read by TensorFlow when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# As the commands do on one device, on every processor.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import hypothesis
import numpy as np
import pytest
import tensorflow as tf

# "gpu": a card's two logical devices instead of the CPU's four; see BUILD.md.
DEVICES = os.environ.get("TFREG_DEVICES", "cpu")
CARDS = tf.config.list_physical_devices("GPU")
CARD_MIB = 2048  # Of each logical GPU of a process: workers of xdist share the card.

# Before anything runs on a device: afterwards TensorFlow refuses.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
)
if DEVICES == "cpu":
    tf.config.set_visible_devices([], "GPU")
elif not CARDS:
    pytest.exit("TFREG_DEVICES=gpu, and there is no GPU: 0 tests", returncode=0)
else:
    part = tf.config.LogicalDeviceConfiguration(memory_limit=CARD_MIB)
    tf.config.set_logical_device_configuration(CARDS[0], [part] * 2)
    tf.config.set_visible_devices(CARDS[0], "GPU")
    tf.config.experimental.enable_tensor_float_32_execution(False)

# A card adds in another order, and its transcendentals differ in the last bits.
LOOSER = 1.0 if DEVICES == "cpu" else 20.0

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


@pytest.fixture(autouse=True)
def tolerances(monkeypatch, request):
    """Makes tolerances looser on a card; runs what is marked `cpu` on a CPU."""
    if DEVICES == "cpu":
        yield
        return
    close, approx = np.testing.assert_allclose, pytest.approx

    def assert_allclose(actual, desired, rtol=1e-7, atol=0.0, **options):
        close(actual, desired, rtol * LOOSER, atol * LOOSER, **options)

    def approximately(expected, rel=None, abs=None, **options):
        rel = (1e-6 if rel is None and abs is None else rel or 0.0) * LOOSER
        abs = 1e-12 if abs is None else abs * LOOSER
        return approx(expected, rel or None, abs, **options)

    monkeypatch.setattr(np.testing, "assert_allclose", assert_allclose)
    monkeypatch.setattr(pytest, "approx", approximately)
    with tf.device("CPU:0" if request.node.get_closest_marker("cpu") else None):
        yield


@pytest.fixture
def two_replicas():
    """Returns a strategy of two logical CPUs, or GPUs of one card."""
    # Without collectives, whose numbers the strategies of several tests share.
    reduction = tf.distribute.ReductionToOneDevice()
    kind = DEVICES.upper()
    return tf.distribute.MirroredStrategy([f"{kind}:0", f"{kind}:1"], reduction)


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
