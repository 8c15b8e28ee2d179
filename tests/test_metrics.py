"""A report is a typed value in a graph, across replicas and on the host."""

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, losses, models, optimizers
from tfreg.training import loop, metrics, step

PENALTY = "dense_0/kernel/Regularizer/l2_regularizer"
TAGS = {
    "loss/data": 0.5,
    "loss/regularization": 0.25,
    "loss/total": 0.75,
    "regularization/w": 0.25,
    "accuracy": 0.9,
    "gradient_norm": 2.0,
    "learning_rate": 0.1,
    "loss_scale": 8.0,
    "skipped_updates": 1.0,
}
REPORT = metrics.Report(
    0.5, 0.25, {"w": 0.25}, {"accuracy": 0.9}, 2.0, 0.1, 8.0, 1.0, 3
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
    evaluated = metrics.Report(*REPORT.losses)
    assert set(evaluated.get_scalars()) == set(list(TAGS)[:5])
    assert evaluated.gradient_norm is None and "gradient_norm" not in evaluated


def test_means_come_back_from_their_tags():
    means = REPORT.losses.means
    assert means.get_scalars() == {"loss/data": 0.5, "accuracy": 0.9}
    assert metrics.Means.from_scalars(means.get_scalars()) == means


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
    assert isinstance(report, metrics.Report) and report.num_steps == 0
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
        first = made(x, y).losses
        return tf.while_loop(
            lambda i, _: i < 3, lambda i, _: (i + 1, made(x, y).losses), [0, first]
        )

    number, last = run()
    assert number == 3 and isinstance(last, metrics.Losses)
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
    assert isinstance(got, metrics.Report)
    parts = tf.nest.map_structure(two_replicas.experimental_local_results, got.losses)
    for name in ("loss", "regularization"):
        np.testing.assert_allclose(sum(getattr(parts, name)), getattr(wanted, name))
    np.testing.assert_allclose(
        sum(parts.metrics["accuracy"]), wanted.metrics["accuracy"], rtol=1e-6
    )


def test_a_loop_reports_floats(rng):
    x, y = make_batch(rng)
    made = loop.Loop(make_step(), data.Split(x.numpy(), y.numpy()), batch_size=4)
    for report in (made.train(0), made.evaluate(made.split)):
        assert isinstance(report, metrics.Report)
        assert {type(v) for v in report.get_scalars().values()} == {float}
    assert made.train(1).num_steps == 2


@pytest.mark.parametrize(
    "y, outputs, wanted",
    [
        ([0, 1, 1], [[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]], 2.0),
        ([[0, 1]], [[[2.0, 1.0], [2.0, 1.0]]], 0.5),  # A half of one example.
        ([0.0, 1.0], [[2.0, 1.0], [2.0, 1.0]], None),
        ([0, 1], [2.0, 1.0], None),
    ],
)
def test_an_example_is_correct_where_the_largest_logit_is_the_class(y, outputs, wanted):
    got = metrics.count_correct(tf.constant(y), tf.constant(outputs))
    assert (got if wanted is None else float(got)) == wanted


def test_pixels_are_scaled_and_floats_are_not():
    pixels = metrics.scale_pixels(tf.constant([0, 51, 255], tf.uint8))
    np.testing.assert_allclose(pixels, [0.0, 0.2, 1.0], rtol=1e-6)
    assert metrics.scale_pixels(tf.constant([51.0])).numpy() == 51.0
