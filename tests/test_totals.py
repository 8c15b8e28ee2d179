"""What a total divides by: examples, values of ragged losses, replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg.collections import totals

LOSSES = np.array([1.0, 2.0, 3.0, 6.0], np.float32)


@pytest.fixture
def strategy(two_replicas):
    return two_replicas


def run_in_replicas(strategy, function, values=LOSSES):
    """Returns the sum of what the replicas give, each called with half of a batch."""
    dataset = tf.data.Dataset.from_tensor_slices(values).batch(len(values))
    (batch,) = strategy.experimental_distribute_dataset(dataset)
    step = tf.function(
        lambda b: strategy.reduce("SUM", strategy.run(function, (b,)), None)
    )
    return step(batch).numpy()


# Scalars


def keras_mean(x):
    return keras.losses.MeanAbsoluteError()(tf.zeros_like(x), x)


def keras_sum(x):
    return keras.losses.MeanAbsoluteError(reduction="sum")(tf.zeros_like(x), x)


def average(x):
    return tf.nn.compute_average_loss(x, global_batch_size=4)


@pytest.mark.parametrize("loss", [keras_mean, keras_sum, average, tf.reduce_mean])
def test_a_scalar_of_several_replicas_is_refused(strategy, loss):
    message = "data_loss must be per example on 2 replicas, got a scalar.*num_examples"
    with pytest.raises(ValueError, match=message):
        run_in_replicas(strategy, lambda x: tfreg.losses.total_loss(loss(x[:, None])))
    with strategy.scope(), pytest.raises(ValueError, match=message):
        tfreg.losses.total_loss(loss(tf.constant(LOSSES)[:, None]))


@pytest.mark.parametrize("size", [4, 3, 1])  # even, ragged, an empty replica
def test_following_the_advice_is_right(strategy, size):
    values, loss = LOSSES[:size], keras.losses.MeanAbsoluteError()

    def by_call(x):
        return tfreg.losses.total_loss(loss.call(tf.zeros_like(x)[:, None], x[:, None]))

    def by_number(x):
        return tfreg.losses.total_loss(tf.reduce_mean(x), num_examples=tf.size(x))

    for function in (by_call, by_number):
        got = run_in_replicas(strategy, function, values)
        np.testing.assert_allclose(got, values.mean(), rtol=1e-6)  # float32


def test_penalties_weigh_once_beside_a_keras_loss(strategy):
    with strategy.scope():
        weights = tf.Variable([2.0])
    tfreg.apply_regularization(tfreg.l2_regularizer(1.0), [weights])
    loss = keras.losses.MeanSquaredError()

    def replica(x):
        return tfreg.losses.total_loss(loss.call(tf.zeros_like(x)[:, None], x[:, None]))

    got = run_in_replicas(strategy, replica)
    np.testing.assert_allclose(got, np.mean(LOSSES**2) + 2.0, rtol=1e-6)  # float32


# Places where replicas can't add up


def in_function(total, x):
    return tf.function(total)(x)


def in_jit(total, x):
    return tf.function(total, jit_compile=True)(x)


def in_cond(total, x):
    return tf.cond(tf.size(x) > 0, lambda: total(x), lambda: 0.0)


def in_loop(total, x):
    return tf.while_loop(lambda i, _: i < 1, lambda i, _: (i + 1, total(x)), (0, 0.0))[
        1
    ]


@pytest.mark.parametrize("place", [in_function, in_jit, in_cond, in_loop])
def test_a_total_inside_a_function_of_a_replica_asks_for_the_global_batch(
    strategy, place
):
    def plain(x):
        return place(tfreg.losses.total_loss, x)

    def advised(x):
        return place(lambda x: tfreg.losses.total_loss(x, global_batch_size=4), x)

    with pytest.raises(ValueError, match="global_batch_size must be given"):
        run_in_replicas(strategy, plain)
    np.testing.assert_allclose(run_in_replicas(strategy, advised), 3.0, rtol=1e-6)


# Ragged losses


RAGGED = [[1.0, 2.0], [6.0], []]


@pytest.mark.parametrize("how", ["eager", "traced"])
def test_ragged_losses_are_averaged_over_their_values(how):
    def total(losses, weights=None):
        return tfreg.losses.total_loss(losses, weights=weights)

    total = tf.function(total) if how == "traced" else total
    losses = tf.ragged.constant(RAGGED)
    assert total(losses).numpy() == 3.0
    assert total(losses, tf.constant([1.0, 0.0, 1.0])).numpy() == 1.5
    nested = tf.ragged.constant([[[1.0, 2.0], [6.0]], [], [[7.0]]])
    assert total(nested).numpy() == 4.0
    assert total(nested, tf.constant([0.0, 1.0, 2.0])).numpy() == 14.0
    assert total(tf.ragged.constant([[], []], tf.float32)).numpy() == 0.0


@pytest.mark.parametrize("how", ["eager", "traced"])
def test_ragged_losses_may_have_a_weight_each(how):
    def total(losses, weights):
        return tfreg.losses.total_loss(losses, weights=weights)

    total = tf.function(total) if how == "traced" else total
    weights = tf.ragged.constant([[1.0, 0.0], [3.0], []])
    assert total(tf.ragged.constant(RAGGED), weights).numpy() == (1.0 + 18.0) / 2
    nested = tf.ragged.constant([[[1.0, 2.0], [6.0]], [], [[7.0]]])
    each = tf.ragged.constant([[[1.0, 0.0], [0.0]], [], [[2.0]]])
    assert total(nested, each).numpy() == (1.0 + 14.0) / 2
    with pytest.raises(ValueError, match="weights must have shape"):
        total(nested, tf.ragged.constant([[1.0, 1.0], [], [1.0]]))
    with pytest.raises(ValueError, match=r"weights must have shape \(3,\), got \(2,\)"):
        total(nested, tf.constant([1.0, 1.0]))


def test_each_row_of_ragged_losses_has_its_mean():
    nested = tf.ragged.constant([[[1.0, 2.0], [6.0]], [], [[7.0]]])
    np.testing.assert_array_equal(totals.average_each(nested), [3.0, 0.0, 7.0])
    pairs = tf.ragged.constant([[[1.0, 2.0], [6.0, 7.0]], []], ragged_rank=1)
    np.testing.assert_array_equal(totals.average_each(pairs), [4.0, 0.0])


def test_ragged_losses_agree_with_keras():
    labels = tf.ragged.constant([[0.0, 1.0], [1.0]])
    predictions = tf.ragged.constant([[0.3, 0.6], [0.2]])
    losses = tf.ragged.map_flat_values(lambda a, b: (a - b) ** 2, labels, predictions)
    want = keras.losses.MeanSquaredError()(labels.flat_values, predictions.flat_values)
    np.testing.assert_allclose(tfreg.losses.total_loss(losses), want, rtol=1e-6)


def test_ragged_losses_count_alike_on_replicas(strategy):
    rows = [tf.ragged.constant(part) for part in ([[1.0, 2.0, 3.0]], [[6.0]])]

    def replica(context):
        return rows[context.replica_id_in_sync_group]

    values = [strategy.experimental_distribute_values_from_function(replica)]

    @tf.function
    def step(value):
        return strategy.reduce(
            "SUM", strategy.run(tfreg.losses.total_loss, (value,)), None
        )

    assert step(values[0]).numpy() == 3.0


# Weights per position, on replicas and in microbatches

SEQUENCES = np.arange(1.0, 13.0, dtype=np.float32).reshape(4, 3)
POSITIONS = np.array([[1, 0, 2], [0, 0, 0], [1, 1, 1], [0, 0.5, 0]], np.float32)


def compute_weighted(losses, weights):
    """Returns what TF1's SUM_BY_NONZERO_WEIGHTS is by its definition."""
    losses = losses.reshape(*weights.shape, -1).mean(-1)
    return (losses * weights).sum() / max(1, np.count_nonzero(weights))


@pytest.mark.parametrize("weights", [POSITIONS, POSITIONS[:, 0]])
@pytest.mark.parametrize("size", [4, 3, 1])  # even, ragged, an empty replica
@pytest.mark.parametrize("has_size", [False, True])
def test_weights_count_alike_on_replicas(strategy, weights, size, has_size):
    def replica(rows):
        parts = totals.split_total(
            tf.gather(SEQUENCES, rows),
            weights=tf.gather(weights, rows),
            global_batch_size=size if has_size else None,
        )
        return tf.stack([parts.data, parts.count / 2])

    losses, weights = SEQUENCES[:size], weights[:size]
    got = run_in_replicas(strategy, replica, np.arange(size))
    want = [compute_weighted(losses, weights), np.count_nonzero(weights)]
    np.testing.assert_allclose(got, want, rtol=1e-6)  # float32


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("bounds", [(0, 2, 4), (0, 1, 4), (0, 4, 4)])
def test_microbatches_share_the_number_of_weights(bounds, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def step(losses, weights):
        count, shares = totals.count_nonzero(weights), []
        for rows in (slice(*bounds[:2]), slice(*bounds[1:])):
            parts = totals.split_total(
                losses[rows],
                weights=weights[rows],
                global_batch_size=4,
                microbatches=2,
                global_count=count,
            )
            shares.append(parts.data)
        return tf.add_n(shares), parts.count, parts.num_examples

    got = step(SEQUENCES, POSITIONS)
    want = compute_weighted(SEQUENCES, POSITIONS)
    np.testing.assert_allclose(got, [want, 6.0, 4.0], rtol=1e-6)  # float32


def test_a_function_of_a_replica_needs_no_sum_where_the_counts_are_given(strategy):
    @tf.function(jit_compile=True)
    def total(losses, weights):
        options = {"global_batch_size": 4, "global_count": 6}
        return tfreg.losses.total_loss(losses, weights=weights, **options)

    def replica(rows):
        return total(tf.gather(SEQUENCES, rows), tf.gather(POSITIONS, rows))

    got = run_in_replicas(strategy, replica, np.arange(4))
    want = compute_weighted(SEQUENCES, POSITIONS)
    np.testing.assert_allclose(got, want, rtol=1e-6)  # float32


def test_the_mean_of_an_epoch_follows_from_losses_and_counts():
    parts = [
        totals.split_total(SEQUENCES[rows], weights=POSITIONS[rows])
        for rows in (slice(0, 1), slice(1, 2), slice(2, 4))
    ]
    mean = sum(p.data * p.count for p in parts) / sum(p.count for p in parts)
    np.testing.assert_allclose(mean, compute_weighted(SEQUENCES, POSITIONS), rtol=1e-6)
    assert [float(p.count) for p in parts] == [2.0, 0.0, 4.0]
    assert [float(p.num_examples) for p in parts] == [1.0, 1.0, 2.0]
    plain = totals.split_total(SEQUENCES)
    assert float(plain.count) == float(plain.num_examples) == 4.0
    assert float(totals.split_total(tf.ragged.constant(RAGGED)).count) == 3.0


@pytest.mark.parametrize("weights", [None, POSITIONS[:, 2]])
def test_the_shares_of_several_losses_add_up_to_that_of_their_sum(strategy, weights):
    ragged = tf.ragged.constant([[1.0, 2.0], [6.0], [], [5.0]])

    def replica(rows):
        first, second = tf.gather(SEQUENCES, rows), tf.gather(ragged, rows)
        given = None if weights is None else tf.gather(weights, rows)
        total = totals.average_each(first) + 0.5 * totals.average_each(second)
        parts = totals.split_total(total, weights=given)
        shares = [totals.take_share(v, given, parts.count) for v in (first, second)]
        return tf.stack([parts.data, *shares])

    total, first, second = run_in_replicas(strategy, replica, np.arange(4))
    each = np.ones(4) if weights is None else weights
    np.testing.assert_allclose(first, compute_weighted(SEQUENCES, each), rtol=1e-6)
    means = np.array([1.5, 6.0, 0.0, 5.0])
    np.testing.assert_allclose(second, compute_weighted(means, each), rtol=1e-6)
    np.testing.assert_allclose(total, first + 0.5 * second, rtol=1e-6)  # float32


# Weights, numbers, strategies


def test_a_weight_of_0_hides_an_infinite_loss():
    losses = tf.constant([1.0, np.inf, np.nan, 3.0])
    weights = tf.constant([1.0, 0.0, 0.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(losses)
        total = tfreg.losses.total_loss(losses, weights=weights)
    assert total.numpy() == 3.5
    np.testing.assert_array_equal(tape.gradient(total, losses), [0.5, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("name", ["microbatches", "global_batch_size"])
@pytest.mark.parametrize(
    "value", [0, -1, 0.5, 2.5, True, np.float32(0.5), np.int64(-4), tf.constant(0)]
)
def test_counts_that_are_no_counts_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got"):
        tfreg.losses.total_loss(tf.constant([1.0, 3.0]), **{name: value})


@pytest.mark.parametrize("value", [2, np.int64(2), np.float32(2.0), tf.constant(2)])
def test_counts_of_any_kind_are_taken(value):
    total = tfreg.losses.total_loss(tf.constant([1.0, 3.0]), global_batch_size=value)
    assert total.numpy() == 2.0


def test_a_strategy_whose_replicas_update_by_themselves_is_refused():
    central = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"])
    with central.scope(), pytest.raises(ValueError, match="CentralStorageStrategy"):
        tfreg.losses.total_loss(tf.constant([1.0]))
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        assert tfreg.losses.total_loss(tf.constant([1.0, 3.0])).numpy() == 2.0


def test_parts_are_shares(strategy):
    def replica(x):
        tfreg.add_loss(tf.reduce_mean(x), name="energy")
        parts = totals.split_total(x)
        return tf.stack([parts.data, parts.penalties["energy"], parts.num_examples / 2])

    got = run_in_replicas(strategy, replica, LOSSES[:3])  # 2 and 1 examples.
    np.testing.assert_allclose(got, [2.0, 2.0, 3.0], rtol=1e-6)  # float32
