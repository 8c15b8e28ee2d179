"""The same bits twice, pooling that is differentiated so, and what TF32 is said of."""

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from tensorflow.python.framework import config as switches

import tfreg
from tfreg import data, layers, losses, models, optimizers, runs
from tfreg.cli import commandline
from tfreg.collections import store
from tfreg.layers import pooling
from tfreg.runs import config
from tfreg.training import exactness, loop, step


@pytest.fixture
def deterministic():
    tf.config.experimental.enable_op_determinism()
    yield
    switches.disable_op_determinism()


def differentiate(pool, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = pool(x)
    return y, tape.gradient(y, x, upstream)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float64])
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
def test_pooling_is_tensorflows_to_the_bit_ties_included(dtype, window, rng):
    # Few values, so that most windows have ties; 7 x 9 leaves rows and columns over.
    x = tf.constant(rng.integers(-1, 2, (2, 7, 9, 3)), dtype)
    shape = [2, 7 // window[0], 9 // window[1], 3]
    upstream = tf.constant(rng.normal(size=shape), dtype)

    def theirs(x):
        return tf.nn.max_pool2d(x, window, window, "VALID")

    def ours(x):
        return pooling.max_pool_windows(x, *window)

    want = differentiate(theirs, x, upstream)
    spec = tf.TensorSpec([None, None, None, 3], dtype)
    unknown = tf.function(
        lambda x, u: differentiate(ours, x, u), input_signature=[spec, spec]
    )
    known = tf.function(lambda x, u: differentiate(ours, x, u), jit_compile=True)
    for run in (lambda x, u: differentiate(ours, x, u), unknown, known):
        for got, wanted in zip(run(x, upstream), want, strict=True):
            assert got.dtype == dtype
            np.testing.assert_array_equal(got.numpy(), wanted.numpy())


def make_loop(model, **options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 28, 28, 1)).astype(np.float32)
    split = data.Split(x, np.arange(8, dtype=np.int32) % 3)
    args = model, losses.sparse_softmax_cross_entropy, optimizers.adam(0.01)
    return loop.Loop(step.Step(*args), split, 4, **options)


def list_operations(made):
    args = made._feed.make_specs(4)
    graph = tf.function(made._train_batch).get_concrete_function(*args).graph
    return {operation.type for operation in graph.get_operations()}


def test_a_lenet_is_trained_twice_and_resumed_to_the_bit_in_xla(deterministic):
    made = make_loop(models.CNN(3, seed=0), compile="xla", steps_per_call=1)
    state = [v for part in made.get_state().values() for v in part.variables]
    saved = [[v.numpy() for v in state]]
    bits, sums = [], None
    for start in (0, 0, 1):
        for variable, value in zip(state, saved[start], strict=True):
            variable.assign(value)
        for report in made.iterate(0, start, sums if start else None):
            if report.num_steps == 1:
                saved.append([v.numpy() for v in state])
                sums = made.sums
        bits.append([v.numpy().tobytes() for v in state])
    assert bits[0] == bits[1] == bits[2]
    assert bits[0] != [np.asarray(value).tobytes() for value in saved[0]]


def test_only_what_is_deterministic_has_pooling_of_its_own():
    made = make_loop(models.CNN(3))
    assert "MaxPoolGrad" in list_operations(made)
    try:
        trainer = tfreg.Trainer(made, deterministic=True, log=print)
        assert trainer.loop is made and exactness.is_enabled()
        assert "MaxPoolGrad" not in list_operations(made)
    finally:
        switches.disable_op_determinism()


def test_an_operation_without_a_deterministic_kernel_is_named(deterministic):
    # Its windows overlap.
    pool = layers.Sequential(
        [
            layers.Flatten(),
            layers.Dense(64),
            lambda x: tf.reshape(x, [-1, 8, 8, 1]),
            lambda x: layers.max_pool2d(x, 3, 2, "VALID"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    made = make_loop(pool, compile="xla")
    with pytest.raises(ValueError, match="must be deterministic, got.*MaxPool.*graph"):
        made.train(0)
    made = make_loop(pool)
    made.train(0)
    assert "MaxPoolGrad" in made.mode.reasons[0]


@pytest.fixture
def card(monkeypatch):
    """Stands in for a GPU; returns its compute capability and what was switched."""
    known = {"compute_capability": (9, 0)}
    calls = []
    experimental = tf.config.experimental
    monkeypatch.setattr(exactness, "_list_gpus", lambda: ["GPU:0"])
    monkeypatch.setattr(experimental, "get_device_details", lambda gpu: known)
    monkeypatch.setattr(experimental, "enable_tensor_float_32_execution", calls.append)
    return known, calls


def test_float32_is_float32_on_a_card_that_has_tf32(card):
    known, calls = card
    for precision in ("float32", "tf32", "bfloat16"):
        exactness.use(precision)
    assert calls == [False, True, False]
    want = {"precision": "tf32", "deterministic": False}
    assert exactness.describe("tf32") == want
    assert exactness.describe("float32") == want | {"precision": "float32"}
    notes = exactness.list_notes("tf32")
    assert [note[:5] for note in notes] == ["tf32:", "on th"]
    assert exactness.list_notes("float32") == notes[1:]
    known["compute_capability"] = (7, 5)
    assert exactness.describe("tf32")["precision"] == "float32"
    assert exactness.list_notes("tf32") == notes[1:]


def test_a_deterministic_card_has_nothing_to_say(card, deterministic):
    assert exactness.list_notes("float32") == []
    assert exactness.describe("float32")["deterministic"]


def test_tf32_means_nothing_on_a_cpu_and_result_json_says_what_is_computed(tmp_path):
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    said, results = [], []
    options = {"hidden": (4,), "epochs": 1, "train_examples": 64, "strategy": "one"}
    for precision in ("float32", "tf32"):
        settings = config.Config(
            **options, precision=precision, logdir=str(tmp_path), run_name=precision
        )
        with store.Store(seed=0).as_default():
            results.append(runs.train(settings, log=said.append))
    assert results[0]["test"] == results[1]["test"]
    for result in results:
        assert result["precision"] == "float32" and result["deterministic"] is True
    assert not [line for line in said if "32" in line or "bits" in line]
    assert tf.config.experimental.tensor_float_32_execution_enabled() == before


@pytest.mark.parametrize(
    ("arguments", "want"),
    [([], False), (["--deterministic"], True), (["--nodeterministic"], False)],
)
def test_the_flag_is_a_switch(arguments, want):
    values = flags.FlagValues()
    commandline.define_config(values)
    commandline.parse(values, ["train", *arguments])
    settings = commandline.make_config(values, config.Config())
    assert settings.deterministic is want
