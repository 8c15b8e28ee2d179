"""contrib's layers, against tf_slim in a graph, and those of tf.layers."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf1_programs
import tf_slim

import tfreg
from tfreg import tf1

v1 = tf.compat.v1
pytestmark = [
    pytest.mark.usefixtures("mended_slim"),
    # What the truth is computed by is deprecated.
    pytest.mark.filterwarnings("ignore::UserWarning:tensorflow"),
]


def connect(t, x):
    x = t.layers.fully_connected(x, 7, weights_regularizer=t.l2_regularizer(0.1))
    x = t.layers.fully_connected(
        x,
        6,
        activation_fn=tf.nn.tanh,
        biases_regularizer=t.l1_regularizer(0.1),
        variables_collections=["vars"],
        outputs_collections="outs",
    )
    x = t.layers.fully_connected(x, 5, biases_initializer=None, trainable=False)
    x = t.layers.linear(x, 4, scope="last")
    return t.layers.softmax(t.layers.relu6(x, 3))


def connect_shared(t, x):
    with t.variable_scope("a"):
        x = t.layers.fully_connected(
            x, 12, scope="fc", weights_regularizer=t.l2_regularizer(0.1)
        )
        return t.layers.fully_connected(
            x, 12, scope="fc", reuse=True, weights_regularizer=t.l2_regularizer(0.1)
        )


def convolve(t, x):
    x = t.layers.conv2d(x, 4, 3, 2, weights_regularizer=t.l2_regularizer(0.1))
    x = t.layers.conv2d(x, 5, [3, 2], padding="VALID", activation_fn=None)
    x = t.layers.conv2d(
        x,
        4,
        3,
        rate=2,
        variables_collections={"weights": ["vars"], "biases": ["others"]},
        outputs_collections=["outs", "more"],
        scope="named",
    )
    x = t.layers.conv2d(
        x,
        3,
        1,
        normalizer_fn=t.layers.bias_add,
        normalizer_params={"regularizer": t.l1_regularizer(0.1)},
    )
    return t.layers.max_pool2d(x, 2, 1, scope="pool", outputs_collections="outs")


def convolve_back(t, x):
    x = t.layers.conv2d_transpose(x, 4, 3, 2, weights_regularizer=t.l2_regularizer(0.1))
    x = t.layers.conv2d_transpose(x, 2, [2, 3], [3, 1], padding="VALID")
    return t.layers.avg_pool2d(x, [2, 3])


def convolve_each(t, x):
    with t.variable_scope("s", regularizer=t.l1_regularizer(0.2)):
        x = t.layers.separable_conv2d(
            x,
            5,
            3,
            2,
            weights_regularizer=t.l2_regularizer(0.1),
            variables_collections={"weights": ["vars"]},
        )
        x = t.layers.separable_conv2d(
            x, None, [3, 2], stride=2, weights_regularizer=t.l2_regularizer(0.1)
        )
    return t.layers.separable_conv2d(x, 2, 3, 1, rate=2, biases_initializer=None)


def build_vgg(t, x):
    decay = t.l2_regularizer(0.1)
    functions = [t.layers.conv2d, t.layers.fully_connected]
    with t.variable_scope("vgg", values=[x]):
        with (
            t.arg_scope(functions, weights_regularizer=decay),
            t.arg_scope([t.layers.conv2d], padding="SAME", outputs_collections="outs"),
        ):
            x = t.layers.repeat(x, 2, t.layers.conv2d, 3, [3, 3], scope="conv1")
            x = t.layers.conv2d(x, 2, 3, weights_regularizer=None)
            x = t.layers.flatten(x)
            x = t.layers.stack(x, t.layers.fully_connected, [5, (4, tf.nn.tanh)])
        return t.layers.fully_connected(x, 3, scope="fc")


def penalize_twice(t, x):
    with t.variable_scope("a", regularizer=t.l1_regularizer(0.1)):
        x = t.layers.fully_connected(x, 3, weights_regularizer=t.l2_regularizer(0.1))
        return t.layers.bias_add(x, tf.nn.relu, regularizer=t.l2_regularizer(0.3))


def use_core_layers(t, x):
    decay = t.l2_regularizer(0.1)
    with t.variable_scope("a", regularizer=t.l1_regularizer(0.1)):
        x = t.core_layers.conv2d(x, 3, 3, kernel_regularizer=decay)
    x = t.core_layers.conv2d(
        x, 2, [2, 2], 2, "same", activation=tf.nn.relu, use_bias=False
    )
    x = t.core_layers.max_pooling2d(x, 2, 1)
    x = t.core_layers.average_pooling2d(x, 2, 1, "same")
    x = t.core_layers.flatten(t.core_layers.dropout(x))
    x = t.core_layers.dense(
        x, 4, tf.nn.relu, bias_regularizer=decay, activity_regularizer=decay
    )
    return t.core_layers.dense(x, 3, name="last", kernel_regularizer=decay)


PROGRAMS = [
    (connect, [4, 5]),
    (connect, [2, 3, 5]),
    (connect_shared, [4, 12]),
    (convolve, [2, 9, 8, 3]),
    (convolve_back, [2, 4, 5, 3]),
    (convolve_each, [2, 9, 8, 3]),
    (build_vgg, [2, 4, 5, 3]),
    (penalize_twice, [4, 5]),
    (use_core_layers, [3, 8, 9, 2]),
]


@pytest.mark.parametrize(("program", "shape"), PROGRAMS)
def test_layers_do_what_contribs_do(program, shape, rng):
    tf1_programs.compare(program, shape, rng)


def normalize_plain(layers, x, is_training):
    return layers.batch_norm(x, 0.9, is_training=is_training, updates_collections=None)


def normalize_everything(layers, x, is_training):
    l2 = tfreg.l2_regularizer(0.1)
    return layers.batch_norm(
        x,
        decay=0.8,
        scale=True,
        epsilon=0.1,
        activation_fn=tf.nn.relu,
        param_initializers={"beta": v1.constant_initializer(0.5)},
        param_regularizers={"beta": l2, "gamma": l2},
        updates_collections=None,
        is_training=is_training,
        variables_collections={"beta": ["vars"]},
        scope="bn",
    )


def normalize_unfused(layers, x, is_training):
    return layers.batch_norm(
        x,
        0.9,
        center=False,
        scale=True,
        fused=False,
        updates_collections=None,
        is_training=is_training,
    )


def normalize_a_convolution(layers, x, is_training):
    params = {"is_training": is_training, "updates_collections": None, "decay": 0.9}
    return layers.conv2d(
        x, 4, 3, normalizer_fn=layers.batch_norm, normalizer_params=params
    )


@pytest.mark.parametrize(
    ("program", "shape"),
    [
        (normalize_plain, [6, 3]),
        (normalize_plain, [5, 4, 3, 2]),
        (normalize_everything, [6, 3]),
        (normalize_everything, [5, 4, 3, 2]),
        (normalize_unfused, [5, 4, 3, 2]),
        (normalize_unfused, [5, 4, 2]),
        (normalize_a_convolution, [3, 4, 5, 2]),
    ],
)
def test_batch_norm_normalizes_and_moves_as_contribs(program, shape, rng):
    batches = rng.normal(1.0, 2.0, size=[3, *shape]).astype("float32")
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, shape)
        with v1.variable_scope("m"):
            outputs = program(tf_slim, x, True)
            losses = v1.get_collection("regularization_losses")
        with v1.variable_scope("m", reuse=True):
            tested = program(tf_slim, x, False)
        names = [v.name for v in v1.global_variables()]
        trainable = [v.name for v in v1.trainable_variables()]
        gradient = tf.gradients(outputs**3, x)
        session.run(v1.global_variables_initializer())
        initial = session.run(v1.global_variables())
        truth = [session.run([outputs, gradient], {x: batch}) for batch in batches]
        truth_test = session.run([tested, losses], {x: batches[0]})
        values = session.run(v1.global_variables())

    def forward(x, is_training):
        with tf1.variable_scope("m"):
            return program(tf1.layers, x, is_training)

    net = tf1.Model(forward)

    @tf.function
    def run(x, is_training):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = net(x, is_training)
            cubes = outputs**3
        return outputs, tape.gradient(cubes, x)

    run(tf.constant(batches[0]), False)
    assert sorted(v.name for v in net.variables) == sorted(names)
    assert sorted(v.name for v in net.trainable_variables) == sorted(trainable)
    for name, value in zip(names, initial, strict=True):
        net.variables_by_name[name.removesuffix(":0")].assign(value)
    for batch, (outputs, gradient) in zip(batches, truth, strict=True):
        got = run(tf.constant(batch), True)
        np.testing.assert_allclose(got[0], outputs, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got[1], gradient[0], rtol=1e-3, atol=1e-4)
    for name, value in zip(names, values, strict=True):
        variable = net.variables_by_name[name.removesuffix(":0")]
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-6)
    got = run(tf.constant(batches[0]), False)[0]
    np.testing.assert_allclose(got, truth_test[0], rtol=1e-4, atol=1e-5)
    if "unfused" not in program.__name__:  # Where slim forgets its regularizers.
        penalties = tf1.losses.get_regularization_losses()
        np.testing.assert_allclose(penalties, truth_test[1], rtol=1e-6)


def test_batch_normalization_normalizes_and_moves_as_tf_layers(rng):
    x = rng.normal(1.0, 2.0, size=[5, 3]).astype("float32")
    images = rng.normal(1.0, 2.0, size=[4, 3, 2, 3]).astype("float32")
    l2 = tfreg.l2_regularizer(0.1)
    net = tf1.Model(
        lambda x: tf1.core_layers.batch_normalization(
            x, training=True, momentum=0.9, gamma_regularizer=l2, name="bn"
        )
    )
    for batch, bessel in [(x, 0), (images, 1)]:
        flat = batch.reshape(-1, 3).astype("float64")
        old_mean, old_variance = 0.0, 1.0
        if net.variables:
            old_mean, old_variance = (v.numpy() for v in net.variables[2:])
        truth = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-3)
        np.testing.assert_allclose(
            tf.reshape(net(batch), flat.shape), truth, rtol=1e-4, atol=1e-5
        )
        mean, variance = flat.mean(0), flat.var(0, ddof=bessel)
        np.testing.assert_allclose(
            net.variables[2], 0.9 * old_mean + 0.1 * mean, rtol=1e-5
        )
        np.testing.assert_allclose(
            net.variables[3], 0.9 * old_variance + 0.1 * variance, rtol=1e-5
        )
    names = ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [v.name for v in net.variables] == [f"bn/{n}:0" for n in names]
    terms = [term.name for term in tfreg.get_default_store().get_terms()]
    assert terms == ["bn/gamma/Regularizer/l2_regularizer"]


def test_replicas_keep_the_first_ones_moving_averages(two_replicas, rng):
    x = rng.normal(2.0, 3.0, size=[2, 5, 3]).astype("float32")
    net = tf1.Model(lambda x: tf1.layers.batch_norm(x, 0.9, fused=False))

    @tf.function
    def run(x):
        def normalize():
            return net(x[tf.distribute.get_replica_context().replica_id_in_sync_group])

        return two_replicas.run(normalize)

    results = two_replicas.experimental_local_results(run(tf.constant(x)))
    for result, part in zip(results, x.astype("float64"), strict=True):
        truth = (part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3)
        np.testing.assert_allclose(result, truth, rtol=1e-4, atol=1e-5)
    _, mean, variance = net.variables  # As of model_deploy's first clone.
    np.testing.assert_allclose(mean, 0.1 * x[0].mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * x[0].var(0), rtol=1e-5)


def test_a_replica_without_an_example_keeps_its_averages():
    net = tf1.Model(lambda x: tf1.layers.batch_norm(x, 0.9))
    assert net(tf.zeros([0, 3])).shape == (0, 3)
    np.testing.assert_array_equal(net.variables[1], np.zeros(3))
    np.testing.assert_array_equal(net.variables[2], np.ones(3))


def test_the_batch_size_may_be_unknown(rng):
    def forward(x):
        layers = tf1.layers
        x = layers.batch_norm(layers.conv2d_transpose(x, 3, 3, 2, padding="VALID"))
        x = layers.max_pool2d(layers.separable_conv2d(x, 4, 3), 2)
        x = layers.batch_norm(layers.fully_connected(layers.flatten(x), 5))
        return layers.softmax(x)

    net = tf1.Model(forward)
    signature = [tf.TensorSpec([None, 4, 5, 2])]
    run = tf.function(net, input_signature=signature)
    for rows in (1, 3):
        x = rng.normal(size=[rows, 4, 5, 2]).astype("float32")
        got, truth = run(x), net(x)
        np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-6)
    assert run.get_concrete_function().output_shapes.as_list() == [None, 5]


def test_channels_first_is_channels_last_transposed(rng):
    x = rng.normal(size=[2, 6, 5, 3]).astype("float32")

    def forward(x, data_format):
        layers = tf1.layers
        functions = [
            layers.conv2d,
            layers.conv2d_transpose,
            layers.separable_conv2d,
            layers.max_pool2d,
            layers.avg_pool2d,
            layers.bias_add,
            layers.batch_norm,
        ]
        with tf1.arg_scope(functions, data_format=data_format):
            x = layers.conv2d(x, 4, 3, normalizer_fn=layers.batch_norm)
            x = layers.conv2d_transpose(x, 3, 3, 2, padding="VALID")
            x = layers.separable_conv2d(x, 2, 3, stride=2)
            x = layers.bias_add(layers.max_pool2d(x, 2))
            return layers.avg_pool2d(x, 2, 1)

    net = tf1.Model(forward)
    truth = net(x, "NHWC")
    run = tf.function(net, jit_compile=True)  # CPU kernels know no NCHW, XLA does.
    got = run(tf.transpose(x, [0, 3, 1, 2]), "NCHW")
    np.testing.assert_allclose(
        tf.transpose(got, [0, 2, 3, 1]), truth, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("keep_prob", [0.5, 0.9])
def test_dropout_keeps_its_share_and_is_the_steps(keep_prob):
    def forward(x, is_training):
        x = tf1.layers.dropout(x, keep_prob, is_training=is_training)
        return x, tf1.core_layers.dropout(x, 1 - keep_prob, training=is_training)

    net = tf1.Model(forward)
    x = tf.ones([100, 200])
    with tfreg.step_scope(step=3):
        first, both = net(x, True)
        second, _ = net(x, True)
    with tfreg.step_scope(step=3):
        again, _ = net(x, True)
    with tfreg.step_scope(step=4):
        other, _ = net(x, True)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second) and not np.array_equal(first, other)
    # Four deviations of a mean of 20,000.
    tolerance = 4 * np.sqrt(keep_prob * (1 - keep_prob) / 20_000)
    assert abs(np.mean(first.numpy() > 0) - keep_prob) < tolerance
    assert abs(np.mean(both.numpy() > 0) - keep_prob**2) < tolerance
    np.testing.assert_allclose(np.unique(first), [0, 1 / keep_prob], rtol=1e-6)
    np.testing.assert_array_equal(net(x, False)[1], x)
    with tfreg.step_scope(step=0):
        wide = tf1.Model(lambda: tf1.layers.dropout(x, 0.5, [100, 1]))()
    assert set(np.unique(np.mean(wide, 1))) == {0.0, 2.0}


def test_labels_are_encoded_as_slims():
    with tf.Graph().as_default(), v1.Session() as session:
        truth = session.run(tf_slim.one_hot_encoding([2, 0, 1], 4, 0.5, -1.0))
    got = tf1.layers.one_hot_encoding([2, 0, 1], 4, 0.5, -1.0)
    np.testing.assert_array_equal(got, truth)


@pytest.mark.parametrize("name", sorted(set(tf1.layers.__all__) & set(dir(tf_slim))))
def test_arguments_their_order_and_defaults_are_contribs(name):
    if name in ("linear", "relu", "relu6"):
        return
    truth = inspect.signature(getattr(tf_slim, name)).parameters.values()
    ours = inspect.signature(getattr(tf1.layers, name)).parameters.values()
    assert [p.name for p in ours] == [p.name for p in truth]
    for a, b in zip(ours, truth, strict=True):
        if not callable(b.default) or b.name == "activation_fn":
            assert a.default == b.default, a.name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tf1.layers.fully_connected(x, 3.0), "num_outputs must be an int"),
        (lambda x: tf1.layers.conv2d(x, 3, 3), "inputs must have rank 4, got shape"),
        (lambda x: tf1.layers.max_pool2d(x, [1, 2, 3]), "kernel_size must be an int"),
        (lambda x: tf1.layers.dropout(x, 0.0), "keep_prob must be a float above 0"),
        (lambda x: tf1.layers.dropout(x), "Dropout must know the step in training"),
        (
            lambda x: tf1.layers.bias_add(x, data_format="NWC"),
            "data_format must be NHWC or NCHW, got 'NWC'",
        ),
        (
            lambda x: tf1.core_layers.conv2d(x, 1, 1, data_format="NHWC"),
            "data_format must be one of channels_last, channels_first, got 'NHWC'",
        ),
        (
            lambda x: tf1.core_layers.batch_normalization(x, 0),
            "axis must be .* got 0",
        ),
    ],
)
def test_what_no_layer_takes_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        tf1.Model(lambda: call(tf.ones([2, 3])))()


def test_what_is_known_too_late_is_refused():
    net = tf1.Model(lambda x, flag: tf1.layers.batch_norm(x, is_training=flag))
    with pytest.raises(ValueError, match="is_training"):
        tf.function(net)(tf.ones([2, 3]), tf.constant(True))
    run = tf.function(
        tf1.Model(lambda x: tf1.layers.fully_connected(x, 1)),
        input_signature=[tf.TensorSpec([None, None])],
    )
    with pytest.raises(ValueError, match="channels"):
        run(tf.ones([2, 3]))


def test_outputs_are_not_collected_outside_a_step():
    net = tf1.Model(lambda x: tf1.layers.flatten(x, "outs"))
    net(tf.ones([2, 3]))
    assert tf1.get_collection("outs") == []
