"""Streaming metrics: the same numbers as tf.compat.v1's, batch by batch."""

import numpy as np
import pytest
import tensorflow as tf
import tf1_originals

from tfreg import tf1
from tfreg.porting import rewriting

v1 = tf.compat.v1
NAMES = [
    "accuracy",
    "auc",
    "mean_absolute_error",
    "mean_iou",
    "mean_squared_error",
    "precision",
    "recall",
    "root_mean_squared_error",
]

SCRIPT = """
import tensorflow as tf
import tensorflow.contrib.slim as slim


def evaluate(scores, labels):
    names_to_values, names_to_updates = slim.metrics.aggregate_metric_map({
        "mean": slim.metrics.streaming_mean(scores),
        "error": slim.metrics.streaming_mean_squared_error(
            scores, tf.cast(labels, tf.float32)
        ),
        "auc": slim.metrics.streaming_auc(scores, labels, num_thresholds=20),
        "iou": slim.metrics.streaming_mean_iou(tf.round(scores), labels, 2),
    })
    _, names_to_updates["accuracy"] = tf.metrics.accuracy(labels, tf.round(scores))
    return names_to_updates
"""


def measure(metrics, batch):
    """Returns the updates of all metrics."""
    classes, labels, scores, weights = batch
    hits = tf.round(scores)
    given = {
        "accuracy": (labels, hits),
        "auc": (labels, scores),
        "mean_iou": (labels, hits, 2),
        "precision": (labels, hits),
        "recall": (labels, hits),
    }
    pairs = {"mean": metrics.mean(scores)}
    for name in NAMES:
        arguments = given.get(name, (classes, scores))
        pairs[name] = getattr(metrics, name)(*arguments)
        pairs[f"{name}, weighted"] = getattr(metrics, name)(*arguments, weights=weights)
    return {name: update for name, (_, update) in pairs.items()}


def make_batches(rng):
    for size in (4, 7, 1):  # A mean of batches' means would be another number.
        labels = rng.integers(0, 2, size)
        scores = rng.random(size).astype(np.float32)
        weights = rng.random(size).astype(np.float32)
        yield rng.normal(size=size).astype(np.float32), labels, scores, weights


@pytest.fixture
def batches(rng):
    return list(make_batches(rng))


@pytest.fixture
def truth(batches):
    """Returns the updates of each batch, by tf.compat.v1 in a session."""
    with tf.Graph().as_default(), v1.Session() as session:
        feeds = [v1.placeholder(part.dtype, [None]) for part in batches[0]]
        updates = measure(v1.metrics, feeds)
        session.run(v1.local_variables_initializer())
        return [
            session.run(updates, dict(zip(feeds, batch, strict=True)))
            for batch in batches
        ]


def check(got, expected):
    assert got.keys() == expected.keys()
    for name, value in got.items():
        # Sums of a few numbers in another order.
        np.testing.assert_allclose(value, expected[name], 1e-5, 1e-6, err_msg=name)


def test_metrics_are_those_of_tf1_in_each_batch(batches, truth):
    net = tf1.Model(lambda *batch: measure(tf1.metrics, batch))
    compiled = tf.function(net, reduce_retracing=True)
    for call in (compiled, net):  # Eager code goes on with the same sums.
        for batch, expected in zip(batches, truth, strict=True):
            check(call(*map(tf.constant, batch)), expected)
        tf1.metrics.reset(net)
    assert not net.variables


def test_a_ported_evaluation_is_its_original(batches):
    with tf1_originals.graph(), v1.Session() as session:
        scores, labels = (v1.placeholder(kind, [None]) for kind in ("float32", "int64"))
        updates = tf1_originals.load(SCRIPT).evaluate(scores, labels)
        session.run(v1.local_variables_initializer())
        expected = [
            session.run(updates, {scores: batch[2], labels: batch[1]})
            for batch in batches
        ]
    result = rewriting.rewrite(SCRIPT.encode())
    assert not result.left
    port = {}
    exec(result.source, port)
    net = tf1.Model(port["evaluate"])
    for batch, one in zip(batches, expected, strict=True):
        check(net(batch[2], batch[1]), one)


def test_replicas_share_their_sums(two_replicas, batches, truth):
    net = tf1.Model(lambda *batch: measure(tf1.metrics, batch))
    halves = [np.split(part, 2) for part in batches[0]]
    parts = [
        two_replicas.experimental_distribute_values_from_function(
            lambda context, half=half: half[context.replica_id_in_sync_group]
        )
        for half in halves
    ]
    with two_replicas.scope():
        updates = tf.function(lambda: two_replicas.run(net, parts))()
    for replica in range(2):
        values = [two_replicas.experimental_local_results(u) for u in updates.values()]
        check(dict(zip(updates, [v[replica] for v in values], strict=True)), truth[0])


def test_a_map_of_metrics_becomes_two():
    values, updates = tf1.metrics.aggregate_metric_map({"a": (1, 2), "b": (3, 4)})
    assert (values, updates) == ({"a": 1, "b": 3}, {"a": 2, "b": 4})
    assert tf1.metrics.aggregate_metrics((1, 2), (3, 4)) == ([1, 3], [2, 4])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: [tf1.metrics.mean([1.0], name="m") for _ in "ab"], "got 'm' again"),
        (lambda: tf1.metrics.mean([1.0], [[1.0, 2.0]]), "weights must be"),
        (lambda: tf1.metrics.accuracy([1, 2], [1, 2, 3]), "predictions must have"),
    ],
)
def test_what_tf1_refused_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        tf1.Model(call)()


def test_a_metric_outside_of_a_forward_pass_is_refused():
    with pytest.raises(ValueError, match="metrics.mean must be called in a forward"):
        tf1.metrics.mean([1.0])
