"""Prints what augmentation, pictures in a folder, and replicas of a LeNet cost.

    python benchmarks/pipelines.py --parts=augment,folder,replicas --turns=5

The sides of a part take turns in one process, and each part has a process of its own.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfreg
from tfreg.data import augment

_PARTS = flags.DEFINE_list("parts", ["augment", "folder", "replicas"], "what to print")
_TURNS = flags.DEFINE_integer("turns", 5, "turns of each side", lower_bound=1)
_ONE = flags.DEFINE_string("one", None, "the part to measure in this process")
CROSS_ENTROPY = tfreg.losses.sparse_softmax_cross_entropy


def make_lenet(shape):
    """Returns LeNet-5 with ReLU and max pooling, with L2 on its kernels."""
    layers, l2 = keras.layers, keras.regularizers.L2(1e-4)
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(
                6, 5, padding="same", activation="relu", kernel_regularizer=l2
            ),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu", kernel_regularizer=l2),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, "relu", kernel_regularizer=l2),
            layers.Dense(84, "relu", kernel_regularizer=l2),
            layers.Dense(10, kernel_regularizer=l2),
        ]
    )


def make_loop(model, source, batch_size, **options):
    """Returns a function that trains an epoch of tfreg."""
    step = tfreg.Step(model, CROSS_ENTROPY, tfreg.optimizers.adam(1e-3))
    loop = tfreg.Loop(step, source, batch_size, **options)
    epochs = iter(range(10**6))
    return lambda: loop.train(next(epochs))


def compile_keras(model):
    """Compiles a model as people write it."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)


def make_augment():
    """An MLP on images that are held, with flip and crop on the device, and without."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (32_000, 28, 28, 1)).astype(np.uint8)
    split = tfreg.data.Split(x, rng.integers(0, 10, 32_000).astype("i4"), pixels=True)

    def make(changes):
        model = tfreg.models.MLP([128, 10])
        return make_loop(model, split, 32, augment=changes)

    return {
        "MLP, no augmentation": make(None),
        "MLP, flip": make([augment.flip()]),
        "MLP, flip and crop": make([augment.flip(), augment.crop(2)]),
    }


def make_folder():
    """A LeNet on a folder of JPEGs with flip and crop, and Keras's fit on tf.data."""
    root = pathlib.Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    for k in range(10):
        (root / str(k)).mkdir()
        for i in range(256):
            small = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            image = np.kron(small, np.ones((4, 4, 1), np.uint8))
            (root / str(k) / f"{i}.jpg").write_bytes(tf.io.encode_jpeg(image).numpy())
    changes = [augment.flip(), augment.crop(4)]
    source = tfreg.data.Indexed(tfreg.data.images(root))
    files = keras.utils.image_dataset_from_directory(
        root, image_size=(32, 32), batch_size=None, verbose=False
    )

    def change(x, y):
        x = tf.image.random_flip_left_right(tf.pad(x / 255.0, [[4, 4], [4, 4], [0, 0]]))
        return tf.image.random_crop(x, [32, 32, 3]), y

    batched = files.shuffle(2_560).map(change, tf.data.AUTOTUNE).batch(128)
    batched, model = batched.prefetch(tf.data.AUTOTUNE), make_lenet((32, 32, 3))
    compile_keras(model)
    return {
        "fit, tf.data of the tutorials": lambda: model.fit(batched, verbose=0),
        "tfreg, Indexed": make_loop(
            make_lenet((32, 32, 3)), source, 128, augment=changes
        ),
    }


def make_replicas():
    """A LeNet at batch 128 on two logical CPUs, and Keras's fit there."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, parts)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6_400, 28, 28, 1)).astype(np.float32)
    y = rng.integers(0, 10, 6_400).astype(np.int32)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = make_lenet((28, 28, 1))
        compile_keras(model)
        split = tfreg.data.Split(x, y)
        loop = make_loop(make_lenet((28, 28, 1)), split, 128, strategy=strategy)
    fit = lambda: model.fit(x, y, batch_size=128, verbose=0)  # noqa: E731
    return {"fit, 2 replicas": fit, "tfreg, 2 replicas": loop}


MAKERS = {"augment": make_augment, "folder": make_folder, "replicas": make_replicas}


def measure(part):
    """Prints the median seconds of an epoch, and the first side's over each."""
    sides = MAKERS[part]()
    seconds = {name: [] for name in sides}
    for turn in range(_TURNS.value + 1):
        for name, train in sides.items():
            began = time.perf_counter()
            train()
            if turn:  # The first one compiles.
                seconds[name].append(time.perf_counter() - began)
    first = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(first, values, strict=True))
        print(
            f"| {name} | {statistics.median(values):.2f} s | {ratio:.2f} |", flush=True
        )


def main(argv):
    del argv
    if _ONE.value:
        measure(_ONE.value)
        return
    for part in _PARTS.value:
        print(f"\n{MAKERS[part].__doc__}\n\n| | an epoch | ratio |\n|---|---:|---:|")
        sys.stdout.flush()
        subprocess.run([sys.executable, *sys.argv, f"--one={part}"], check=True)


if __name__ == "__main__":
    app.run(main)
