"""Trains a ResNet-20 on a folder of pictures, with and without L2, beside Keras's fit.

    python benchmarks/pictures.py --folder=cifar10 --epochs=20 --scales=0,2e-4

The folder holds `train/CLASS/*.jpg` and `test/CLASS/*.jpg`. The trap: a pipeline that
decodes and augments picture by picture on the host, and is slower than the network.
"""

import os
import shlex
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As the commands do.
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfreg
from tfreg.data import augment
from tfreg.runs import hooks

_FOLDER = flags.DEFINE_string("folder", None, "of train/ and test/", required=True)
_EPOCHS = flags.DEFINE_integer("epochs", 20, "epochs of tfreg", lower_bound=1)
_FIT_EPOCHS = flags.DEFINE_integer("fit_epochs", 2, "epochs of fit", lower_bound=0)
_SCALES = flags.DEFINE_list("scales", ["0", "2e-4"], "scales of L2, contrib's")
_SEED = flags.DEFINE_integer("seed", 0, "seed of weights, order and augmentation")
_DIRECTORY = flags.DEFINE_string("directory", None, "of runs, resumed after a kill")
BATCH, RATE = 128, 0.1


def make_model(keras_l2: float = 0.0) -> keras.Model:
    """Returns the ResNet-20 of He et al. 2016, with projections as shortcuts."""
    keras.utils.set_random_seed(_SEED.value)
    layers = keras.layers
    l2 = keras.regularizers.L2(keras_l2) if keras_l2 else None

    def conv(x, filters, size=3, strides=1, activate=True):
        x = layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=l2,
        )(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if activate else x

    inputs = keras.Input([32, 32, 3])
    x = conv(inputs, 16)
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if filters > 16 and not block else 1
            y = conv(conv(x, filters, 3, strides), filters, activate=False)
            if strides > 1:
                x = conv(x, filters, 1, strides, activate=False)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, kernel_regularizer=l2)(x))


def make_schedule(num_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a cosine from RATE to 0, after an epoch of warm-up."""
    warmup = num_steps // _EPOCHS.value
    return keras.optimizers.schedules.CosineDecay(
        RATE / 10, num_steps - warmup, warmup_target=RATE, warmup_steps=warmup
    )


def train(source: tfreg.data.Indexed, test: tfreg.data.Split, scale: float) -> float:
    """Trains by tfreg; prints each epoch, and returns the median of their seconds."""
    model = make_model()
    if scale:
        tfreg.rules.apply(f"l2({scale})@kernel", model)
    steps = -(-len(source) // BATCH) * _EPOCHS.value
    optimizer = keras.optimizers.SGD(make_schedule(steps), 0.9, nesterov=True)
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, optimizer)
    changes = [augment.flip(), augment.crop(4)]
    loop = tfreg.Loop(step, source, BATCH, _SEED.value, augment=changes)
    spent: list[float] = []
    times = {hooks.EpochEnded: time.perf_counter()}

    def show(event: hooks.Event) -> None:
        times[type(event)], began = time.perf_counter(), times[hooks.EpochEnded]
        if isinstance(event, hooks.EpochEnded):
            spent.append(times[hooks.StepsEnded] - began)
            print(
                f"tfreg, L2 {scale:g}, epoch {event.epoch + 1}: {spent[-1]:.1f} s, "
                f"loss {event.train.loss:.4f}, penalty "
                f"{event.train.regularization:.4f}, accuracy "
                f"{event.train.metrics['accuracy']:.4f}, test "
                f"{event.validation.metrics['accuracy']:.4f}",
                flush=True,
            )

    directory = _DIRECTORY.value and os.path.join(_DIRECTORY.value, f"l2_{scale:g}")
    trainer = tfreg.Trainer(loop, test, directory, hooks=[show])
    result = trainer.run(_EPOCHS.value)
    print(f"tfreg, L2 {scale:g}: test {result['validation']['accuracy']:.4f}")
    return float(np.median(spent))


def fit() -> float:
    """Trains by Keras's fit on the pipeline of the tutorials; returns its seconds."""
    folder = os.path.join(_FOLDER.value, "train")
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(32, 32), batch_size=None, shuffle=True, seed=_SEED.value
    )

    def change(x, y):
        x = tf.image.random_flip_left_right(tf.pad(x / 255.0, [[4, 4], [4, 4], [0, 0]]))
        return tf.image.random_crop(x, [32, 32, 3]), y

    dataset = dataset.shuffle(10_000).map(change, tf.data.AUTOTUNE).batch(BATCH)
    model = make_model(1e-4)
    model.compile(
        keras.optimizers.SGD(0.01, 0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    seconds = 0.0
    for _ in range(_FIT_EPOCHS.value):
        began = time.perf_counter()
        model.fit(dataset.prefetch(tf.data.AUTOTUNE), verbose=0)
        seconds = time.perf_counter() - began
        print(f"Keras fit: {seconds:.1f} s", flush=True)
    return seconds


def main(_: list[str]) -> None:
    """Prints each epoch, then the ratio of the median epochs' times."""
    print(f"`{shlex.join(['python', *sys.argv])}`: batch {BATCH}, SGD with momentum")
    names = (os.path.join(_FOLDER.value, name) for name in ("train", "test"))
    pictures, test = next(names), tfreg.data.load_images(next(names))
    source = tfreg.data.Indexed(tfreg.data.images(pictures))
    fitted = fit()
    spent = [train(source, test, float(scale)) for scale in _SCALES.value]
    if fitted:
        print(f"fit takes {fitted / np.median(spent):.2f} times as long an epoch")


if __name__ == "__main__":
    app.run(main)
