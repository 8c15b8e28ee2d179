"""Models made without a seed: apart from each other, and alike in every run."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import layers, models, tf1
from tfreg.collections import seeds


def start(model, shape=(1, 12, 12, 1)):
    model(tf.zeros(shape))
    weights = [v.numpy().ravel() for v in model.variables if v.shape.rank > 1]
    return np.concatenate(weights)


def dense_model():
    return layers.Sequential([layers.Flatten(), layers.Dense(4), layers.Dense(4)])


def tf1_model():
    def forward(x):
        x = tf1.core_layers.conv2d(x, 2, 3)
        return tf1.layers.fully_connected(tf1.layers.flatten(x), 4)

    return tf1.Model(forward)


class Towers(tf.Module):
    def __init__(self):
        super().__init__()
        self.towers = [layers.Dense(4), layers.Dense(4)]

    def __call__(self, x):
        return tf.add_n([tower(x) for tower in self.towers])


MAKERS = {
    "mlp": lambda: models.MLP([4, 3]),
    "cnn": lambda: models.CNN(3),
    "sequential": dense_model,
    "tf1": tf1_model,
    "embedding": lambda: layers.Embedding(5, 3),
    "separable": lambda: layers.SeparableConv2D(2, 3),
    "towers": Towers,
}


def start_kind(kind):
    if kind == "embedding":
        model = MAKERS[kind]()
        model(tf.zeros([2], tf.int32))
        return model.embeddings.numpy().ravel()
    return start(MAKERS[kind]())


@pytest.mark.parametrize("kind", list(MAKERS))
def test_models_start_apart_and_a_second_run_starts_alike(kind):
    runs = []
    for _ in range(2):
        with tfreg.Store(seed=0).as_default():
            runs.append([start_kind(kind) for _ in range(3)])
    np.testing.assert_array_equal(runs[0], runs[1])
    for i in range(3):
        for j in range(i):
            assert not np.isclose(runs[0][i], runs[0][j]).any()


def test_two_towers_of_one_model_start_apart():
    model = Towers()
    start(model)
    one, other = (tower.kernel.numpy() for tower in model.towers)
    assert not np.isclose(one, other).any()


@pytest.mark.parametrize("kind", ["mlp", "cnn", "tf1", "dense"])
def test_a_seed_pins_the_start(kind):
    make = {
        "mlp": lambda seed: models.MLP([4, 3], seed=seed),
        "cnn": lambda seed: models.CNN(3, seed=seed),
        "tf1": lambda seed: tf1.Model(tf1_model()._forward, seed=seed),
        "dense": lambda seed: layers.Dense(4, seed=seed),
    }[kind]
    first = start(make(7))
    models.MLP([2])  # Takes a number.
    np.testing.assert_array_equal(start(make(7)), first)
    assert not np.isclose(start(make(8)), first).any()


def test_models_in_stores_of_their_own_start_apart():
    starts = []
    for _ in range(3):
        with tfreg.Store().as_default():
            starts.append(start(models.MLP([4])))
    assert len({w.tobytes() for w in starts}) == 3


def test_the_order_of_calls_changes_nothing():
    starts = []
    for order in ([0, 1, 2], [2, 0, 1]):
        with tfreg.Store(seed=0).as_default():
            made = [layers.Dense(4), layers.Dense(4), models.MLP([4])]
            for i in order:
                made[i](tf.zeros([1, 5]))
            starts.append([start(m, (1, 5)) for m in made])
    np.testing.assert_array_equal(starts[0], starts[1])


def test_threads_start_apart_and_alike_in_every_run():
    names = {i: f"member {i}" for i in range(3)}
    found = []
    for order in ([0, 1, 2], [2, 1, 0]):
        store = tfreg.Store(seed=0)
        made, turns = {}, {i: threading.Event() for i in order}

        def make(i, store=store, made=made, turns=turns):
            turns[i].wait(60)
            with store.as_default():
                made[i] = start(models.MLP([4])), start(models.MLP([4]))

        threads = {
            i: threading.Thread(target=make, args=(i,), name=names[i]) for i in order
        }
        for thread in threads.values():
            thread.start()
        for i in order:
            turns[i].set()
            threads[i].join()
        found.append(np.array([made[i] for i in range(3)]))
    np.testing.assert_array_equal(found[0], found[1])
    assert len({w.tobytes() for w in found[0].reshape(6, -1)}) == 6


def test_threads_of_one_name_start_apart():
    taken, store = [], seeds.Seeds(0)
    for _ in range(3):
        thread = threading.Thread(
            target=lambda: taken.extend([store.take(), store.take()]), name="worker"
        )
        thread.start()
        thread.join()
    taken.append(store.take())
    assert len(set(taken)) == 7


PROGRAM = """
import concurrent.futures, threading
import tensorflow as tf
import tfreg

def show(model):
    model(tf.zeros([1, 3]))
    print(hash(tuple(model.trainable_variables[-1].numpy().ravel().tolist())))

for _ in range(2):
    show(tfreg.models.MLP([4]))
made = {}
def make(i):
    made[i] = tfreg.models.MLP([4])
threads = [threading.Thread(target=make, args=(i,)) for i in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for i in range(4):
    show(made[i])
def work(i):
    with tfreg.Store(seed=i).as_default():
        return tfreg.models.MLP([4])
with concurrent.futures.ThreadPoolExecutor(3) as pool:
    for model in pool.map(work, range(1, 5)):
        show(model)
"""


@pytest.mark.slow
def test_a_program_has_the_same_models_in_every_process():
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert runs[0] == runs[1] and len(set(runs[0])) == 10


def test_a_model_made_after_a_restore_starts_apart(tmp_path):
    with tfreg.Store(seed=0).as_default():
        saved = models.MLP([4])
        first = start(saved)
        path = tf.train.Checkpoint(model=saved).save(str(tmp_path / "a"))
    with tfreg.Store(seed=1).as_default():
        model = models.MLP([4])
        status = tf.train.Checkpoint(model=model).restore(path)
        second = models.MLP([4])
        np.testing.assert_array_equal(start(model), first)
        status.assert_consumed()
        assert not np.isclose(start(second), first).any()


def test_set_seed_of_tensorflow_changes_nothing():
    starts = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        with tfreg.Store(seed=0).as_default():
            starts.append(start(models.MLP([4])))
    np.testing.assert_array_equal(starts[0], starts[1])


def test_replicas_that_make_a_layer_start_alike(two_replicas):
    made = []

    def run():
        made.append(layers.Dense(3).seed)
        return tf.zeros([])

    with tfreg.Store(seed=0).as_default():
        for _ in range(2):
            two_replicas.run(run)
    assert len(made) == 4 and len(set(made)) == 2
