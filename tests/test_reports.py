"""A report is a typed value in a graph, across replicas and on the host."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, losses, models, optimizers
from tfreg.training import batches, loop, reports, step

PENALTY = "dense_0/kernel/Regularizer/l2_regularizer"
TAGS = {
    "loss/data": 0.5,
    "loss/data/class": 0.375,
    "loss/regularization": 0.25,
    "loss/total": 0.75,
    "regularization/w": 0.25,
    "accuracy": 0.9,
    "gradient_norm": 2.0,
    "learning_rate": 0.1,
    "loss_scale": 8.0,
    "skipped_updates": 1.0,
}
REPORT = reports.Report(
    0.5,
    0.25,
    {"w": 0.25},
    {"accuracy": 0.9},
    gradient_norm=2.0,
    learning_rate=0.1,
    loss_scale=8.0,
    skipped_updates=1.0,
    num_steps=3,
    data_losses={"class": 0.375},
)


def make_step(**options):
    model = models.MLP([3], kernel_regularizer=tfreg.l2_regularizer(0.1))
    loss = losses.sparse_softmax_cross_entropy
    return step.Step(model, loss, optimizers.sgd(0.1), **options)


def make_batch(rng):
    x = tf.constant(rng.normal(size=(8, 4)), tf.float32)
    return x, tf.constant(np.arange(8) % 3, tf.int32)


def test_the_tags_are_those_of_tensorboard():
    assert REPORT.get_scalars() == TAGS
    assert {tag: REPORT[tag] for tag in TAGS} == TAGS
    assert REPORT["steps"] == REPORT.num_steps == 3
    assert all(tag in REPORT for tag in (*TAGS, "steps"))
    assert "loss" not in REPORT
    with pytest.raises(KeyError, match="loss/datum"):
        REPORT["loss/datum"]


def test_what_is_not_reported_has_no_tag():
    evaluated = reports.Report(*REPORT[:4])
    assert set(evaluated.get_scalars()) == {*list(TAGS)[:6]} - {"loss/data/class"}
    assert evaluated.gradient_norm is None and "gradient_norm" not in evaluated


def test_sums_come_back_from_json_to_the_bit(rng):
    third, many = np.float64(1) / 3, rng.normal(size=5)
    sums = reports.Sums(
        third,
        np.float64(7),
        third,
        {"class": third},
        {"auc": (many, third)},
        {"w": 0.1},
    )
    got = reports.Sums.from_json(json.loads(json.dumps(sums.to_json())))
    assert isinstance(got, reports.Sums)
    tf.nest.map_structure(np.testing.assert_array_equal, got, sums)
    assert got.states["auc"][0].dtype == np.float64


@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_step_reports_the_same_value_from_every_kind_of_graph(
    rng, jit_compile, precision
):
    made, (x, y) = make_step(precision=precision), make_batch(rng)
    made.evaluate(x, y)
    weights = [v.numpy() for v in made.model.trainable_variables]
    call = made
    if jit_compile is not None:
        call = tf.function(made, jit_compile=jit_compile)
    report = call(x, y)
    assert isinstance(report, reports.Report) and report.num_steps == 0
    (kernel,) = (w.astype(np.float64) for w in weights if w.ndim == 2)
    assert list(report.penalties) == [PENALTY]
    np.testing.assert_allclose(report.regularization, 0.05 * np.sum(kernel**2), 1e-6)
    np.testing.assert_allclose(report.total, report.loss + report.regularization)
    assert (report.loss_scale is None) == (precision == "float32")
    assert report["learning_rate"] == report.learning_rate


def test_a_step_reports_through_a_loop_in_a_graph(rng):
    made, (x, y) = make_step(), make_batch(rng)
    made.evaluate(x, y)

    @tf.function(jit_compile=True)
    def run():
        first = made(x, y).metrics
        return tf.while_loop(
            lambda i, _: i < 3, lambda i, _: (i + 1, made(x, y).metrics), [0, first]
        )

    number, last = run()
    assert number == 3 and list(last) == ["accuracy"]
    assert int(made.optimizer.step) == 4


def test_replicas_report_their_parts_of_one_value(rng, two_replicas):
    x, y = make_batch(rng)
    with two_replicas.scope():
        made = make_step()
        made.evaluate(x, y)
    halves = [
        two_replicas.experimental_distribute_values_from_function(
            lambda context, part=part: part[context.replica_id_in_sync_group :: 2]
        )
        for part in (x, y)
    ]
    wanted = made.evaluate(x, y)
    got = tf.function(lambda: two_replicas.run(made, halves))()
    assert isinstance(got, reports.Report)
    for name in ("loss", "regularization"):
        parts = two_replicas.experimental_local_results(getattr(got, name))
        np.testing.assert_allclose(sum(parts), getattr(wanted, name), rtol=1e-6)
    accuracy = np.mean(np.argmax(made.model(x), -1) == y)
    for each in two_replicas.experimental_local_results(got.metrics["accuracy"]):
        assert each == accuracy


def test_a_loop_reports_floats(rng):
    x, y = make_batch(rng)
    made = loop.Loop(make_step(), data.Split(x.numpy(), y.numpy()), batch_size=4)
    for report in (made.train(0), made.evaluate(made.source)):
        assert isinstance(report, reports.Report)
        assert {type(v) for v in report.get_scalars().values()} == {float}
    assert made.train(1).num_steps == 2


def test_metrics_that_are_not_defined_are_dropped():
    values = {"accuracy": float("nan"), "other": 2.0}
    assert reports.drop_undefined(values) == {"other": 2.0}


# What a Step takes as a loss


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", None])
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_keras_loss_is_taken_per_example(reduction, num_replicas, rng):
    x = rng.normal(size=(7, 3)).astype(np.float32)  # A ragged batch on two replicas.
    y = rng.integers(0, 3, 7).astype(np.int32)
    loss = keras.losses.SparseCategoricalCrossentropy(True, reduction=reduction)
    devices = [f"CPU:{i}" for i in range(num_replicas)]
    reduce = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(devices, reduce)
    with strategy.scope():
        regularizer = tfreg.l2_regularizer(0.3)
        model = tfreg.models.MLP([3], kernel_regularizer=regularizer, seed=0)
        train = tfreg.Step(model, loss, tfreg.optimizers.sgd(0.1))
    report = tfreg.Loop(train, data.Split(x, y), 7, strategy=strategy).train(0)
    again = tfreg.models.MLP([3], kernel_regularizer=regularizer, seed=0)
    logits = again(x)
    want = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    penalty = 0.3 * np.sum(again.layers[1].kernel.numpy() ** 2) / 2
    np.testing.assert_allclose(report.loss, np.mean(want), rtol=1e-5)  # float32
    np.testing.assert_allclose(report.regularization, penalty, rtol=1e-5)
    want = np.mean(np.argmax(logits, -1) == y)
    np.testing.assert_allclose(report.metrics["accuracy"], want, rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, outputs: tf.reduce_mean(outputs),
        lambda y, outputs: keras.losses.MeanSquaredError()(y[:, None], outputs),
        lambda y, outputs: tf.nn.compute_average_loss(outputs[:, 0]),
    ],
)
def test_a_loss_that_is_a_scalar_says_how_to_write_it(loss):
    train = tfreg.Step(tfreg.models.MLP([1]), loss, tfreg.optimizers.sgd(0.1))
    with pytest.raises(ValueError, match="data_loss must return .* got a scalar"):
        tfreg.Loop(train, data.Split(np.ones([4, 2]), np.zeros([4])))


@pytest.mark.parametrize("compiled", [False, True])
def test_frozen_layers_are_noticed_by_a_compiled_loop(compiled, rng):
    x, y = make_batch(rng)
    model = models.MLP([4, 3], kernel_regularizer=tfreg.l2_regularizer(0.1))
    loss = losses.sparse_softmax_cross_entropy
    train = step.Step(model, loss, optimizers.momentum(0.1, 0.9))
    built = loop.Loop(train, data.Split(x.numpy(), y.numpy()), batch_size=4)
    if compiled:
        built.train(0)
    first = model.layers[1]
    first.trainable = False
    before = [v.numpy() for v in train.model.variables]
    frozen = {id(v) for v in first.variables}
    built.train(1)
    for variable, value in zip(train.model.variables, before, strict=True):
        assert np.array_equal(variable, value) == (id(variable) in frozen)
    first.trainable = True
    built.train(2)
    assert not any(map(np.array_equal, train.model.variables, before))


def test_pixels_are_scaled_where_a_split_says_so():
    pixels = batches.scale_pixels(tf.constant([0, 51, 255], tf.uint8), True)
    np.testing.assert_allclose(pixels, [0.0, 0.2, 1.0], rtol=1e-6)
    ids = tf.constant([0, 51], tf.uint8)
    assert batches.scale_pixels(ids, False) is ids
