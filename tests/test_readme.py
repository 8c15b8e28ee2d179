"""The README's Python runs as it stands, and does what is said of it."""

import pathlib
import re
import textwrap

import numpy as np
import pytest
import tensorflow as tf

import tfreg

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
OWN, REPLICAS, CLIP, FAST = re.findall(
    r"^```python\n(.*?)^```",
    README.read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


def run(code, names=None):
    names = {} if names is None else names
    # Its own store, so that one example's penalties are not in another's total.
    with tfreg.Store().as_default():
        exec(compile(code, "README.md", "exec"), names)
    return names


def test_own_loop_is_the_data_loss_plus_half_the_squares(capsys):
    names = run(OWN)
    assert np.isfinite(float(re.search(r"\d+\.\d+", capsys.readouterr().out)[0]))
    kernels = [v.numpy() for v in names["model"].variables if v.shape.rank == 2]
    with tfreg.Store().as_default() as fresh:
        for kernel in kernels:
            variable = tf.Variable(kernel)
            kept = fresh.add_term("w", names["regularizer"], [variable])
            expected = 1e-4 * np.sum(kernel.astype(np.float64) ** 2) / 2
            # Float32 sums of 100,000 squares.
            np.testing.assert_allclose(kept(), expected, rtol=1e-5)


def test_own_loop_learns():
    names = run(OWN)
    x = tf.cast(names["x"], tf.float32)
    with tfreg.Store().as_default():
        losses = [float(names["train_step"](x, names["y"])) for _ in range(20)]
    assert losses[-1] < losses[0] / 2


def test_replicas_share_is_the_total_of_one_device():
    names = run(OWN)
    x = tf.cast(names["x"], tf.float32)
    with tfreg.Store().as_default():
        exec(compile(REPLICAS, "README.md", "exec"), names)
        names["distributed_step"](x, names["y"])
        kernels = [v for v in names["model"].variables if v.shape.rank == 2]
        logits = names["model"](x)
        expected = np.mean(
            tfreg.losses.sparse_softmax_cross_entropy(names["y"], logits)
        ) + sum(1e-4 * np.sum(k.numpy() ** 2) / 2 for k in kernels)
        got = names["distributed_step"](x, names["y"])
    # Float32.
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_clipping_in_a_loop_of_ones_own_is_of_the_sum():
    names = run(OWN)
    x, y = tf.cast(names["x"], tf.float32), names["y"]
    clip = textwrap.indent(CLIP.replace("1.0", "0.125"), "    ")
    plain = "    optimizer.apply(tape.gradient(loss, variables), variables)\n"
    code = REPLICAS.replace(plain, clip).replace("adam(1e-3)", "sgd(1.0)")
    code = code.replace("Strategy()", "Strategy(['CPU:0', 'CPU:1'])")
    # TensorFlow's collectives remember a group's size as long as the process lives.
    tf.distribute.MirroredStrategy._collective_key_base += 100
    with tfreg.Store().as_default():
        exec(compile(code, "README.md", "exec"), names)
        strategy, model = names["strategy"], names["model"]
        with strategy.scope():
            model(x)
        kernels = [v.numpy() for v in model.trainable_variables]
        halves = [
            strategy.experimental_distribute_values_from_function(
                lambda context, part=part: part[context.replica_id_in_sync_group :: 2]
            )
            for part in (x, y)
        ]
        names["distributed_step"](*halves)
    with tfreg.Store().as_default(), tf.GradientTape() as tape:
        alone = tfreg.models.MLP([128, 10], kernel_regularizer=names["regularizer"])
        alone(x)
        for variable, value in zip(alone.trainable_variables, kernels, strict=True):
            variable.assign(value)
        per_example = tfreg.losses.sparse_softmax_cross_entropy(y, alone(x))
        total = tfreg.losses.total_loss(per_example)
    found = tape.gradient(total, alone.trainable_variables)
    found, norm = tf.clip_by_global_norm(found, 0.125)
    assert norm > 0.25
    pairs = zip(model.trainable_variables, kernels, found, strict=True)
    for variable, kernel, gradient in pairs:
        for copy in strategy.experimental_local_results(variable):
            # Float32, of weights around 0.05.
            np.testing.assert_allclose(copy, kernel - gradient, atol=1e-7)


def test_fast_loop_learns(capsys):
    run(FAST)
    lines = capsys.readouterr().out.splitlines()
    totals = [float(line.split()[1]) for line in lines]
    assert len(lines) == 3
    assert totals[2] < totals[0]
    assert float(lines[-1].split()[2]) > 0.85


@pytest.mark.parametrize(
    "number, name", [(1.0, "contrib's"), (2.0, "Keras's, which has no half")]
)
def test_table_tells_the_half(number, name):
    import keras

    w = tf.constant([[1.0, -2.0], [3.0, 0.5]])
    ours = tfreg.l2_regularizer(number * 0.01)(w)
    theirs = 0.01 * tf.nn.l2_loss(w) if number == 1 else keras.regularizers.L2(0.01)(w)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)
