"""Metrics as sums, against Keras's own over the same batches."""

import re

import keras
import numpy as np
import pytest
import targets
import tensorflow as tf

from tfreg import losses
from tfreg.training import measuring, objectives

km = keras.metrics

# By the kind of targets: every Keras metric of targets and outputs.
KERAS = {
    "binary": {
        "auc": lambda: km.AUC(20),
        "auc_logits": lambda: km.AUC(20, from_logits=True),
        "accuracy": km.BinaryAccuracy,
        "crossentropy": km.BinaryCrossentropy,
        "iou": km.BinaryIoU,
        "precision": km.Precision,
        "recall": km.Recall,
        "true_positives": km.TruePositives,
        "true_negatives": km.TrueNegatives,
        "false_positives": km.FalsePositives,
        "false_negatives": lambda: km.FalseNegatives(thresholds=[0.3, 0.6]),
        "sensitivity": lambda: km.SensitivityAtSpecificity(0.5, 20),
        "specificity": lambda: km.SpecificityAtSensitivity(0.5, 20),
        "precision_at": lambda: km.PrecisionAtRecall(0.5, 20),
        "recall_at": lambda: km.RecallAtPrecision(0.5, 20),
        "hinge": km.Hinge,
        "squared_hinge": km.SquaredHinge,
    },
    "one-hot": {
        "accuracy": km.CategoricalAccuracy,
        "crossentropy": km.CategoricalCrossentropy,
        "hinge": km.CategoricalHinge,
        "top": lambda: km.TopKCategoricalAccuracy(2),
        "f1": lambda: km.F1Score(average="macro"),
        "f1_each": km.F1Score,
        "fbeta": lambda: km.FBetaScore(average="weighted", beta=2.0),
        "auc": lambda: km.AUC(20, multi_label=True, num_labels=3),
        "auc_lazy": lambda: km.AUC(20, multi_label=True),
        "iou": lambda: km.OneHotIoU(3, [0, 2]),
        "mean_iou": lambda: km.OneHotMeanIoU(3),
        "divergence": km.KLDivergence,
    },
    "classes": {
        "accuracy": km.SparseCategoricalAccuracy,
        "crossentropy": km.SparseCategoricalCrossentropy,
        "top": lambda: km.SparseTopKCategoricalAccuracy(2),
        "iou": lambda: km.IoU(3, [0, 1], sparse_y_pred=False),
        "mean_iou": lambda: km.MeanIoU(3, sparse_y_pred=False),
    },
    "numbers": {
        "absolute": km.MeanAbsoluteError,
        "squared": km.MeanSquaredError,
        "root": km.RootMeanSquaredError,
        "percentage": km.MeanAbsolutePercentageError,
        "logarithmic": km.MeanSquaredLogarithmicError,
        "logcosh": km.LogCoshError,
        "cosine": km.CosineSimilarity,
        "r2": km.R2Score,
        "r2_weighted": lambda: km.R2Score(
            class_aggregation="variance_weighted_average"
        ),
        "poisson": km.Poisson,
        "equal": km.Accuracy,
    },
}
for name in ("PearsonCorrelation", "ConcordanceCorrelation"):
    if hasattr(km, name):  # Since Keras 3.7 or so.
        KERAS["numbers"][name] = getattr(km, name)
LOSSES = {
    "binary": keras.losses.BinaryCrossentropy(),
    "one-hot": keras.losses.CategoricalCrossentropy(),
    "classes": losses.sparse_softmax_cross_entropy,
    "numbers": losses.mean_squared_error,
}


def make_metrics(kind):
    metrics = {name: make() for name, make in KERAS[kind].items()}
    return measuring.Metrics(metrics, objectives.Objective(LOSSES[kind]))


def measure_by_keras(kind, batches):
    """Returns the values of Keras's own updates, as `result` names them."""
    values = {}
    for name, make in KERAS[kind].items():
        metric = make()
        for y, outputs, weights in batches:
            metric.update_state(y, outputs, sample_weight=weights)
        value = np.asarray(metric.result())
        if value.ndim:
            values |= {f"{name}/{i}": each for i, each in enumerate(value)}
        else:
            values[name] = value
    return values


# Keras's metrics


@pytest.mark.parametrize(
    "how, weighted", [("eager", False), ("function", True), ("xla", True)]
)
@pytest.mark.parametrize("kind", KERAS)
def test_sums_over_ragged_batches_are_keras_metrics(kind, how, weighted, rng):
    y, outputs = targets.make_data(kind, rng)
    weights = targets.make_weights(rng) if weighted else None
    metrics = make_metrics(kind)
    sums = targets.sum_up(metrics, how, y, outputs, weights)
    want = measure_by_keras(kind, list(targets.split(y, outputs, weights)))
    targets.assert_equal(metrics.result(sums), want)


@pytest.mark.parametrize(
    "kind, in_scope",
    [("binary", False), ("one-hot", True), ("classes", False), ("numbers", True)],
)
def test_uneven_halves_on_replicas_are_keras_metrics(kind, in_scope, two_replicas, rng):
    y, outputs = targets.make_data(kind, rng)
    weights = targets.make_weights(rng)
    if in_scope:
        with two_replicas.scope():
            metrics = make_metrics(kind)
    else:
        metrics = make_metrics(kind)

    @tf.function
    def run():
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            rows = slice(0, 9) if tf.get_static_value(number) == 0 else slice(9, None)
            return metrics.update(y[rows], outputs[rows], weights[rows])

        states = two_replicas.run(replica)
        return tf.nest.map_structure(
            lambda s: two_replicas.reduce("SUM", s, None), states
        )

    sums = targets.add(metrics.zeros(y, outputs, weights), run())
    want = measure_by_keras(kind, [(y, outputs, weights)])
    targets.assert_equal(metrics.result(sums), want)


def test_every_keras_metric_of_targets_and_outputs_is_tested():
    tested = {type(make()) for metrics in KERAS.values() for make in metrics.values()}
    known = {
        kind
        for kind in vars(km).values()
        if isinstance(kind, type) and issubclass(kind, km.Metric)
    }
    # Of values, and not of targets and outputs.
    assert known - tested == {km.Metric, km.Mean, km.Sum, km.MeanMetricWrapper}


@pytest.mark.parametrize("kind", KERAS)
def test_a_check_accepts_what_adds_up_and_changes_nothing(kind, rng):
    y, outputs = targets.make_data(kind, rng, 7)
    metrics = {name: make() for name, make in KERAS[kind].items()}
    made = measuring.Metrics(metrics, objectives.Objective(LOSSES[kind]))
    made.check(y, outputs)
    made.check(y, outputs, targets.make_weights(rng, 7))
    made.check(y[:1], outputs[:1])
    for metric in metrics.values():
        assert all(np.all(v.numpy() == 0) for v in metric.variables)


def test_weights_may_be_per_position(rng):
    y = rng.integers(0, 3, (4, 5))
    outputs = rng.normal(size=(4, 5, 3)).astype(np.float32)
    weights = tf.constant(rng.integers(0, 3, (4, 5)), tf.float32)
    accuracy = km.SparseCategoricalAccuracy
    objective = objectives.Objective(losses.sparse_softmax_cross_entropy)
    asked = {"keras": accuracy(), "accuracy": None, "top_2_accuracy": None}
    metrics = measuring.Metrics(asked, objective)
    sums = metrics.update(tf.constant(y), tf.constant(outputs), weights)
    got = metrics.result(sums)
    want = np.average(outputs.argmax(-1) == y, weights=weights.numpy().astype(float))
    assert got["keras"] == pytest.approx(want, rel=1e-6)
    assert got["accuracy"] == pytest.approx(want, rel=1e-14)
    top = km.SparseTopKCategoricalAccuracy(2)
    top.update_state(y, outputs, sample_weight=weights)
    assert got["top_2_accuracy"] == pytest.approx(float(top.result()), rel=1e-6)


class Largest(km.Metric):
    """A running maximum."""

    def __init__(self):
        super().__init__(name="largest")
        self.value = self.add_variable((), "zeros")

    def update_state(self, y, outputs, sample_weight=None):
        largest = keras.ops.max(outputs)
        self.value.assign(keras.ops.maximum(self.value, largest))

    def result(self):
        return self.value


class Drifting(Largest):
    """An exponential average over batches."""

    def update_state(self, y, outputs, sample_weight=None):
        self.value.assign(0.9 * self.value + keras.ops.sum(outputs))


class Spread(Largest):
    """A sum of the batches' deviations."""

    def update_state(self, y, outputs, sample_weight=None):
        self.value.assign(self.value + keras.ops.std(outputs))


class Both(km.Mean):
    """A metric whose result is a dict."""

    def update_state(self, y, outputs, sample_weight=None):
        super().update_state(outputs[:, 0], sample_weight)

    def result(self):
        return {"mean": self.total / self.count, "count": self.count}


class Square(Both):
    def result(self):
        return keras.ops.ones((2, 2)) * self.total


@pytest.mark.parametrize(
    "metric, size",
    [(Largest, 6), (Drifting, 6), (Spread, 6), (Largest, 1), (Drifting, 1)]
    + [(lambda: km.CosineSimilarity(axis=0), 6)],
)
def test_a_metric_that_does_not_add_up_is_refused(metric, size, rng):
    y, outputs = targets.make_data("numbers", rng, size)
    objective = objectives.Objective(losses.mean_squared_error)
    made = measuring.Metrics({"own": metric()}, objective)
    message = r"^metrics\['own'\] must add up over the examples, got \w+, of which the "
    with pytest.raises(ValueError, match=message):
        made.check(y, outputs)


def test_results_may_be_dicts_and_vectors_but_no_matrices(rng):
    y, outputs = targets.make_data("one-hot", rng)
    objective = objectives.Objective(losses.softmax_cross_entropy)
    made = measuring.Metrics({"own": Both(), "f1": km.F1Score()}, objective)
    made.check(y, outputs)
    got = made.result(made.update(y, outputs))
    assert list(got) == ["own/mean", "own/count", "f1/0", "f1/1", "f1/2"]
    assert got["own/count"] == 13.0
    made = measuring.Metrics({"own": Square()}, objective)
    message = r"^metrics\['own'\] must have a number or vector .* got shape \(2, 2\)"
    with pytest.raises(ValueError, match=message):
        made.check(y, outputs)


@pytest.mark.parametrize(
    "metric",
    [km.R2Score(), km.F1Score(), km.Mean(), None, km.MeanSquaredError()],
    ids=lambda metric: type(metric).__name__,
)
def test_a_metric_of_other_shapes_is_refused_by_its_name(metric):
    objective = objectives.Objective(lambda y, outputs: y)
    name = "accuracy" if metric is None else "own"
    made = measuring.Metrics({name: metric}, objective)
    weights = tf.ones([4]) if isinstance(metric, km.Mean) else None
    y, outputs = tf.zeros([4]), tf.zeros([4, 3, 5])
    message = f"metrics['{name}'] must fit targets (4,) and outputs (4, 3, 5), got "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        made.check(y, outputs, weights)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        made.zeros(y, outputs, weights)


# Several losses, names


def test_several_losses_have_metrics_by_their_names(rng):
    objective = objectives.Objective(
        {"class": losses.sparse_softmax_cross_entropy, "box": [losses.huber] * 2}
    )
    labels, logits = targets.make_data("classes", rng)
    numbers, predicted = targets.make_data("numbers", rng)
    y = {"class": labels, "box": [numbers, numbers]}
    outputs = {"class": logits, "box": [predicted, numbers]}

    def list_metrics(asked):
        metrics = measuring.Metrics(asked, objective)
        metrics.check(y, outputs)
        return metrics.result(metrics.update(y, outputs))

    ends = ["mean_absolute_error", "r2"]
    defaults = ["class/accuracy", *(f"box/{i}/{end}" for i in (0, 1) for end in ends)]
    got = list_metrics(None)
    assert list(got) == defaults and got["box/1/r2"] == 1.0
    asked = {"class": {"top": km.SparseTopKCategoricalAccuracy(3)}, "box/1": {}}
    got = list_metrics(asked | {"box/0": None})
    assert list(got) == ["class/top", *defaults[1:3]] and got["class/top"] == 1.0


@pytest.mark.parametrize(
    "metrics, loss, error, message",
    [
        ([km.AUC()], losses.huber, TypeError, "metrics must be a dict, got [<AUC"),
        (
            {"a": "auc"},
            losses.huber,
            TypeError,
            "metrics['a'] must be a Keras metric or ",
        ),
        (
            {"a": km.AUC},
            losses.huber,
            TypeError,
            "metrics['a'] must be a Keras metric or",
        ),
        (
            {"f1": None},
            losses.huber,
            ValueError,
            "metrics['f1'] must be a Keras metric, g",
        ),
        (
            {"top_0_accuracy": None},
            losses.huber,
            ValueError,
            "metrics['top_0_accuracy'] ",
        ),
        (
            {"loss/data": km.AUC()},
            losses.huber,
            ValueError,
            "metrics must have names of ",
        ),
        (
            {"steps": km.AUC()},
            losses.huber,
            ValueError,
            "metrics must have names of their",
        ),
        (
            {0: km.AUC()},
            losses.huber,
            ValueError,
            "metrics must have names of their own",
        ),
        (
            {"auc": km.AUC()},
            {"a": losses.huber},
            ValueError,
            "metrics must be a dict for ",
        ),
        (
            {"a": km.AUC()},
            {"a": losses.huber},
            ValueError,
            "metrics must be a dict for ea",
        ),
    ],
)
def test_metrics_that_are_none_are_refused(metrics, loss, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        measuring.Metrics(metrics, objectives.Objective(loss))


def test_a_metric_asked_for_must_be_defined():
    objective = objectives.Objective(losses.huber)
    made = measuring.Metrics({"accuracy": None}, objective)
    message = r"^metrics\['accuracy'\] must fit targets \(4,\) and outputs \(4,\), got "
    with pytest.raises(ValueError, match=message):
        made.update(tf.zeros([4]), tf.zeros([4]))
