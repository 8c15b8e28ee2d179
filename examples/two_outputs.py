"""Trains a functional Keras model of two inputs and two outputs.

    python examples/two_outputs.py

Inputs, targets, outputs and losses are dicts, and a key says what belongs together. A
picture and its brightness are given; its digit and its mean pixel are asked for.
"""

import keras
import numpy as np

import tfreg

EPOCHS = 3


def make_split(split):
    """Returns inputs and targets as dicts of arrays."""
    image = np.float32(split.x.reshape(len(split), -1) / 255)
    ink = image.mean(axis=1, keepdims=True)
    brightness = np.random.default_rng(0).uniform(0.5, 1.5, ink.shape)
    x = {"image": image * np.float32(brightness), "brightness": np.float32(brightness)}
    return tfreg.data.Split(x, {"digit": split.y, "ink": 10 * ink})


def make_model():
    image = keras.Input((784,), name="image")
    brightness = keras.Input((1,), name="brightness")
    both = keras.layers.Concatenate()([image, brightness])
    l2 = keras.regularizers.L2(1e-4)
    hidden = keras.layers.Dense(128, "relu", kernel_regularizer=l2)(both)
    digit = keras.layers.Dense(10, name="digit")(hidden)
    ink = keras.layers.Dense(1, name="ink")(hidden)
    inputs = {"image": image, "brightness": brightness}
    return keras.Model(inputs, {"digit": digit, "ink": ink})


def main():
    keras.utils.set_random_seed(0)  # of Keras's initial values
    data = tfreg.data.load("mnist5k")
    train, validation = make_split(data.train), make_split(data.validation)
    losses = {
        "digit": tfreg.losses.sparse_softmax_cross_entropy,
        "ink": keras.losses.Huber(),
    }
    top_3 = keras.metrics.SparseTopKCategoricalAccuracy(3)
    step = tfreg.Step(
        make_model(),
        losses,
        keras.optimizers.Adam(1e-3),
        loss_weights={"ink": 0.5},
        metrics={"digit": {"accuracy": None, "top_3": top_3}, "ink": {"r2": None}},
    )
    loop = tfreg.Loop(step, train, batch_size=32, seed=0)
    for epoch in range(EPOCHS):
        report = loop.train(epoch)
        parts = {name: round(loss, 3) for name, loss in report.data_losses.items()}
        print(f"epoch {epoch}: {parts}, penalty {report.regularization:.3f}")
    report = loop.evaluate(validation)
    print({name: round(value, 3) for name, value in report.metrics.items()})
    return report


if __name__ == "__main__":
    main()
