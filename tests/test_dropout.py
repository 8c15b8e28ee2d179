"""Masks: one for each pass of a step, the same in every run and compile mode."""

import gc
import hashlib

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import layers, models, tf1
from tfreg.collections import random
from tfreg.layers import dropout

MODES = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}
X = tf.ones([40, 50])
NUM = 2000


def differ(one, other):
    """Two masks of halves agree in a half of the units, within five deviations."""
    agreed = np.mean((np.asarray(one) != 0) == (np.asarray(other) != 0))
    return abs(agreed - 0.5) < 5 * 0.5 / np.sqrt(NUM)


class Tf1Dropout(tf1.Model):
    def __init__(self, seed=None):
        super().__init__(lambda x: tf1.layers.dropout(x, 0.5), seed=seed)

    def __call__(self, x, training=True):
        del training
        return super().__call__(x)


LAYERS = {
    "layer": lambda **k: layers.Dropout(0.5, **k),
    "sequential": lambda **k: layers.Sequential([layers.Dropout(0.5, **k)]),
    "tf1": lambda **k: Tf1Dropout(**k),
}


@pytest.mark.parametrize("kind", list(LAYERS))
def test_passes_of_a_step_have_masks_of_their_own_in_every_mode(kind):
    model = LAYERS[kind]()
    step = tf.Variable(3, dtype=tf.int64)

    def passes():
        with tfreg.step_scope(step):
            return [model(X, training=True) for _ in range(3)]

    found = [MODES[mode](passes)() for mode in MODES]
    again = passes()
    for masks in found:
        np.testing.assert_array_equal(masks, again)
        assert all(differ(masks[i], masks[j]) for i in range(3) for j in range(i))
    step.assign(4)
    assert differ(passes()[0], again[0])


@pytest.mark.parametrize("kind", list(LAYERS))
def test_layers_of_two_models_have_masks_of_their_own(kind):
    a, b = LAYERS[kind](), LAYERS[kind]()
    pinned = [LAYERS[kind](seed=s) for s in (0, 1, 1)]
    with tfreg.step_scope(0):
        assert differ(a(X, training=True), b(X, training=True))
        zero, one, same = (layer(X, training=True) for layer in pinned)
        assert differ(zero, one)
        np.testing.assert_array_equal(one, same)


def test_two_layers_in_one_model_have_masks_of_their_own():
    class Two(tf.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dropout(0.5), layers.Dropout(0.5)

    two = Two()
    made = [two.a, two.b, *layers.Sequential([layers.Dropout(0.5)] * 1).layers]
    with tfreg.step_scope(0):
        masks = [layer(X, training=True) for layer in made]
    assert all(differ(masks[i], masks[j]) for i in range(3) for j in range(i))


def test_the_order_of_calls_changes_no_mask():
    found = []
    for order in ((0, 1), (1, 0)):
        with tfreg.Store(seed=0).as_default(), tfreg.step_scope(0):
            made = layers.Dropout(0.5), layers.Dropout(0.5)
            masks = {i: made[i](X, training=True) for i in order}
            found.append([masks[0], masks[1]])
    np.testing.assert_array_equal(found[0], found[1])


def test_a_retrace_draws_what_the_first_trace_drew():
    layer, step = layers.Dropout(0.5), tf.Variable(0, dtype=tf.int64)

    @tf.function
    def passes(x, kind):
        with tfreg.step_scope(step):
            return [layer(x, training=True) for _ in range(2)]

    first = passes(X, "a")
    np.testing.assert_array_equal(passes(X, "b"), first)
    np.testing.assert_array_equal(passes(X, "a"), first)
    # Also where the scope is around the function.
    plain = tf.function(lambda x, kind: [layer(x, training=True) for _ in range(2)])
    with tfreg.step_scope(step):
        first = plain(X, "a")
    with tfreg.step_scope(step):
        np.testing.assert_array_equal(plain(X, "b"), first)
        np.testing.assert_array_equal(plain(X, "a"), first)


def test_scopes_inside_a_step_have_masks_of_their_own():
    layer = layers.Dropout(0.5)
    with tfreg.step_scope(0):
        masks = [layer(X, training=True)]
        for _ in range(2):
            with tfreg.step_scope():  # As for pseudo-labels; the number is outside.
                masks.append(layer(X, training=True))
    assert all(differ(masks[i], masks[j]) for i in range(3) for j in range(i))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_branch_and_what_is_around_it_have_masks_of_their_own(compiled):
    layer, step = layers.Dropout(0.5), tf.Variable(0, dtype=tf.int64)

    @tf.function(jit_compile=compiled)
    def run(flag):
        with tfreg.step_scope(step):
            first = layer(X, training=True)
            second = tf.cond(flag, lambda: layer(X, training=True), lambda: X)
            third = layer(X, training=True)
        return first, second, third

    masks = run(tf.constant(True))
    assert all(differ(masks[i], masks[j]) for i in range(3) for j in range(i))


def test_a_loop_has_one_mask_for_each_place_in_its_trace():
    layer, step = layers.Dropout(0.5), tf.Variable(0, dtype=tf.int64)

    @tf.function
    def run():
        with tfreg.step_scope(step):
            masks = tf.TensorArray(tf.float32, 2)
            for i in tf.range(2):
                masks = masks.write(i, layer(X, training=True))
            return masks.stack()

    masks = run()
    np.testing.assert_array_equal(masks[0], masks[1])


def test_replicas_and_passes_have_masks_of_their_own(two_replicas):
    with two_replicas.scope():
        layer, step = layers.Dropout(0.5), tf.Variable(0, dtype=tf.int64)

    def passes():
        with tfreg.step_scope(step):
            return tf.stack([layer(X, training=True) for _ in range(2)])

    run = tf.function(lambda: two_replicas.run(passes))
    results = two_replicas.experimental_local_results(run())
    masks = np.concatenate(results)
    assert all(differ(masks[i], masks[j]) for i in range(4) for j in range(i))
    np.testing.assert_array_equal(passes(), results[0])


@pytest.mark.parametrize("inside", [True, False])  # The gradient, in the scope.
@pytest.mark.parametrize("mode", list(MODES))
def test_recompute_grad_has_the_same_masks_twice(mode, inside, rng):
    dense = layers.Dense(50, seed=1)
    drop = layers.Dropout(0.5, seed=2)
    x = tf.constant(rng.normal(size=(40, 50)), tf.float32)
    dense(x)
    step = tf.Variable(5, dtype=tf.int64)

    def block(x):
        x = drop(dense(x), training=True)
        return drop(x * 2.0, training=True)

    def differentiate(wrap):
        def run(x):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                with tfreg.step_scope(step):
                    first, last = wrap(block), wrap(block)
                    y = drop(last(drop(first(x), training=True)), training=True)
                    total = tf.reduce_sum(y**2)
                    if inside:
                        return total, tape.gradient(total, [x, dense.kernel])
            return total, tape.gradient(total, [x, dense.kernel])

        return run

    truth_total, truth = differentiate(lambda f: f)(x)
    total, got = MODES[mode](differentiate(tf.recompute_grad))(x)
    assert float(truth_total) > 0
    np.testing.assert_allclose(total, truth_total, rtol=1e-5)
    for one, other in zip(got, truth, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_recompute_grad_within_recompute_grad_and_after_the_step_moved_on(rng):
    drops = [layers.Dropout(0.5, seed=i) for i in range(2)]
    x = tf.constant(rng.normal(size=(40, 50)))
    step = tf.Variable(5, dtype=tf.int64)

    def inner(x):
        return drops[1](x**2, training=True)

    def differentiate(wrap):
        def outer(x):
            return drops[0](wrap(inner)(drops[0](x, training=True)), training=True)

        step.assign(5)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            with tfreg.step_scope(step):
                y = wrap(outer)(x) + 3 * wrap(outer)(x)
        step.assign(6)
        return y, tape.gradient(y, x), tape.gradient(y, x)

    truth, got = differentiate(lambda f: f), differentiate(tf.recompute_grad)
    np.testing.assert_array_equal(truth, got)


def test_what_recompute_grad_drew_is_forgotten_with_its_tape():
    layer, before = layers.Dropout(0.5), len(dropout._blocks)
    for _ in range(20):
        with tfreg.step_scope(0), tf.GradientTape() as tape:
            tape.watch(X)
            tf.recompute_grad(lambda x: layer(x, training=True))(X)
        del tape
        gc.collect()  # TensorFlow's closures are cycles.
    assert len(dropout._blocks) <= before + 2


def test_a_model_of_the_steps_seed_drops_by_the_hash_of_its_place():
    # A run's numbers: of the text "3/dropout_0/0", the step and the example.
    model = models.MLP([50, 2], activation=None, dropout=0.5, seed=3)
    with tfreg.step_scope(step=7, seed=3):
        got = model.layers[2](X, training=True)
    digest = hashlib.blake2b(b"3/dropout_0/0", digest_size=8).digest()
    place = int.from_bytes(digest, "big")
    bits = random.bits(random.make_key(place, 7, tf.range(40)), [50])
    np.testing.assert_array_equal(got != 0, bits >= tf.constant(2**31, tf.uint32))


# Replicas: with `examples` the masks are those of one device.

SHARES = [[4, 4], [3, 0, 4, 1]]


def run_replicas(shares, make_inputs, call, known=True):
    """Returns the outputs of the replicas, each for its share of the examples."""
    devices = [f"CPU:{i}" for i in range(len(shares))]
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(devices, reduction)
    firsts = np.cumsum([0, *shares])
    step = tf.constant(5)

    def run():
        context = tf.distribute.get_replica_context()
        replica = int(tf.get_static_value(context.replica_id_in_sync_group))
        first, count = int(firsts[replica]), shares[replica]
        examples = (tf.constant(first), count) if known else None
        with tfreg.step_scope(step, seed=1, examples=examples):
            return call(make_inputs(first, first + count))

    results = tf.function(lambda: strategy.run(run))()
    return strategy.experimental_local_results(results)


KINDS = {
    "layer": lambda n: tf.ones([n, 30]),
    "images": lambda n: tf.ones([n, 4, 4, 3]),
    "three rows of an example": lambda n: tf.ones([3 * n, 30]),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_masks_of_known_examples_are_those_of_one_device(kind):
    layer = layers.Dropout(0.5, seed=3)

    def call(x):
        return tf.concat([layer(x, training=True), layer(x, training=True)], -1)

    def make_inputs(first, last):
        return KINDS[kind](last - first)

    (whole,) = run_replicas([8], make_inputs, call)
    for shares in SHARES:
        parts = run_replicas(shares, make_inputs, call)
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    # Unknown examples: the second replica's rows aren't those of the first.
    one, other = run_replicas([4, 4], make_inputs, call, known=False)
    assert 0.2 < np.mean((one.numpy() != 0) == (other.numpy() != 0)) < 0.8


@pytest.mark.parametrize("deep", [False, True])
def test_masks_of_ragged_examples_are_those_of_one_device(deep):
    lengths = [3, 0, 5, 1, 2, 4, 0, 6]
    rows = [[[1.0, 1.0, 1.0]] * n for n in lengths]
    rows = [[row, row[:1]] for row in rows] if deep else rows
    layer = layers.Dropout(0.5, seed=3)

    def make_inputs(first, last):
        rank = 2 if deep else 1
        return tf.ragged.constant(rows, ragged_rank=rank)[first:last]

    def call(x):
        return layer(x, training=True)

    (whole,) = run_replicas([8], make_inputs, call)
    assert 0 < np.mean(whole.flat_values) < 2
    for shares in SHARES:
        parts = run_replicas(shares, make_inputs, call)
        assert sum((part.to_list() for part in parts), []) == whole.to_list()


def test_a_mask_for_all_examples_is_the_same_on_replicas():
    def make_inputs(first, last):
        return tf.ones([last - first, 60])

    net = tf1.Model(lambda x: tf1.layers.dropout(x, 0.5, noise_shape=[1, 60]), seed=0)
    (whole,) = run_replicas([8], make_inputs, net)
    for shares in SHARES:
        for part in run_replicas(shares, make_inputs, net):
            assert all(np.array_equal(row, whole[0]) for row in part)
    assert 0 < np.mean(whole) < 2


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("noise_shape", [[], [1], [1, 1], [40, 1], [1, 50], [50]])
def test_noise_shapes_are_broadcast(noise_shape, mode):
    net = tf1.Model(lambda: tf1.layers.dropout(X, 0.5, noise_shape), seed=0)

    def run():
        with tfreg.step_scope(2):
            return net()

    got = MODES[mode](run)().numpy()
    shape = [1] * (2 - len(noise_shape)) + noise_shape
    mask = got[: shape[0], : shape[1]]
    np.testing.assert_array_equal(got, np.broadcast_to(mask, [40, 50]))
    np.testing.assert_array_equal(got, run())
    assert set(np.unique(got)) <= {0.0, 2.0}


@pytest.mark.parametrize("mode", list(MODES))
def test_rows_are_numbered_from_the_first_example(mode):
    layer = layers.Dropout(0.5, seed=1)

    def run(first):
        with tfreg.step_scope(0, examples=(first, 10)):
            return layer(tf.ones([10, 50]), training=True)

    with tfreg.step_scope(0):
        whole = layer(X, training=True)
    for first in (0, 7, 30):
        got = MODES[mode](run)(tf.constant(first))
        np.testing.assert_array_equal(got, whole[first : first + 10])


@pytest.mark.parametrize("wrap", [tf.function, lambda f: f])
@pytest.mark.parametrize("kind", ["int", "variable"])
def test_recompute_grad_numbers_the_examples_twice_alike(kind, wrap, rng):
    layer = layers.Dropout(0.5, seed=2)
    x = tf.constant(rng.normal(size=(40, 50)))
    step = tf.Variable(5, dtype=tf.int64)
    first = 20 if kind == "int" else tf.Variable(20)

    @wrap
    def block(x):
        return layer(x, training=True) ** 2

    def differentiate(block):
        with tf.GradientTape() as tape:
            tape.watch(x)
            with tfreg.step_scope(step, examples=(first, 40)):
                y = block(x)
        return y, tape.gradient(y, x)

    truth, got = differentiate(block), differentiate(tf.recompute_grad(block))
    np.testing.assert_allclose(truth, got, rtol=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loop_trains_alike_with_two_passes_after_a_restart(accumulate, rng):
    data = tfreg.data.Split(
        rng.normal(size=(32, 6)).astype("float32"), rng.integers(0, 3, 32)
    )

    class Twice(tf.Module):
        def __init__(self):
            super().__init__()
            self.net = models.MLP([16, 3], dropout=0.5, seed=0)

        def __call__(self, x, training=False):
            return (self.net(x, training=training) + self.net(x, training=training)) / 2

    def make():
        model = Twice()
        loss, adam = (
            tfreg.losses.sparse_softmax_cross_entropy,
            tfreg.optimizers.adam(0.01),
        )
        step = tfreg.Step(model, loss, adam, accumulate=accumulate)
        return tfreg.Loop(step, data, batch_size=8), model

    loop, whole = make()
    for epoch in range(2):
        loop.train(epoch)
    loop, first = make()
    loop.train(0)
    states = [v.numpy() for part in loop.get_state().values() for v in part.variables]
    loop, second = make()
    second(tf.zeros([1, 6]))
    mine = [v for part in loop.get_state().values() for v in part.variables]
    for variable, value in zip(mine, states, strict=True):
        variable.assign(value)
    loop.train(1)
    for one, other in zip(whole.variables, second.variables, strict=True):
        np.testing.assert_array_equal(one, other)
