"""Initial weights from runs, Keras, NumPy and TF1: what matches, and what doesn't."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, optimizers
from tfreg.runs import config, weights


def make_model(classes=3):
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(classes),
        ]
    )


def train(directory):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    split = data.Split(x, rng.integers(0, 3, 40).astype(np.int32))
    model = make_model()
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, optimizers.adam(1e-2))
    tfreg.Trainer(tfreg.Loop(step, split, 10), directory=directory).run(2)
    return model


def same(a, b):
    pairs = zip(a.get_weights(), b.get_weights(), strict=True)
    return [np.array_equal(u, v) for u, v in pairs]


def test_a_run_is_loaded_whatever_keras_calls_the_layers(tmp_path):
    model = train(tmp_path / "a")
    other = make_model()
    assert model.layers[0].kernel.path != other.layers[0].kernel.path
    loaded = tfreg.load_weights(other, tmp_path / "a")
    assert all(same(model, other)) and len(loaded.loaded) == 8
    assert str(loaded).startswith(f"8 of 8 variables loaded from {tmp_path / 'a'}")


def test_what_does_not_fit_is_reported(tmp_path):
    model = train(tmp_path / "a")
    other = make_model(classes=7)
    loaded = tfreg.load_weights(other, tmp_path / "a")
    assert same(model, other) == [True] * 6 + [False] * 2
    assert [text.partition(" (")[2] for text in loaded.misshapen] == [
        "4x3, not 4x7)",
        "3, not 7)",
    ]
    part = tfreg.load_weights(make_model(), tmp_path / "a", pattern="batch_norm.*")
    assert len(part.loaded) == 4 and len(part.unused) == 4
    text = str(part)
    assert text.splitlines()[1].startswith("  not used: ")


def test_kerass_own_files_are_read(tmp_path):
    model = make_model()
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    for name in ("m.keras", "m.weights.h5"):
        other = make_model()
        assert len(tfreg.load_weights(other, tmp_path / name).loaded) == 8
        assert all(same(model, other))
    part = make_model()
    before = part.get_weights()
    loaded = tfreg.load_weights(part, tmp_path / "m.weights.h5", pattern="kernel")
    assert len(loaded.loaded) == 2
    kept = [
        np.array_equal(u, v) for u, v in zip(part.get_weights(), before, strict=True)
    ]
    assert kept == [False, *[True] * 5, False, True]
    with pytest.raises(weights.WeightsError, match="for a Keras model, not a MLP"):
        mlp = tfreg.models.MLP([2])
        mlp(tf.zeros([1, 3]))
        tfreg.load_weights(mlp, tmp_path / "m.weights.h5")


def test_numpy_and_tf1_are_read_by_name(tmp_path, rng):
    values = {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}
    np.savez(tmp_path / "a.npz", **values)
    with tf.Graph().as_default():
        made = [
            tf.compat.v1.get_variable(f"fc/{name}", initializer=np.float32(value))
            for name, value in values.items()
        ]
        with tf.compat.v1.Session() as session:
            session.run([v.initializer for v in made])
            tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    for name, rename in (
        ("a.npz", {"dense_0/kernel": "w", "dense_0/bias": "b"}),
        ("model.ckpt", {"dense_0/kernel": "fc/w", "dense_0/bias": "fc/b"}),
        ("model.ckpt.index", {"dense_0/kernel": "fc/w", "dense_0/bias": "fc/b"}),
    ):
        model = tfreg.models.MLP([2])
        model(tf.zeros([1, 3]))
        names = tfreg.models.adapt(model).names.values()
        assert {"dense_0/kernel", "dense_0/bias"} == set(names)
        loaded = tfreg.load_weights(model, tmp_path / name, rename=rename)
        assert len(loaded.loaded) == 2
        got = {v.shape.rank: v.numpy() for v in model.variables}
        np.testing.assert_allclose(got[2], values["w"], rtol=1e-6)
        np.testing.assert_allclose(got[1], values["b"], rtol=1e-6)


def test_the_distance_from_the_loaded_weights_is_penalized(tmp_path, rng):
    model = train(tmp_path / "a")
    other = make_model()
    tfreg.load_weights(other, tmp_path / "a")
    tfreg.rules.apply("l2_sp(0.5)@kernel", other)
    start = [v.numpy() for v in other.trainable_variables if len(v.shape) == 2]

    def make_trainer():
        x = rng.normal(size=(40, 5)).astype(np.float32)
        split = data.Split(x, rng.integers(0, 3, 40).astype(np.int32))
        loss = tfreg.losses.sparse_softmax_cross_entropy
        step = tfreg.Step(other, loss, optimizers.sgd(0.1))
        return tfreg.Trainer(tfreg.Loop(step, split, 10), directory=tmp_path / "b")

    trainer = make_trainer()
    trainer.run(1)
    report = trainer.loop.evaluate(trainer.loop.source)
    now = [v.numpy() for v in other.trainable_variables if len(v.shape) == 2]
    want = sum(np.sum((a - b) ** 2) for a, b in zip(now, start, strict=True)) / 4
    assert want > 0 and report.regularization == pytest.approx(want, rel=1e-5)
    assert not all(same(model, other))
    # The references are saved: a resumed run keeps them, whatever it starts from.
    again = make_model()
    tfreg.rules.apply("l2_sp(0.5)@kernel", again)
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(again, loss, optimizers.sgd(0.1))
    resumed = tfreg.Trainer(tfreg.Loop(step, trainer.loop.source, 10), directory=None)
    resumed.restore(tmp_path / "b")
    got = resumed.loop.evaluate(trainer.loop.source).regularization
    assert got == pytest.approx(want, rel=1e-5)


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    model = make_model()
    (tmp_path / "bad.npz").write_bytes(b"no")
    (tmp_path / "bad.keras").write_bytes(b"no")
    for name in ("missing", "bad.npz", "bad.keras", "missing.weights.h5"):
        with pytest.raises(weights.WeightsError, match="weights must be in a run"):
            tfreg.load_weights(model, tmp_path / name)
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(weights.WeightsError, match="with other, and the variables are"):
        tfreg.load_weights(model, tmp_path / "a.npz")
    with pytest.raises(ValueError, match="a pattern must be a regular expression"):
        tfreg.load_weights(model, tmp_path / "a.npz", pattern="(")
    with pytest.raises(ValueError, match="model must have variables, got none"):
        tfreg.load_weights(tfreg.models.MLP([2]), tmp_path / "a.npz")
    with pytest.raises(ValueError, match="variables of l2_sp.* must exist"):
        tfreg.rules.apply("l2_sp(0.1)@kernel", tfreg.models.MLP([2]))


def test_the_command_starts_from_a_run(tmp_path):
    plain = config.Config(
        dataset="npz",
        data_dir=str(tmp_path / "d.npz"),
        hidden=(4,),
        epochs=1,
        logdir=str(tmp_path),
        run_name="a",
    )
    rng = np.random.default_rng(0)
    parts = {}
    for name in ("train", "test"):
        parts[f"x_{name}"] = rng.normal(size=(60, 5)).astype(np.float32)
        parts[f"y_{name}"] = rng.integers(0, 3, 60)
    np.savez(tmp_path / "d.npz", **parts)
    tfreg.runs.train(plain)
    import dataclasses

    settings = dataclasses.replace(
        plain,
        run_name="b",
        init_from=str(tmp_path / "a"),
        reg="l2_sp",
        scale="linear(0.0, 1e-2, 5)",
        ema=0.9,
        schedule="linear",
        monitor="validation/accuracy",
        patience=2,
    )
    said = []
    result = tfreg.runs.train(settings, log=said.append)
    assert said[0].startswith("4 of 4 variables loaded from")
    assert set(result["train"]["terms"]) and result["train"]["regularization"] > 0
    assert tfreg.runs.evaluate(tmp_path / "b")["loss"] == result["test"]["loss"]
    with pytest.raises(weights.WeightsError, match="weights must be in a run"):
        tfreg.runs.train(dataclasses.replace(settings, run_name="c", init_from="no"))
    assert not (tmp_path / "c").exists()
