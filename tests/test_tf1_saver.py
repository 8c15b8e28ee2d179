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


OPTIMIZERS = {
    "Adam": lambda: v1.train.AdamOptimizer(0.01),
    "Momentum": lambda: v1.train.MomentumOptimizer(0.01, 0.9, use_nesterov=True),
    "RMSProp": lambda: v1.train.RMSPropOptimizer(0.01, momentum=0.9, centered=True),
    "Adagrad": lambda: v1.train.AdagradOptimizer(0.01),
    "Ftrl": lambda: v1.train.FtrlOptimizer(0.01),
    "Adadelta": lambda: v1.train.AdadeltaOptimizer(0.01),
}
BATCHES = np.random.default_rng(0).normal(size=[40, 4, 2]).astype("float32")


def compute_loss(t, x):
    return tf.reduce_mean((forward(t, x) - 1.0) ** 2)


def train_old(path, kind):
    """Trains 40 steps by TF1, saving after 20; returns the losses and the averages."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [4, 2])
        loss = compute_loss(v1, x)
        step = v1.train.get_or_create_global_step()
        update = OPTIMIZERS[kind]().minimize(loss, step)
        averages = v1.train.ExponentialMovingAverage(0.9, step)
        with tf.control_dependencies([update]):
            update = averages.apply(v1.trainable_variables())
        shadows = [averages.average(v) for v in v1.trainable_variables()]
        session.run(v1.global_variables_initializer())
        losses = []
        for number, batch in enumerate(BATCHES):
            if number == 20:
                v1.train.Saver().save(session, path, write_meta_graph=False)
            losses.append(session.run([loss, update], {x: batch})[0])
        return losses[20:], session.run([*v1.trainable_variables(), *shadows])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_training_of_tf1_goes_on(kind, tmp_path):
    path = str(tmp_path / "model.ckpt")
    losses, values = train_old(path, kind)
    step = tf1.get_or_create_global_step()
    net, optimizer = tf1.Model(lambda x: compute_loss(tf1, x)), OPTIMIZERS[kind]()
    averages = tf.train.ExponentialMovingAverage(0.9, step)
    train_step = tf1.create_train_op(net, optimizer)
    net(BATCHES[0])
    report = tf1.restore(path, net, optimizer, averages)
    report.check()
    assert report.unused == () and int(step) == 20

    @tf.function
    def train(x):
        loss = train_step(x)
        averages.apply(net.trainable_variables)
        return loss

    got = [float(train(batch)) for batch in BATCHES[20:]]
    np.testing.assert_allclose(got, losses, rtol=1e-6)
    ours = [*net.trainable_variables]
    ours += [averages.average(v) for v in net.trainable_variables]
    for variable, value in zip(ours, values, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-6, atol=1e-6)


def test_two_optimizers_of_a_kind_are_saved_under_tf1s_names(net, tmp_path):
    first, second = (OPTIMIZERS["Adam"]() for _ in range(2))
    w, scale = net.variables[0], net.variables[2]
    pairs = [(first, [w]), (second, [scale, w])]
    path = tf1.save(str(tmp_path / "model.ckpt"), net, pairs)
    names = [name for name, _ in tf.train.list_variables(path)]
    with tf.Graph().as_default():
        loss = tf.reduce_sum(forward(v1, tf.ones([1, 2])))
        w, _, scale = v1.global_variables()
        OPTIMIZERS["Adam"]().minimize(loss, var_list=[w])
        OPTIMIZERS["Adam"]().minimize(loss, var_list=[scale, w])
        assert names == sorted(v.op.name for v in v1.global_variables())


def test_the_slots_of_optimize_loss_are_found(net, tmp_path):
    path, optimizer = str(tmp_path / "model.ckpt"), OPTIMIZERS["Momentum"]()
    with tf.Graph().as_default(), v1.Session() as session:
        loss = tf.reduce_sum(forward(v1, tf.ones([1, 2])))
        with v1.variable_scope("OptimizeLoss"):
            update = v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
        session.run(v1.global_variables_initializer())
        session.run(update)
        v1.train.Saver().save(session, path, write_meta_graph=False)
    tf1.restore(path, net, optimizer).check()
    slot = optimizer.get_slot(net.variables[0], "momentum")
    np.testing.assert_array_equal(slot, np.ones([2, 3]))


def test_replicas_go_on_too(two_replicas, tmp_path):
    path = str(tmp_path / "model.ckpt")
    losses, _ = train_old(path, "Adam")
    with two_replicas.scope():
        tf1.get_or_create_global_step()
        net, optimizer = tf1.Model(lambda x: compute_loss(tf1, x)), OPTIMIZERS["Adam"]()
        step = tf1.create_train_op(lambda x: tf1.losses.total_loss(net(x)), optimizer)
        net(BATCHES[0])
        tf1.restore(path, net, optimizer).check()

    @tf.function
    def train(x):
        parts = two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.split(x, 2)[context.replica_id_in_sync_group]
        )
        return two_replicas.reduce("SUM", two_replicas.run(step, (parts,)), axis=None)

    got = [float(train(tf.constant(batch))) for batch in BATCHES[20:]]
    np.testing.assert_allclose(got, losses, rtol=1e-6)


def test_an_optimizer_that_tf1_never_had_is_refused(net, tmp_path):
    path = tf1.save(str(tmp_path / "model.ckpt"), net)
    with pytest.raises(TypeError, match="optimizer must be of tf.compat.v1.train"):
        tf1.restore(path, net, tfreg.optimizers.adam(0.1))
