"""One or several losses, matched with targets and outputs by their keys."""

import collections
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfreg import losses
from tfreg.training import objectives

CROSS_ENTROPY = losses.sparse_softmax_cross_entropy
Y = {"class": np.array([0, 2, 1]), "boxes": [np.ones([3, 2]), np.zeros([3, 4, 1])]}
OUTPUTS = {
    "class": np.eye(3),
    "boxes": [np.full([3, 2], 3.0), np.arange(12.0).reshape(3, 4, 1)],
}
LOSSES = {
    "class": CROSS_ENTROPY,
    "boxes": (losses.mean_squared_error, keras.losses.MeanAbsoluteError()),
}
NAMES = ["class", "boxes/0", "boxes/1"]


def make_tensors(nest):
    return tf.nest.map_structure(tf.constant, nest)


def average(losses):
    return losses.reshape(3, -1).mean(1)


def solve():
    """Returns the losses of the nest, per position, by NumPy."""
    right = OUTPUTS["class"][np.arange(3), Y["class"]]
    return {
        "class": np.log(np.exp(OUTPUTS["class"]).sum(1)) - right,
        "boxes/0": np.full([3, 2], 4.0),
        "boxes/1": np.arange(12.0).reshape(3, 4),
    }


@pytest.mark.parametrize("how", ["eager", "function", "xla"])
def test_a_nest_of_losses_has_losses_by_name_and_a_weighted_sum(how):
    objective = objectives.Objective(LOSSES, {"class": 2, "boxes": [0.5]})

    def compute(y, outputs):
        each = objective(y, outputs)
        return each, objective.combine(each)

    compute = (
        compute if how == "eager" else tf.function(compute, jit_compile=how == "xla")
    )
    each, total = compute(make_tensors(Y), make_tensors(OUTPUTS))
    want = solve()
    assert objective.names == list(each) == NAMES
    for name in NAMES:
        np.testing.assert_allclose(each[name], want[name], rtol=1e-6)  # Keras: float32
    want = 2 * want["class"] + 0.5 * average(want["boxes/0"]) + average(want["boxes/1"])
    np.testing.assert_allclose(total, want, rtol=1e-6)


def test_the_order_of_the_keys_does_not_matter():
    objective = objectives.Objective(LOSSES)
    y, outputs = make_tensors(Y), make_tensors(OUTPUTS)
    want = objective(y, outputs)
    got = objective(
        dict(reversed(y.items())), outputs | {"boxes": tuple(outputs["boxes"])}
    )
    tf.nest.map_structure(np.testing.assert_array_equal, got, want)
    pairs = objective.match(y, outputs)
    assert pairs["boxes/0"][0] is y["boxes"][0]


def test_targets_are_known_by_the_name_of_the_loss():
    bce = keras.losses.BinaryCrossentropy(from_logits=False)
    made = objectives.Objective({**LOSSES, "mask": bce, "own": lambda y, p: p})
    assert made.targets == {
        "class": ("classes", 0.0),
        "boxes/0": ("numbers", 0.0),
        "boxes/1": ("numbers", 0.0),
        "mask": ("binary", 0.5),
        "own": (None, 0.0),
    }


def test_a_single_loss_keeps_its_positions():
    y, outputs = np.zeros([2, 3], np.int32), np.zeros([2, 3, 4], np.float32)
    single = objectives.Objective(CROSS_ENTROPY, 3.0)
    each = single(y, outputs)
    assert single.names == [""] and each[""].shape == (2, 3)
    np.testing.assert_allclose(single.combine(each), np.full([2, 3], 3 * np.log(4.0)))
    unweighted = objectives.Objective(CROSS_ENTROPY)
    assert unweighted.combine(each) is each[""]


def test_a_single_function_may_take_any_nest():
    def loss(y, outputs):
        return tf.square(y["a"] - outputs[0]) + outputs[1]

    objective = objectives.Objective(loss)
    y, outputs = {"a": tf.ones([3])}, (tf.zeros([3]), tf.ones([3]))
    np.testing.assert_array_equal(objective(y, outputs)[""], [2.0, 2.0, 2.0])


def test_ragged_losses_are_averaged_for_each_example():
    ragged = tf.ragged.constant([[1.0, 3.0], [], [5.0]])
    single = objectives.Objective(lambda y, p: p, 2.0)
    y = tf.zeros([3])
    combined = single.combine(single(y, ragged))
    assert combined.to_list() == [[2.0, 6.0], [], [10.0]]
    two = objectives.Objective([lambda y, p: p, lambda y, p: p], [0.5])
    np.testing.assert_array_equal(
        two.combine(two([y, y], [ragged, tf.ones([3])])), [2.0, 1.0, 3.5]
    )


def test_a_loss_of_weight_0_is_not_trained_on():
    objective = objectives.Objective([CROSS_ENTROPY, losses.huber], [1.0, 0.0])
    values = {"0": tf.constant([1.0, 2.0]), "1": tf.constant([np.inf, 3.0])}
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = objective.combine(values)
    np.testing.assert_array_equal(total, [1.0, 2.0])
    gradients = tape.gradient(total, values)
    np.testing.assert_array_equal(gradients["0"], [1.0, 1.0])
    np.testing.assert_array_equal(gradients["1"], [0.0, 0.0])


def test_losses_of_several_dtypes_have_the_widest():
    objective = objectives.Objective([CROSS_ENTROPY] * 3)
    dtypes = [tf.float16, tf.float64, tf.float32]
    each = {str(i): tf.constant([0.5], dtype) for i, dtype in enumerate(dtypes)}
    total = objective.combine(each)
    assert total.dtype == tf.float64 and total.numpy() == [1.5]


# What doesn't fit


@pytest.mark.parametrize(
    "y, message",
    [
        (
            {"class": 0},
            "y must have the keys of data_loss, 'class', 'boxes', got without ",
        ),
        (
            Y | {"id": 0},
            "y must have the keys of data_loss, 'class', 'boxes', got also ",
        ),
        (
            Y["class"],
            "y must be a dict with the keys of data_loss, 'class', 'boxes', got",
        ),
        (
            Y | {"boxes": [0]},
            "y['boxes'] must have the keys of data_loss, 0, 1, got wit",
        ),
        (
            Y | {"boxes": [0] * 3},
            "y['boxes'] must have the keys of data_loss, 0, 1, got",
        ),
        (
            Y | {"boxes": {0: 0, 1: 0}},
            "y['boxes'] must be a list or tuple with the keys",
        ),
    ],
)
def test_targets_of_other_keys_are_refused(y, message):
    objective = objectives.Objective(LOSSES)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        objective(y, OUTPUTS)
    with pytest.raises(ValueError, match=f"^{re.escape('outputs' + message[1:])}"):
        objective(Y, y)


@pytest.mark.parametrize(
    "data_loss, loss_weights, error, message",
    [
        ({}, None, ValueError, "data_loss must have at least one loss, got {}"),
        ({"a": []}, None, ValueError, "data_loss must have at least one loss, got"),
        ({"a": "mse"}, None, TypeError, "data_loss['a'] must be a callable, got 'mse'"),
        (
            keras.losses.Huber,
            None,
            TypeError,
            "data_loss must be a callable, got <class",
        ),
        (LOSSES, {"box": 1.0}, ValueError, "loss_weights must have the keys of data_l"),
        (
            LOSSES,
            0.5,
            ValueError,
            "loss_weights must have the keys of data_loss, 'class'",
        ),
        (
            LOSSES,
            {"boxes": [1.0, -1.0]},
            ValueError,
            "loss_weights['boxes/1'] must be a",
        ),
        (
            LOSSES,
            {"class": np.inf},
            ValueError,
            "loss_weights['class'] must be a finite",
        ),
        (LOSSES, {"class": None}, ValueError, "loss_weights['class'] must be a finite"),
        (CROSS_ENTROPY, -1.0, ValueError, "loss_weights must be a finite float >= 0"),
    ],
)
def test_losses_and_weights_that_are_none_are_refused(
    data_loss, loss_weights, error, message
):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        objectives.Objective(data_loss, loss_weights)


@pytest.mark.parametrize("batch", [4, None])
@pytest.mark.parametrize(
    "loss, message",
    [
        (
            lambda y, p: tf.reduce_mean(p),
            "must return the losses of the examples, [batc",
        ),
        (
            lambda y, p: y - p,
            "must return losses [batch, ...] of the dimensions of the ",
        ),
        (
            lambda y, p: tf.zeros([4, 2, 2]),
            "must return losses [batch, ...] of the dim",
        ),
    ],
)
def test_a_loss_that_is_not_per_example_is_refused(loss, message, batch):
    y, outputs = tf.TensorSpec([batch]), tf.TensorSpec([batch, 1])
    for data_loss, name in ((loss, ""), ([loss], "['0']")):
        objective = objectives.Objective(data_loss)
        pair = (y, outputs) if not name else ([y], [outputs])
        traced = tf.function(objective.__call__, autograph=False)
        with pytest.raises(
            ValueError, match=f"^{re.escape(f'data_loss{name} {message}')}"
        ):
            traced.get_concrete_function(*pair)


def test_losses_of_another_number_of_examples_are_refused():
    objective = objectives.Objective(lambda y, p: tf.reduce_mean(p, 0))
    message = "^data_loss must return the losses of the 4 examples, .*got \\(2,\\)"
    with pytest.raises(ValueError, match=message):
        objective(tf.zeros([4]), tf.zeros([4, 2]))


@pytest.mark.parametrize(
    "y, outputs, losses",
    [
        ([4], [4, 7, 5], [4]),  # CTC
        ([4, 3], [4, 3, 5], [4, 3]),
        ([4], [4, 2], [4, 2]),  # two quantiles
        ([4, 8, 8, 3], [4, 8, 8, 3], [4, 1, 1, 1]),
        ([4], [4, 1], [4, 1]),
        ([4, 1, 1], [4], [4, 1, 1]),
        ([4], None, [4, 3]),
    ],
)
def test_losses_of_many_shapes_are_per_example(y, outputs, losses):
    objective = objectives.Objective(lambda y, p: tf.zeros(losses))
    traced = tf.function(objective.__call__, autograph=False)
    specs = tf.TensorSpec(y), tf.TensorSpec(outputs)
    traced.get_concrete_function(*specs)


def test_a_named_tuple_is_a_tuple():
    Pair = collections.namedtuple("Pair", ["first", "second"])
    objective = objectives.Objective([losses.mean_squared_error] * 2)
    values = Pair(tf.zeros([2]), tf.ones([2]))
    assert list(objective(values, values)) == ["0", "1"]
