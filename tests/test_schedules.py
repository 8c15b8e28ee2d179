"""Schedules: the numbers of Keras and TF1 at every step, as rates and as scales."""

import ast

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import optimizers, rules
from tfreg.optimizers import decays, schedules

STEPS = np.arange(1000)
BOUNDARIES = (0, 1, 299, 300, 301, 999)
V1, V2 = tf.compat.v1.train, keras.optimizers.schedules

# Name -> ours, Keras's, TF1's.
CASES = {
    "linear": (
        schedules.linear(0.1, 0.02, 300),
        V2.PolynomialDecay(0.1, 300, 0.02, power=1.0),
        lambda step: V1.polynomial_decay(0.1, step, 300, 0.02, 1.0)(),
    ),
    "polynomial": (
        schedules.polynomial(0.1, 0.0, 300, 2.5),
        V2.PolynomialDecay(0.1, 300, 0.0, power=2.5),
        lambda step: V1.polynomial_decay(0.1, step, 300, 0.0, 2.5)(),
    ),
    "exponential": (
        schedules.exponential(0.1, 0.9, 300),
        V2.ExponentialDecay(0.1, 300, 0.9),
        lambda step: V1.exponential_decay(0.1, step, 300, 0.9)(),
    ),
    "staircase": (
        schedules.exponential(0.1, 0.5, 300, staircase=True),
        V2.ExponentialDecay(0.1, 300, 0.5, staircase=True),
        lambda step: V1.exponential_decay(0.1, step, 300, 0.5, staircase=True)(),
    ),
    "piecewise": (
        schedules.piecewise([1, 300], [0.1, 0.05, 0.01]),
        V2.PiecewiseConstantDecay([1, 300], [0.1, 0.05, 0.01]),
        lambda step: V1.piecewise_constant(step, [1, 300], [0.1, 0.05, 0.01])(),
    ),
    "cosine": (
        schedules.cosine(0.1, 300, final=0.01),
        V2.CosineDecay(0.1, 300, alpha=0.1),
        lambda step: V1.cosine_decay(0.1, step, 300, 0.1)(),
    ),
    "warm-up and cosine": (
        schedules.cosine(0.1, 300, warmup_steps=50),
        V2.CosineDecay(0.0, 250, warmup_target=0.1, warmup_steps=50),
        None,
    ),
}


def run(schedule):
    """Returns the values at all steps, computed in one graph."""
    steps = tf.constant(STEPS, tf.int64)
    return tf.function(lambda: tf.map_fn(schedule, steps, tf.float32))().numpy()


@pytest.mark.parametrize("name", CASES)
def test_a_schedule_is_that_of_keras_and_tf1_at_every_step(name):
    ours, of_keras, of_tf1 = CASES[name]
    got = run(ours)
    np.testing.assert_allclose(got, run(of_keras), rtol=2e-6, atol=1e-8)  # float32
    for step in BOUNDARIES if of_tf1 else ():
        want = of_tf1(tf.constant(step, tf.int64)).numpy()
        np.testing.assert_allclose(got[step], want, rtol=2e-6, atol=1e-8)


def test_joined_schedules_count_from_their_own_start():
    parts = [0.5, schedules.linear(0.5, 0.1, 100), schedules.exponential(0.1, 0.5, 10)]
    got = run(schedules.join(parts, [50, 200]))
    line, decay = run(parts[1]), run(parts[2])
    want = np.concatenate([np.full(50, 0.5), line[:150], decay[:800]])
    np.testing.assert_array_equal(got, want.astype(np.float32))


def test_any_schedule_warms_up():
    for schedule in (
        schedules.linear(0.1, 0.0, 300),
        V2.ExponentialDecay(0.1, 300, 0.9),
        lambda step: tf.cast(step, tf.float32) + 1.0,
    ):
        got, plain = run(schedules.warmup(schedule, 100)), run(schedule)
        np.testing.assert_allclose(got, plain * np.minimum(STEPS / 100, 1), rtol=1e-6)
    np.testing.assert_allclose(
        run(schedules.warmup(0.5, 10))[[0, 5, 10]], [0, 0.25, 0.5]
    )


def test_the_peak_is_the_largest_value():
    for name, (ours, of_keras, _) in CASES.items():
        largest = run(ours).max()
        assert schedules.get_peak(ours) == pytest.approx(largest, rel=1e-6), name
        assert schedules.get_peak(of_keras) == pytest.approx(largest, rel=1e-6), name
    assert schedules.get_peak(0.5) == 0.5
    assert schedules.get_peak(lambda step: 0.5) is None
    assert schedules.get_peak(
        schedules.join([0.1, CASES["cosine"][0], 0.3], [2, 9])
    ) == (pytest.approx(0.3))
    assert schedules.get_peak(schedules.join([0.1, lambda step: 0.3], [2])) is None


def test_the_names_of_rules_are_the_factories():
    assert all(callable(getattr(schedules, name)) for name in rules.SCHEDULES)
    text = "join([warmup(0.1, 100), piecewise([5], [0.1, 0.0])], [100])"
    assert repr(rules.make_schedule(text)) == (
        "join([warmup(constant(0.1), 100), piecewise([5], [0.1, 0.0])], [100])"
    )
    for ours, *_ in CASES.values():
        ast.parse(repr(ours))
        again = rules.make_schedule(repr(ours))
        np.testing.assert_array_equal(run(again), run(ours))
    assert rules.COUPLINGS == decays.COUPLINGS


def test_a_scale_follows_its_schedule_in_a_rule_and_in_the_loop(rng):
    x = rng.normal(size=(40, 3)).astype(np.float32)
    split = tfreg.data.Split(x, (x[:, 0] > 0).astype(np.int32))
    model = tfreg.models.MLP([2], seed=0)
    tfreg.rules.apply("l2(linear(0.0, 1e-2, 8))@kernel", model)
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, optimizers.sgd(1e-30))
    loop = tfreg.Loop(step, split, batch_size=10, steps_per_call=1)
    (kernel,) = (v for v in model.trainable_variables if v.shape.rank == 2)
    half = np.sum(kernel.numpy() ** 2) / 2
    got = [report.regularization for e in range(3) for report in loop.iterate(e)]
    scales = np.minimum(np.arange(12) / 8, 1) * 1e-2
    np.testing.assert_allclose(got, scales * half, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.linear(-1.0, 0.1, 5), "initial must be a finite float >= 0"),
        (lambda: schedules.linear(0.1, 0.1, 0), "num_steps must be an int >= 1"),
        (
            lambda: schedules.exponential(0.1, 1.5, 5),
            r"decay_rate must be .* in \(0, 1",
        ),
        (
            lambda: schedules.polynomial(0.1, 0.0, 5, 0.0),
            "power must be a finite float",
        ),
        (lambda: schedules.join([0.1], []), "boundaries must be one fewer than the 1"),
        (lambda: schedules.join([0.1, 0.2], [0]), "boundaries must be an int >= 1"),
        (lambda: schedules.join([0.1, "x"], [3]), "a schedule must be a function of"),
        (lambda: rules.make_schedule("linear(0.1)"), "must have its arguments, got"),
        (lambda: rules.parse("l2(exec(1))@kernel"), "a schedule must be one of const"),
        (
            lambda: rules.parse("l2(linear(a))@kernel"),
            "a schedule must be one of const",
        ),
        (lambda: rules.parse("l2(linear(0))@kernel")[0].make(), "must have its argum"),
    ],
)
def test_a_wrong_argument_is_one_sentence(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
