"""TF1's checkpoints, against tf.compat.v1.train.Saver."""

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import tf1

v1 = tf.compat.v1


def forward(t, x, size=3):
    with t.variable_scope("fc", reuse=t.AUTO_REUSE):
        w = t.get_variable("w", [2, size])
        b = t.get_variable("b", [size], trainable=False)
    with t.variable_scope("out"):
        return x @ w + b + t.get_variable("scale", [], tf.float32)


def write_old(path, size=3, partitioner=None):
    """Writes a checkpoint by TF1 and returns its values by name."""
    with tf.Graph().as_default(), v1.Session() as session:
        with v1.variable_scope("", partitioner=partitioner):
            outputs = forward(v1, tf.ones([1, 2]), size)
        step = v1.train.get_or_create_global_step()
        v1.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(outputs), step)
        session.run(v1.global_variables_initializer())
        session.run(v1.assign(step, 7))
        v1.train.Saver().save(session, path, write_meta_graph=False)
        return session.run(outputs)


@pytest.fixture
def net():
    net = tf1.Model(lambda x: forward(tf1, x))
    net(tf.ones([1, 2]))
    return net


@pytest.mark.parametrize("partitioned", [False, True])
def test_a_checkpoint_of_tf1_is_restored_by_name(net, tmp_path, partitioned):
    path = str(tmp_path / "model.ckpt")
    split = v1.fixed_size_partitioner(2, axis=-1) if partitioned else None
    truth = write_old(path, partitioner=split)
    step = tf1.get_or_create_global_step()
    report = tf1.restore(path, net)
    np.testing.assert_allclose(net(tf.ones([1, 2])), truth, rtol=1e-6)
    assert int(step.numpy()) == 7
    assert report.restored == ("fc/w", "fc/b", "out/scale", "global_step")
    assert report.missing == () and report.different == {}
    assert "beta1_power" in report.unused
    report.check()
    assert tf1.restore(str(tmp_path), net).restored == report.restored  # The latest.


def test_what_does_not_fit_is_reported_and_stays(tmp_path):
    path = str(tmp_path / "model.ckpt")
    write_old(path, size=4)

    def other(x):
        with tf1.variable_scope("new"):
            tf1.get_variable("w", [], initializer=tf.ones_initializer())
        return forward(tf1, x)

    net = tf1.Model(other)
    before = [v.numpy() for v in (net(tf.ones([1, 2])), *net.variables)][1:]
    report = tf1.restore(path, net)
    assert report.restored == ("out/scale",)
    assert report.missing == ("new/w",)
    assert report.different == {
        "fc/b": "float32 [4] in it and float32 [3] in the model",
        "fc/w": "float32 [2, 4] in it and float32 [2, 3] in the model",
    }
    for variable, value in zip(net.variables[:3], before[:3], strict=True):
        np.testing.assert_array_equal(variable, value)
    message = "got new/w is missing; fc/b is float32 .4. in it and float32 .3. in the"
    with pytest.raises(ValueError, match=message):
        report.check()


def test_tf1_restores_what_was_saved(net, tmp_path):
    tf1.get_or_create_global_step().assign(5)
    path = tf1.save(str(tmp_path / "model.ckpt"), net)
    truth = net(tf.ones([1, 2]))
    with tf.Graph().as_default(), v1.Session() as session:
        outputs = forward(v1, tf.ones([1, 2]))
        step = v1.train.get_or_create_global_step()
        v1.train.Saver().restore(session, path)
        np.testing.assert_allclose(session.run(outputs), truth, rtol=1e-6)
        assert session.run(step) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
    ]


def test_replicas_are_restored_and_saved(two_replicas, tmp_path):
    path = str(tmp_path / "model.ckpt")
    truth = write_old(path)
    with two_replicas.scope():
        net = tf1.Model(lambda x: forward(tf1, x))
        net(tf.ones([1, 2]))
    tf1.restore(path, net).check()
    run = tf.function(lambda: two_replicas.run(net, (tf.ones([1, 2]),)))
    for result in two_replicas.experimental_local_results(run()):
        np.testing.assert_allclose(result, truth, rtol=1e-6)
    tf1.save(str(tmp_path / "again"), net)
    with tfreg.Store().as_default():
        alone = tf1.Model(lambda x: forward(tf1, x))
        alone(tf.ones([1, 2]))
        tf1.restore(str(tmp_path / "again"), alone).check()
    np.testing.assert_allclose(alone(tf.ones([1, 2])), truth, rtol=1e-6)


def test_checkpoints_that_do_not_fit_at_all_are_refused(net, tmp_path):
    with pytest.raises(ValueError, match="model .*variables"):
        tf1.restore(str(tmp_path / "model.ckpt"), tf1.Model(lambda: None))
    with pytest.raises(ValueError, match="model .*variables"):
        tf1.save(str(tmp_path / "model.ckpt"), tf1.VariableStore())
    with pytest.raises(tf.errors.OpError):
        tf1.restore(str(tmp_path / "none.ckpt"), net)
    other = tf1.Model(lambda: tf1.get_variable("other", []))
    other()
    path = tf1.save(str(tmp_path / "other.ckpt"), other)
    with pytest.raises(ValueError, match=r"\['other'\]"):
        tf1.restore(path, net)


def test_a_damaged_checkpoint_leaves_the_model_as_it_was(net, tmp_path):
    path = tf1.save(str(tmp_path / "model.ckpt"), net)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1  # Of the last variable.
    data.write_bytes(content)
    for variable in net.variables:
        variable.assign(variable + 1.0)
    before = [variable.numpy() for variable in net.variables]
    with pytest.raises(tf.errors.OpError):
        tf1.restore(path, net)
    for variable, value in zip(net.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
