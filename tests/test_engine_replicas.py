"""The numbers of a loop on replicas: those of one device, whatever their shares."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, layers

L2 = keras.regularizers.L2
EPOCHS, BATCH = 2, 7


def square(y, outputs):
    return tf.reduce_sum((y - outputs) ** 2, -1)


def make_strategy(replicas):
    devices = [f"CPU:{i}" for i in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())


def make_keras(norm=False):
    """Returns a model with a kernel of each penalty, and no statistics."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, "tanh", kernel_regularizer=L2(0.1), name="in"),
            *([keras.layers.BatchNormalization(momentum=0.5)] if norm else []),
            keras.layers.Dense(
                3,
                activity_regularizer=L2(0.2),
                kernel_constraint="max_norm",
                name="out",
            ),
        ],
        name="model",
    )


def make_split(rng, weights=None, size=36):
    x, y = rng.normal(size=(2, size, 5)).astype(np.float32)
    return data.Split(x, y[:, :3], weights)


def train(replicas, make_model, split, optimizer, mode="xla", **options):
    """Returns the loop, its reports, and the values of all variables."""
    strategy = make_strategy(replicas) if replicas > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        step = tfreg.Step(make_model(), square, optimizer(), **options)
        loop = tfreg.Loop(step, split, BATCH, compile=mode, strategy=strategy)
    reports = [loop.train(epoch) for epoch in range(EPOCHS)]
    return loop, reports, get_copies(loop)[0]


def get_copies(loop):
    """Returns the values of all variables on each replica."""
    variables = loop.step.adapted.variables
    copies = [getattr(v, "values", (v,)) for v in variables]
    return [[v.numpy() for v in values] for values in zip(*copies, strict=True)]


def close(got, want, rtol=1e-5):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol, rtol)


@pytest.mark.parametrize("mode", ["xla", "graph"])
@pytest.mark.parametrize("replicas", [2, 4])
def test_ragged_shares_are_one_device(replicas, mode, rng):
    # Batches of 7 are 3 + 4 or 1 + 2 + 2 + 2; the last is one example.
    split = make_split(rng, rng.integers(0, 3, 36).astype(np.float32))
    sgd = lambda: tfreg.optimizers.sgd(0.05)  # noqa: E731
    _, reports, want = train(1, make_keras, split, sgd, "graph")
    loop, got_reports, got = train(replicas, make_keras, split, sgd, mode)
    close(got, want)
    for a, b in zip(got_reports, reports, strict=True):
        assert a.get_scalars() == pytest.approx(b.get_scalars(), rel=1e-4)
    copies = get_copies(loop)
    for copy in copies[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(copy, copies[0], strict=True))


def test_statistics_are_averaged_by_examples(rng):
    split = make_split(rng, size=7)
    loop, _, values = train(
        2, lambda: make_keras(True), split, lambda: tfreg.optimizers.sgd(1e-30)
    )
    first = loop.step.model.layers[0]
    hidden = tf.tanh(split.x @ first.kernel.numpy() + first.bias.numpy()).numpy()
    mean, variance = np.zeros(4), np.ones(4)
    for epoch in range(EPOCHS):
        rows = hidden[data.permute(7, 0, epoch)]
        means = (rows[:3].mean(0) * 3 + rows[3:].mean(0) * 4) / 7
        variances = (rows[:3].var(0) * 3 + rows[3:].var(0) * 4) / 7
        mean, variance = (mean + means) / 2, (variance + variances) / 2
    norm = loop.step.model.layers[1]
    close([norm.moving_mean.numpy(), norm.moving_variance.numpy()], [mean, variance])
    copies = get_copies(loop)
    assert all(np.array_equal(a, b) for a, b in zip(*copies, strict=True))


class Masks(tf.Module):
    """Adds a mask of dropout to a bias for each of eight examples."""

    def __init__(self, dropout):
        super().__init__()
        self.dropout, self.bias = dropout, tf.Variable(tf.zeros([7, 20]))

    def __call__(self, x, training=False):
        rows = tf.gather(self.bias, tf.cast(x[:, 0], tf.int32))
        return rows + self.dropout(tf.ones_like(rows), training=training)


def get_masks(dropout, replicas):
    """Returns the mask of each example in one step, from the gradient of its sum."""
    split = data.Split(
        np.arange(7.0, dtype=np.float32)[:, None], np.zeros(7, np.float32)
    )
    strategy = make_strategy(replicas) if replicas > 1 else tf.distribute.get_strategy()
    # A second layer of a name in one store has other masks.
    with tfreg.Store(seed=0).as_default(), strategy.scope():
        step = tfreg.Step(
            Masks(dropout()),
            lambda y, outputs: tf.reduce_sum(outputs**2, 1) / 2,
            tfreg.optimizers.sgd(7.0),
        )
        loop = tfreg.Loop(step, split, 7, strategy=strategy)
    loop.train(0)
    return -step.model.bias.numpy()[data.permute(7, 0, 0)]


def test_masks_of_our_dropout_are_those_of_one_device():
    make = lambda: layers.Dropout(0.5, name="drop")  # noqa: E731
    want = get_masks(make, 1)
    assert set(np.unique(want.round(4))) == {0, 2}
    assert len(np.unique(want, axis=0)) == 7
    for replicas in (2, 4):
        close(get_masks(make, replicas), want)


def test_masks_of_keras_differ_between_replicas_and_repeat_to_the_bit():
    make = lambda: keras.layers.Dropout(0.5, seed=3)  # noqa: E731
    masks = get_masks(make, 2)
    assert set(np.unique(masks.round(4))) == {0, 2}
    assert not np.array_equal(masks[:3], masks[3:6])
    assert np.array_equal(masks, get_masks(make, 2))


KERAS_OPTIMIZERS = {
    "lion": lambda: keras.optimizers.Lion(0.01),
    "muon": lambda: keras.optimizers.Muon(0.01),
    "lamb": lambda: keras.optimizers.Lamb(0.01),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "adamw": lambda: keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(0.05, 10), weight_decay=0.1
    ),
    "ema": lambda: keras.optimizers.SGD(
        0.05, 0.9, use_ema=True, ema_overwrite_frequency=3
    ),
}


def train_by_hand(optimizer, split):
    model = make_keras()
    optimizer.build(model.trainable_variables)
    for epoch in range(EPOCHS):
        order = data.permute(len(split), 0, epoch)
        for start in range(0, len(split), BATCH):
            rows = order[start : start + BATCH]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(square(split.y[rows], model(split.x[rows])))
                total = tf.add_n([loss, *model.losses])
            gradients = tape.gradient(total, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
    return [v.numpy() for v in model.variables]


# On replicas: one whose update is of matrices, one with a schedule and a decay.
HOW = [(kind, how) for kind in KERAS_OPTIMIZERS for how in ("graph", "xla")]
HOW += [(kind, "replicas") for kind in ("muon", "adamw", "ema")]


@pytest.mark.filterwarnings("ignore:weights should shrink")
@pytest.mark.parametrize(("kind", "how"), HOW)
def test_keras_optimizers_are_their_own_loop(kind, how, rng, tmp_path):
    split, make = make_split(rng, size=22), KERAS_OPTIMIZERS[kind]
    if (kind, how) == ("ema", "replicas"):
        with (
            make_strategy(2).scope(),
            pytest.raises(ValueError, match="must be None on"),
        ):
            tfreg.optimizers.adapt(make())
        return
    want = train_by_hand(make(), split)
    # Each replica compiles every program: one optimizer is enough for that.
    mode = (
        "graph"
        if (kind, how) == ("muon", "replicas")
        else how.replace("replicas", "xla")
    )
    loop, _, got = train(2 if how == "replicas" else 1, make_keras, split, make, mode)
    close(got, want, 2e-5)  # Lamb divides norms.
    if how == "xla":
        return
    saved = tf.train.Checkpoint(**loop.get_state()).save(str(tmp_path / "at"))
    loop.train(2)
    wanted = get_copies(loop)[0]
    again, *_ = train(2 if how == "replicas" else 1, make_keras, split, make, mode)
    again.train(5)
    tf.train.Checkpoint(**again.get_state()).restore(saved).assert_consumed()
    again.train(2)
    assert all(map(np.array_equal, get_copies(again)[0], wanted))


@pytest.mark.parametrize("replicas", [1, 2])
def test_clip_norm_clips_the_sum_of_all(replicas, rng):
    split = make_split(rng, size=7)
    before = [v.numpy() for v in make_keras().trainable_variables]
    _, reports, _ = train(
        replicas, make_keras, split, lambda: tfreg.optimizers.sgd(1e-30)
    )
    assert reports[0].gradient_norm > 1
    loop, _, _ = train(
        replicas, make_keras, split, lambda: tfreg.optimizers.sgd(0.01), clip_norm=0.5
    )
    after = [v.numpy() for v in loop.step.adapted.trainable_variables]
    moved = sum(np.sum((a - b) ** 2) for a, b in zip(after, before, strict=True)) ** 0.5
    # Each of the two steps moves the weights by 0.5 * 0.01, in nearly one direction.
    assert 0.0095 < moved < 0.01001
