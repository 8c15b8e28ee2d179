"""The metrics that a loss has by default, against Keras and scikit-learn."""

import keras
import numpy as np
import pytest
import sklearn.metrics
import targets
import tensorflow as tf

from tfreg import losses
from tfreg.training import measuring, objectives, scores

km = keras.metrics
KINDS = {  # The loss and Keras's metric, by the kind of targets.
    "binary": (keras.losses.BinaryCrossentropy(), km.BinaryAccuracy),
    "one-hot": (keras.losses.CategoricalCrossentropy(), km.CategoricalAccuracy),
    "classes": (losses.sparse_softmax_cross_entropy, km.SparseCategoricalAccuracy),
}


def measure_defaults(loss, y, outputs, weights=None, asked=None):
    metrics = measuring.Metrics(asked, objectives.Objective(loss))
    return metrics.result(metrics.update(y, outputs, weights))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_default_of_classes_is_keras_accuracy(kind, weighted, rng):
    y, outputs = targets.make_data(kind, rng)
    weights = targets.make_weights(rng) if weighted else None
    loss, make = KINDS[kind]
    metric = make()
    metric.update_state(y, outputs, sample_weight=weights)
    want = float(metric.result())
    got = measure_defaults(loss, y, outputs, weights)
    assert got == {"accuracy": pytest.approx(want, rel=1e-6)}  # float32


def test_the_default_accuracy_is_two_scalars(rng):
    y, outputs = targets.make_data("classes", rng)
    objective = objectives.Objective(losses.sparse_softmax_cross_entropy)
    metrics = measuring.Metrics(None, objective)
    states = metrics.update(y, outputs)["accuracy"]
    assert [(s.shape, s.dtype) for s in states] == [((), tf.float64)] * 2
    zeros = metrics.zeros(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 3]))
    assert zeros == {"accuracy": (0.0, 0.0)}


@pytest.mark.parametrize("how", ["eager", "function", "xla"])
@pytest.mark.parametrize("shape", [(13,), (13, 1), (13, 3), (13, 2, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_defaults_of_numbers_are_those_of_scikit_learn(shape, weighted, how, rng):
    # Of a mean that is large beside the deviation.
    y, outputs = 1000 + rng.normal(size=(2, *shape)).astype(np.float32)
    weights = targets.make_weights(rng) if weighted else None
    metrics = measuring.Metrics(None, objectives.Objective(losses.huber))
    sums = targets.sum_up(metrics, how, y, outputs, weights)
    given = y.reshape(13, -1).astype(float), outputs.reshape(13, -1).astype(float)
    options = {"sample_weight": None if weights is None else weights.numpy()}
    want = {
        "mean_absolute_error": sklearn.metrics.mean_absolute_error(*given, **options),
        "r2": sklearn.metrics.r2_score(*given, **options),
    }
    # A mean square of 1e6 rounds.
    targets.assert_equal(metrics.result(sums), want, 1e-9)


def test_the_defaults_of_numbers_take_weights_per_position(rng):
    y, outputs, weights = rng.normal(size=(3, 6, 2))
    weights = np.maximum(weights, 0)
    got = measure_defaults(losses.huber, y, tf.constant(outputs), weights)
    columns = [
        sklearn.metrics.r2_score(y[:, i], outputs[:, i], sample_weight=weights[:, i])
        for i in range(2)
    ]
    assert got["r2"] == pytest.approx(np.mean(columns), rel=1e-12)
    want = np.average(np.abs(y - outputs), weights=weights)
    assert got["mean_absolute_error"] == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("right", [False, True])
def test_r2_of_equal_targets_is_that_of_scikit_learn(right):
    y = np.full([5, 2], 0.3)
    y[:, 1] = np.arange(5)
    outputs = y if right else y + 1
    got = measure_defaults(losses.huber, y, tf.constant(outputs))
    assert got["r2"] == pytest.approx(sklearn.metrics.r2_score(y, outputs), rel=1e-12)


def test_a_value_of_weight_0_is_not_read_and_nothing_has_no_value():
    y, outputs = tf.constant([1.0, np.nan, 2.0]), tf.constant([np.inf, 1.0, 4.0])
    got = measure_defaults(losses.huber, y, outputs, tf.constant([0.0, 0.0, 2.0]))
    assert got == {"mean_absolute_error": 2.0, "r2": 0.0}
    none = measure_defaults(losses.huber, y, outputs, tf.zeros([3]))
    assert np.isnan(list(none.values())).all()


@pytest.mark.parametrize(
    "y, outputs, names",
    [
        ([None, 3], [None, 3], ["mean_absolute_error", "r2"]),
        ([None], [None, 1], ["mean_absolute_error", "r2"]),
        ([None, 2000], [None, 2000], ["mean_absolute_error"]),
        ([None, None], [None, None], []),
        ([None, 3], [None, 4], []),
        ([None, 3], None, []),
    ],
)
def test_numbers_have_defaults_where_their_shapes_are_known(y, outputs, names):
    metrics = measuring.Metrics(None, objectives.Objective(losses.huber))
    zeros = metrics.zeros(tf.TensorSpec(y), tf.TensorSpec(outputs))
    assert list(zeros) == names


@pytest.mark.parametrize("k", [1, 2, 3, 7])
@pytest.mark.parametrize("one_hot", [False, True])
def test_top_k_is_that_of_keras(k, one_hot, rng):
    y = rng.integers(0, 5, 30)
    outputs = rng.integers(0, 4, (30, 5)).astype(np.float32)  # With ties.
    outputs += np.arange(5) * 1e-3 if k == 1 else 0  # Of which Keras's top 1 has none.
    outputs[0, y[0]] = np.nan
    metric = km.SparseTopKCategoricalAccuracy(k)
    metric.update_state(y, outputs)
    loss = losses.sparse_softmax_cross_entropy
    if one_hot:
        y, loss = np.eye(5, dtype=np.float32)[y], losses.softmax_cross_entropy
    outputs, name = tf.constant(outputs), f"top_{k}_accuracy"
    got = measure_defaults(loss, y, outputs, asked={name: None})
    assert got == {name: pytest.approx(float(metric.result()), rel=1e-6)}


# Accuracy, against Keras's metrics

LOGITS = [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0], [1.0, 0.5, 0.0]]
CLASSES = [0, 1, 1, 0]
ONE_HOT = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]]
ONE = [[2.0], [-1.0], [0.5], [3.0]]  # Logits of class 1.
SEQUENCES = [[0, 1, -1], [2, 0, -1]]  # -1 pads.
OUTPUTS = [[LOGITS[0], LOGITS[2], LOGITS[1]], [LOGITS[0], LOGITS[0], LOGITS[0]]]


def measure(y, outputs, *how):
    accuracy = scores.measure_accuracy(tf.constant(y), tf.constant(outputs), *how)
    return None if accuracy is None else float(tf.reduce_mean(accuracy))


@pytest.mark.parametrize(
    "metric, y, outputs, how",
    [
        ("SparseCategoricalAccuracy", CLASSES, LOGITS, []),
        ("SparseCategoricalAccuracy", np.array(CLASSES)[:, None], LOGITS, []),
        ("SparseCategoricalAccuracy", np.array(CLASSES, np.uint8), LOGITS, ["classes"]),
        ("CategoricalAccuracy", ONE_HOT, LOGITS, []),
        ("CategoricalAccuracy", np.array(ONE_HOT, np.float32), LOGITS, ["one-hot"]),
        ("CategoricalAccuracy", np.array(ONE_HOT, np.float32), LOGITS, []),
    ],
)
def test_accuracy_is_that_of_keras(metric, y, outputs, how):
    want = getattr(keras.metrics, metric)()(np.array(y), outputs)
    assert measure(y, outputs, *how) == pytest.approx(float(want), abs=1e-7)  # float32


@pytest.mark.parametrize("squeeze_y", [False, True])
@pytest.mark.parametrize("squeeze_outputs", [False, True])
@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.float32])
def test_one_output_is_a_binary_classifier(squeeze_y, squeeze_outputs, dtype):
    y, outputs = np.array(CLASSES, dtype), np.array(ONE, np.float32)
    probabilities = 1 / (1 + np.exp(-outputs))
    want = keras.metrics.BinaryAccuracy()(y[:, None], probabilities)
    y = y if squeeze_y else y[:, None]
    if squeeze_outputs:
        outputs, probabilities = outputs[:, 0], probabilities[:, 0]
    if dtype == np.float32 and squeeze_y != squeeze_outputs:
        return  # Of numbers nobody knows that they are classes.
    kind = ["binary"] if dtype == np.float32 else []
    assert measure(y, outputs, *kind) == pytest.approx(float(want))
    if kind:
        assert measure(y, probabilities, "binary", 0.5) == pytest.approx(float(want))


@pytest.mark.parametrize(
    "y, outputs, how",
    [
        ([0.0, 1.0], [[2.0, 1.0], [2.0, 1.0]], []),  # numbers
        ([0.0, 1.0], [2.0, 1.0], []),
        (CLASSES, LOGITS, ["numbers"]),
        ([[0, 1]], [[[2.0, 1.0]] * 5], []),  # CTC: five steps, two labels
        ([[0, 1, 2]], [[2.0, 1.0]], []),
        ([[[0]]], [[2.0, 1.0]], []),
    ],
)
def test_no_accuracy_is_reported_of_other_shapes(y, outputs, how):
    assert measure(y, outputs, *how) is None


def test_rows_that_are_not_one_hot_have_no_accuracy():
    assert np.isnan(measure([[0.5, 1.5], [1.0, 0.0]], [[2.0, 1.0], [1.0, 0.0]]))


def test_masked_positions_do_not_count():
    each = scores.measure_accuracy(tf.constant(SEQUENCES), tf.constant(OUTPUTS))
    np.testing.assert_array_equal(each, [1.0, 0.5])


@pytest.mark.parametrize(
    "weights, want",
    [
        (None, [1.5, 2.0]),
        ([2.0, 1.0], [2.5, 3.0]),  # A class below 0 masks the third positions.
        ([[1.0, 1.0, 1.0], [0.0, 3.0, 5.0]], [5.0, 5.0]),
    ],
)
def test_weights_of_masked_positions_do_not_count(weights, want):
    right = scores.compare(tf.constant(SEQUENCES), tf.constant(OUTPUTS))
    np.testing.assert_array_equal(right.values[:, :2], [[1, 1], [0, 1]])
    np.testing.assert_array_equal(scores.add_up(*right, weights), want)
