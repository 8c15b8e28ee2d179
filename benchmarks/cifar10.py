"""Trains the CIFAR-10 tutorial in TF1's graph mode and as its port, and compares them.

    python benchmarks/cifar10.py --data_dir=DIR  # holds train/CLASS/*.jpg, or its .zip
    python benchmarks/cifar10.py --data_dir=DIR --rate=0.1 --float64

The port is what `tfreg port benchmarks/tf1/cifar10_tutorial.py` writes. Both train an
epoch from the same weights on the same batches; the sides take turns of a few steps, so
that a machine whose speed drifts favours none. The trap: at the tutorial's rate of 0.1
rounding errors grow from step to step, so that float32 can't show that two trainings
are the same. float64 can.
"""

import pathlib
import re
import statistics
import sys
import tempfile
import time
import types
import zipfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl import app, flags

import tfreg
from tfreg.porting import rewriting

_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of images", required=True)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "examples a step", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 1, "epochs", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", None, "at most so many", lower_bound=1)
_RATE = flags.DEFINE_float("rate", 0.01, "learning rate")
_FLOAT64 = flags.DEFINE_bool("float64", False, "train both in float64")

TUTORIAL = pathlib.Path(__file__).with_name("tf1") / "cifar10_tutorial.py"
SIZE = 24  # The tutorial's crop.
TURN = 4  # Steps.
v1 = tf.compat.v1


def read_images(folder):
    """Returns standardized crops `[n, 24, 24, 3]` and labels of a folder of JPEGs."""
    images, labels = [], []
    classes = sorted(path for path in (folder / "train").iterdir() if path.is_dir())
    for label, path in enumerate(classes):
        for file in sorted(path.glob("*.jpg")):
            image = tf.io.decode_jpeg(file.read_bytes()).numpy()
            low = (image.shape[0] - SIZE) // 2
            image = image[low : low + SIZE, low : low + SIZE].astype(np.float32)
            deviation = max(image.std(), image.size**-0.5)
            images.append((image - image.mean()) / deviation)
            labels.append(label)
    return np.stack(images), np.array(labels, np.int64)


def unpack(folder, target):
    """Returns the folder that holds train/, unpacked if it is in a zip."""
    archives = sorted(folder.glob("*.zip"))
    if (folder / "train").is_dir() or not archives:
        return folder
    with zipfile.ZipFile(archives[0]) as archive:
        archive.extractall(target)
    return next(pathlib.Path(target).rglob("train")).parent


def read_tutorial():
    """Returns the tutorial's source with the flags' rate and dtype."""
    source, count = re.subn(
        r"(?m)^RATE = .*", f"RATE = {_RATE.value}", TUTORIAL.read_text()
    )
    if count != 1:
        raise ValueError(f"{TUTORIAL} must set RATE once, got {count} lines: mend it")
    return source.replace("float32", "float64") if _FLOAT64.value else source


def normalize(x, name):
    """Computes the tutorial's tf.nn.lrn, which has no float64, by its formula."""
    del name
    size = x.shape[-1]
    padded = tf.pad(tf.square(x), [[0, 0], [0, 0], [0, 0], [4, 4]])
    total = tf.add_n([padded[..., first : first + size] for first in range(9)])
    return x / (1.0 + 0.001 / 9.0 * total) ** 0.75


class Original:
    """The tutorial in a graph and a session.

    Args:
        batch: of the size of all batches.
        weights: variable's name -> its first value.
        order: 1, or -1 to reverse the examples of each batch.
    """

    def __init__(self, batch, weights, order=1):
        self._order = order
        script = types.ModuleType("cifar10_tutorial")
        with mock.patch.dict(sys.modules, {"tensorflow": v1}):
            exec(read_tutorial(), script.__dict__)
        if _FLOAT64.value:
            script._normalize = normalize
        with tf.Graph().as_default():
            self._feeds = [v1.placeholder(part.dtype, part.shape) for part in batch]
            total, losses = script.loss, []
            script.loss = lambda *args: losses.append(total(*args)) or losses[0]
            update = script.train(*self._feeds)
            self._fetches = [losses[0], update]
            self._session = v1.Session()
            self._session.run(v1.global_variables_initializer())
            for variable in v1.trainable_variables():
                variable.load(weights[variable.op.name], self._session)

    def step(self, *batch):
        """Returns the loss before an update."""
        batch = [part[:: self._order] for part in batch]
        feed = dict(zip(self._feeds, batch, strict=True))
        return self._session.run(self._fetches, feed)[0]


class Port:
    """The tutorial as the command ports it."""

    def __init__(self, batch):
        result = rewriting.rewrite(read_tutorial().encode())
        if result.left:
            raise ValueError(f"the port must leave nothing, got {result.left}")
        script = types.ModuleType("cifar10_port")
        exec(result.source, script.__dict__)
        train_step = script.train(None, None)
        with tfreg.step_scope():
            train_step.total_loss(*map(tf.constant, batch))  # Creates the weights.
        self._step = tf.function(train_step)
        model = train_step.total_loss
        self.weights = {v.name.partition(":")[0]: v.numpy() for v in model.variables}

    def step(self, *batch):
        """Returns the loss before an update."""
        return self._step(*map(tf.constant, batch)).numpy()


def run_turns(sides, batches):
    """Trains the sides in turns; returns the losses and the seconds a step of each."""
    losses, seconds = {side: [] for side in sides}, {side: [] for side in sides}
    for first in range(0, len(batches), TURN):
        turn = batches[first : first + TURN]
        for name, side in sides.items():
            start = time.perf_counter()
            losses[name] += [float(side.step(*batch)) for batch in turn]
            seconds[name].append((time.perf_counter() - start) / len(turn))
    return losses, seconds


def make_batches(images, labels, batch_size, epochs):
    """Returns the batches of some epochs, in a seeded order."""
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for first in range(0, len(order) - batch_size + 1, batch_size):
            rows = order[first : first + batch_size]
            batches.append((images[rows], labels[rows]))
    return batches


def compare(batches):
    """Prints what the sides did; returns the port's largest difference of a loss."""
    port = Port(batches[0])
    sides = {
        "original": Original(batches[0], port.weights),
        "port": port,
        "reversed": Original(batches[0], port.weights, order=-1),
    }
    losses, seconds = run_turns(sides, batches)
    for name in sides:
        mean = np.mean(losses[name][-TURN:])
        # The first turn traces and compiles.
        median = 1000 * statistics.median(seconds[name][1:] or seconds[name])
        print(f"{name:9} {median:7.1f} ms a step, last losses {mean:.4f}")
    pairs = list(zip(seconds["port"], seconds["original"], strict=True))
    ratio = statistics.median(mine / theirs for mine, theirs in pairs[1:] or pairs)
    print(f"port / original: {ratio:.2f} of the time")
    truth = np.array(losses["original"])
    differences = {}
    for name in ("port", "reversed"):
        relative = np.abs(losses[name] - truth) / np.abs(truth)
        differences[name] = np.max(relative)
        parts = [part for part in np.array_split(relative, 4) if len(part)]
        print(
            f"{name}: largest relative difference of a loss {differences[name]:.1e}; "
            f"by quarter {' '.join(f'{np.max(part):.1e}' for part in parts)}"
        )
    return differences["port"]


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as target:
        images, labels = read_images(unpack(pathlib.Path(_DATA_DIR.value), target))
    images = images.astype(np.float64 if _FLOAT64.value else np.float32)
    batches = make_batches(images, labels, _BATCH_SIZE.value, _EPOCHS.value)
    batches = batches[: _STEPS.value]
    print(f"{len(images)} images, {len(batches)} steps of {_BATCH_SIZE.value}")
    compare(batches)


if __name__ == "__main__":
    app.run(main)
