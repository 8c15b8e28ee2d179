"""Nests of inputs, targets and outputs, weights, ragged and string inputs in a loop."""

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

import tfreg
from tfreg import data

COUNT, BATCH, RATE = 20, 8, 0.1  # The last batch has 4 examples.
weigh = tf.compat.v1.losses.compute_weighted_loss
cross_entropy = tfreg.losses.sparse_softmax_cross_entropy


class TwoHeads(tf.Module):
    """Two inputs, two outputs, and an L2 penalty."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(1)
        l2 = tfreg.l2_regularizer(0.2)
        self.kernel = tf.Variable(random.normal(size=(5, 4)).astype(np.float32))
        self.scale = tf.Variable(random.normal(size=3).astype(np.float32))
        tfreg.apply_regularization(l2, [self.kernel])

    def __call__(self, x):
        wide, (narrow,) = x["wide"], x["rest"]
        hidden = tf.tanh(wide @ self.kernel)
        return {"class": hidden[:, :3] * self.scale, "box": (hidden[:, 3:] + narrow,)}


def make_nests(rng):
    x = {
        "wide": rng.normal(size=(COUNT, 5)).astype(np.float32),
        "rest": (rng.normal(size=(COUNT, 2)).astype(np.float32),),
    }
    box = rng.normal(size=(COUNT, 2)).astype(np.float32)
    y = {"class": rng.integers(0, 3, COUNT), "box": (box,)}
    return x, y, rng.integers(0, 3, COUNT).astype(np.float32)


def train_two_heads_by_hand(nests, weighted):
    model, means = TwoHeads(), []
    for x, y, weights in tf.data.Dataset.from_tensor_slices(nests).batch(BATCH):
        weights = weights if weighted else tf.ones_like(weights)
        with tf.GradientTape() as tape:
            outputs = model(x)
            each = {
                "class": tf.nn.sparse_softmax_cross_entropy_with_logits(
                    y["class"], outputs["class"]
                ),
                "box": tf.reduce_mean((y["box"][0] - outputs["box"][0]) ** 2, 1),
            }
            loss = weigh(each["class"] + 0.5 * each["box"], weights)
            total = loss + 0.2 * tf.nn.l2_loss(model.kernel)
        variables = model.trainable_variables
        for variable, slope in zip(
            variables, tape.gradient(total, variables), strict=True
        ):
            variable.assign_sub(RATE * slope)
        means.append([float(weigh(each[name], weights)) for name in ("box", "class")])
    return model, means


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("how", ["graph", "xla", "accumulate", "replicas"])
def test_two_inputs_and_two_losses_are_a_hand_written_loop(
    how, weighted, rng, two_replicas
):
    nests = make_nests(rng)

    def make(seed, epoch):
        del seed, epoch
        parts = nests if weighted else nests[:2]
        return tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)

    strategy = two_replicas if how == "replicas" else tf.distribute.get_strategy()
    with strategy.scope():
        model = TwoHeads()
        step = tfreg.Step(
            model,
            {"class": cross_entropy, "box": (tfreg.losses.mean_squared_error,)},
            tfreg.optimizers.sgd(RATE),
            loss_weights={"box": (0.5,)},
            accumulate=3 if how == "accumulate" else 1,
        )
        loop = tfreg.Loop(
            step, data.Pipeline(make), compile="xla" if how == "xla" else "graph"
        )
    report = loop.train(0)
    want, means = train_two_heads_by_hand(nests, weighted)
    for got, variable in zip(model.variables, want.variables, strict=True):
        np.testing.assert_allclose(got.numpy(), variable.numpy(), 1e-5, 1e-6)
    if not weighted:  # The mean over the epoch's examples.
        sizes = [BATCH, BATCH, COUNT - 2 * BATCH]
        box, classes = np.average(means, 0, sizes)
        assert report["loss/data/box/0"] == pytest.approx(box, rel=1e-5)
        assert report["loss/data/class"] == pytest.approx(classes, rel=1e-5)
        assert report["loss/data"] == pytest.approx(classes + box / 2, rel=1e-5)


class Tagger(tf.Module):
    """Classes of each position."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(1)
        self.kernel = tf.Variable(random.normal(size=(4, 3)).astype(np.float32))

    def __call__(self, x):
        return tf.einsum("nti,ij->ntj", x, self.kernel)


@pytest.mark.parametrize("how", ["graph", "xla", "accumulate", "replicas"])
def test_weights_of_positions_are_those_of_compute_weighted_loss(
    how, rng, two_replicas
):
    x = rng.normal(size=(6, 5, 4)).astype(np.float32)
    y = rng.integers(0, 3, (6, 5))
    weights = rng.integers(0, 3, (6, 5)).astype(np.float32)
    want = Tagger()
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, want(x))
        loss = weigh(losses, weights)
    slope = tape.gradient(loss, want.kernel)
    want.kernel.assign_sub(RATE * slope)

    strategy = two_replicas if how == "replicas" else tf.distribute.get_strategy()
    with strategy.scope():
        model = Tagger()
        accumulate = 3 if how == "accumulate" else 1
        sgd = tfreg.optimizers.sgd(RATE)
        step = tfreg.Step(model, cross_entropy, sgd, accumulate=accumulate)
        mode = "xla" if how == "xla" else "graph"
        loop = tfreg.Loop(step, data.Split(x, y, weights), 6, compile=mode)
    report = loop.train(0)
    np.testing.assert_allclose(model.kernel.numpy(), want.kernel.numpy(), 1e-5, 1e-6)
    assert report.loss == pytest.approx(float(loss), rel=1e-5)
    right = (np.argmax(Tagger()(x), -1) == y) * weights
    assert report.metrics["accuracy"] == pytest.approx(right.sum() / weights.sum())


class Bag(tf.Module):
    """A sum of embeddings of ids, of which each example has its own number."""

    def __init__(self, table=None):
        super().__init__()
        random = np.random.default_rng(1)
        self.rows = tf.Variable(random.normal(size=(7, 3)).astype(np.float32))
        self.table = table

    def __call__(self, x):
        if self.table is not None:
            x = self.table.lookup(x)
        if isinstance(x, tf.RaggedTensor):
            looked_up = tf.gather(self.rows, x.values)
            return tf.math.segment_sum(looked_up, x.value_rowids())
        return tf.reduce_sum(tf.gather(self.rows, x), 1)


WORDS = ["a", "bc", "def", "g", "hi", "jkl", "m"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", ["ragged", "strings"])
def test_ragged_and_string_inputs_are_trained_on_in_a_graph(kind, accumulate, rng):
    lengths = [1, 3, 2, 4, 1, 2, 3, 1] if kind == "ragged" else [2] * 8
    ids = [rng.integers(0, 7, length) for length in lengths]
    y = rng.integers(0, 3, len(ids))
    bags = np.stack([np.bincount(each, minlength=7) for each in ids])
    rows = Bag().rows.numpy().astype(np.float64)
    logits = bags @ rows
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    slope = bags.T @ (shares - np.eye(3)[y]) / len(ids)

    table = None
    if kind == "ragged":
        values = tf.ragged.constant([each.tolist() for each in ids])

        def make(seed, epoch):
            del seed, epoch
            return tf.data.Dataset.from_tensor_slices((values, y)).batch(8)

        source = data.Pipeline(make)
    else:
        keys = tf.lookup.KeyValueTensorInitializer(WORDS, tf.range(7))
        table = tf.lookup.StaticHashTable(keys, -1)
        source = data.Split(np.array(WORDS)[np.stack(ids)], y)
    model = Bag(table)
    sgd = tfreg.optimizers.sgd(RATE)
    step = tfreg.Step(model, cross_entropy, sgd, accumulate=accumulate)
    loop = tfreg.Loop(step, source, 8)
    loop.train(0)
    assert loop.mode.name == "graph"
    if kind == "strings":
        assert any("LookupTableFind" in reason for reason in loop.mode.reasons)
    np.testing.assert_allclose(model.rows.numpy(), rows - RATE * slope, 1e-5, 1e-6)


def test_a_regression_is_scored_over_all_examples_of_an_epoch(rng):
    x = rng.normal(size=(13, 4)).astype(np.float32)
    y = rng.normal(size=(13, 2)).astype(np.float32)
    model = tfreg.layers.Dense(2)
    step = tfreg.Step(
        model, tfreg.losses.mean_squared_error, tfreg.optimizers.sgd(RATE)
    )
    split = data.Split(x, y)
    report = tfreg.Loop(step, split, 5).evaluate(split)
    outputs = model(x).numpy()
    r2 = sklearn.metrics.r2_score(y, outputs)
    error = sklearn.metrics.mean_absolute_error(y, outputs)
    assert report.metrics["r2"] == pytest.approx(r2, rel=1e-5)
    assert report.metrics["mean_absolute_error"] == pytest.approx(error, rel=1e-5)
