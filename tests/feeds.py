"""One small training for the tests of its sources.

made = feeds.make_loop(feeds.make_source("indexed", feeds.make_arrays()))
values, reports = feeds.train(made)
"""

import keras
import numpy as np
import tensorflow as tf

import tfreg
from tfreg import data, losses, models, optimizers
from tfreg.training import loop, step

COUNT, BATCH, SEED = 45, 8, 3  # The last batch has 5 examples.
KINDS = ["blocks", "indexed", "pipeline"]  # And "held".


def make_arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COUNT, 6, 6, 3)).astype(np.float32)
    y = (x[:, 0, 0, :1] + rng.normal(size=(COUNT, 1)) > 0).astype(np.float32)
    return x, y


def batch(arrays, seed, epoch):
    """Returns the batches of an epoch as a tf.data.Dataset."""
    order = data.permute(COUNT, seed, epoch)
    rows = tf.data.Dataset.from_tensor_slices(order.astype(np.int64)).batch(BATCH)
    return rows.map(lambda r: tuple(tf.gather(a, r) for a in arrays))


def make_source(kind, arrays):
    if kind == "indexed":
        return data.Indexed(list(zip(*arrays, strict=True)), threads=2)
    if kind == "pipeline":
        return data.Pipeline(lambda seed, epoch: batch(arrays, seed, epoch))
    return data.Split(*arrays)


def make_loop(source, strategy=None, **options):
    strategy = strategy or tf.distribute.get_strategy()
    with tfreg.Store().as_default(), strategy.scope():
        model = models.MLP([5, 1], seed=0)
        train = step.Step(
            model,
            losses.sigmoid_cross_entropy,
            optimizers.adam(0.01),
            metrics={"accuracy": None, "auc": keras.metrics.AUC(20, from_logits=True)},
        )
        usual = {"batch_size": BATCH, "seed": SEED}
        usual |= {"compile": "graph", "steps_per_call": 4}
        return loop.Loop(train, source, strategy=strategy, **usual | options)


def train(made, epochs=2):
    """Returns all variables and the epochs' reports."""
    found = [made.train(epoch) for epoch in range(epochs)]
    return get_values(made), [report.get_scalars() for report in found]


def get_values(made):
    variables = [*made.step.model.variables, *made.step.optimizer.variables]
    return [v.numpy() for v in variables]


def options_of(kind):
    return {"device_bytes": 0} if kind == "blocks" else {}


def assert_same_bits(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
