"""What a Split takes and refuses, and inputs that a compiled loop can't use."""

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg.training import recovery

X, Y = np.ones([4, 2], np.float32), np.zeros(4, np.int32)


class Frame:
    """Stands for a pandas frame or series."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def to_numpy(self):
        return self.values


@pytest.mark.parametrize("make", [list, tuple, np.asarray, tf.constant, Frame])
def test_arrays_of_any_kind_are_taken(make):
    split = tfreg.data.Split(make(X.tolist()), make(Y.tolist()))
    np.testing.assert_array_equal(split.x, X)
    np.testing.assert_array_equal(split.y, Y)
    assert len(split) == 4


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(tfreg.data.Split(x, Y).x, np.memmap)


@pytest.mark.parametrize(
    ("x", "y", "kind", "message"),
    [
        (X, np.zeros(8), ValueError, "x and y must .* got 4 and 8"),
        (X[:0], Y, ValueError, "got 0 and 4"),
        ({"a": X, "b": {"c": X[:2]}}, Y, ValueError, r'x\["a"\] and x\["b"\]\["c"\] '),
        ({"a": X}, (Y, Y[:1]), ValueError, r'x\["a"\] and y\[1\] must .* got 4 and 1'),
        ({}, Y, ValueError, "x must hold an array, got {}"),
        (X, (), ValueError, r"y must hold an array, got \(\)"),
        ([[1], [1, 2], [3], [4]], Y, ValueError, "x must .*tf.ragged.constant"),
        (["a", 1, "b", 2], Y, TypeError, "x must be .* texts, got values of object"),
        (X, np.array(["cat", "dog"] * 2), TypeError, "y must be .*np.unique"),
        (np.array([{}, {}, {}, {}]), Y, TypeError, "x must be .*object"),
        (3.0, Y, ValueError, "x must be .*scalar"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_split_is_made(x, y, kind, message):
    with pytest.raises(kind, match=message):
        tfreg.data.Split(x, y)


@pytest.mark.parametrize(
    ("weights", "kind", "message"),
    [
        (True, TypeError, "weights must be .* got True: write pixels=True"),
        ({"a": Y, "b": Y}, TypeError, "weights must be an array .* got 2 of them"),
        (Y[:3], ValueError, "x and weights must have as many .* got 4 and 3: .*weight"),
        (["a"] * 4, TypeError, "weights must be an array of numbers, got .*object"),
    ],
)
def test_weights_are_one_array_of_numbers(weights, kind, message):
    with pytest.raises(kind, match=message):
        tfreg.data.Split(X, Y, weights)


def test_encoded_texts_are_classes():
    labels = np.array(["cat", "dog", "cat", "eel"])
    split = tfreg.data.Split(X, np.unique(labels, return_inverse=True)[1])
    assert split.y.tolist() == [0, 1, 0, 2]


def test_pixels_must_be_uint8():
    with pytest.raises(ValueError, match="x must be uint8 .* got float32"):
        tfreg.data.Split(X, Y, pixels=True)
    with pytest.raises(ValueError, match="x must be uint8 .* got float32, int32"):
        tfreg.data.Split({"a": X, "b": Y}, Y, pixels=True)
    assert tfreg.data.Split({"a": X, "b": Y.astype(np.uint8)}, Y, pixels=True).pixels


@pytest.mark.parametrize("label", [3, 7, -1])
def test_a_label_outside_of_the_classes_ends_a_compiled_training(label):
    model = tfreg.models.MLP([3], seed=0)
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, tfreg.optimizers.sgd(0.1))
    built = tfreg.Loop(step, tfreg.data.Split(X, [0, 1, label, 2]), batch_size=2)
    with pytest.raises(
        recovery.LossError, match="finite, got nan at step .*range of the labels"
    ):
        for epoch in range(2):
            built.train(epoch)
    assert all(np.isfinite(v).all() for v in model.variables)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tfreg.layers.Dense(1),
        lambda: tfreg.models.MLP([1]),
        lambda: tfreg.optimizers.sgd(0.1),
        lambda: tfreg.tf1.Model(lambda x: x),
    ],
)
def test_strategies_that_update_by_each_replica_are_refused_at_once(make):
    central = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"])
    with central.scope(), pytest.raises(ValueError, match="CentralStorageStrategy"):
        make()
