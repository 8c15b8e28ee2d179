"""The choice between XLA and graph mode on a CPU, for whole steps of models."""

import keras
import pytest
import tensorflow as tf

import tfreg
from tfreg.training import compiling

layers = keras.layers
IMAGES = [2, 8, 8, 3]


def make_step(model, x):
    """Returns the graph of a step of a model, from the forward pass to the update."""
    with tfreg.step_scope():
        model(tf.zeros(x.shape, x.dtype), training=False)
    variables = [
        v if isinstance(v, tf.Variable) else v.value  # of a keras.Variable
        for v in model.trainable_variables
    ]
    optimizer = tfreg.optimizers.adam(1e-3)

    @tf.function
    def step(x):
        with tfreg.step_scope(step=optimizer.step), tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True)))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step.get_concrete_function(x).graph


MODELS = {
    "tfreg MLP": (lambda: tfreg.models.MLP([8, 3]), [4, 5], "xla"),
    "tfreg CNN": (lambda: tfreg.models.CNN(3), [2, 28, 28, 1], "graph"),
    "Dense": (lambda: keras.Sequential([layers.Dense(3)]), [4, 5], "xla"),
    "Conv2D": (lambda: keras.Sequential([layers.Conv2D(3, 3)]), IMAGES, "graph"),
    "BatchNormalization": (
        lambda: keras.Sequential([layers.BatchNormalization()]),
        [4, 5],
        "xla",
    ),
    "LSTM": (lambda: keras.Sequential([layers.LSTM(3)]), [4, 5, 2], "xla"),
    "bidirectional GRU": (
        lambda: keras.Sequential([layers.Bidirectional(layers.GRU(3))]),
        [4, 5, 2],
        "xla",
    ),
    "Embedding": (
        lambda: keras.Sequential(
            [layers.Embedding(9, 4, mask_zero=True), layers.LSTM(3)]
        ),
        [4, 5],
        "xla",
    ),
    "Dropout": (
        lambda: keras.Sequential([layers.Dense(64), layers.Dropout(0.5)]),
        [32, 5],
        "graph",
    ),
    "RandomRotation": (
        lambda: keras.Sequential([layers.RandomRotation(0.1), layers.Dense(2)]),
        IMAGES,
        "graph",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    make, shape, mode = MODELS[name]
    graph = make_step(make(), tf.TensorSpec(shape))
    assert compiling.choose(graph).name == mode


def test_attention_is_compiled():
    inputs = keras.Input([6, 8])
    outputs = layers.MultiHeadAttention(2, 4)(inputs, inputs, use_causal_mask=True)
    outputs = layers.LayerNormalization()(outputs + inputs)
    model = keras.Model(inputs, outputs)
    graph = make_step(model, tf.TensorSpec([2, 6, 8]))
    assert compiling.choose(graph) == ("xla", ())
