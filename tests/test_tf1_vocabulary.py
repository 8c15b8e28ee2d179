"""More of contrib's and tf.layers' functions, against tf_slim and TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf
import tf1_programs

import tfreg
from tfreg import tf1

v1 = tf.compat.v1
pytestmark = [
    pytest.mark.usefixtures("mended_slim"),
    # What the truth is computed by is deprecated.
    pytest.mark.filterwarnings("ignore::UserWarning:tensorflow"),
]


def convolve_sequences(t, x):
    decay = t.l2_regularizer(0.1)
    x = t.core_layers.conv1d(x, 4, 3, kernel_regularizer=decay)
    return t.core_layers.conv1d(
        x, 3, [2], 2, "same", activation=tf.nn.relu, use_bias=False, name="last"
    )


def convolve_volumes(t, x):
    with t.variable_scope("a", regularizer=t.l1_regularizer(0.1)):
        x = t.core_layers.conv3d(x, 3, 2, (1, 2, 1), "same", activation=tf.nn.tanh)
    return t.core_layers.conv3d(x, 2, [1, 2, 2], dilation_rate=1)


def convolve_back_and_apart(t, x):
    decay = t.l2_regularizer(0.1)
    x = t.core_layers.conv2d_transpose(x, 4, 3, 2, "same", kernel_regularizer=decay)
    x = t.core_layers.conv2d_transpose(x, 3, [2, 3], (3, 1), bias_regularizer=decay)
    x = t.core_layers.separable_conv2d(
        x,
        5,
        3,
        2,
        "same",
        depth_multiplier=2,
        activation=tf.nn.relu,
        depthwise_regularizer=decay,
        pointwise_regularizer=t.l1_regularizer(0.1),
        activity_regularizer=decay,
    )
    return t.core_layers.separable_conv2d(x, 2, 3, name="sep", use_bias=False)


def normalize_layers(t, x):
    x = t.layers.layer_norm(x, outputs_collections="outs")
    with t.variable_scope("a", regularizer=t.l1_regularizer(0.1)):
        x = t.layers.layer_norm(x, begin_norm_axis=-1, variables_collections=["vars"])
    x = t.layers.layer_norm(
        x, scale=False, begin_params_axis=1, activation_fn=tf.nn.relu, scope="params"
    )
    return t.layers.fully_connected(x, 4, normalizer_fn=t.layers.layer_norm)


def normalize_instances(t, x):
    x = t.layers.instance_norm(x, outputs_collections="outs")
    x = t.layers.group_norm(x, 2, variables_collections={"gamma": ["vars"]})
    x = t.layers.group_norm(
        x, 2, reduction_axes=[-2], center=False, mean_close_to_zero=True
    )
    x = t.layers.instance_norm(
        x,
        scale=False,
        epsilon=0.1,
        param_initializers={"beta": v1.constant_initializer(0.5)},
        activation_fn=tf.nn.relu,
        scope="last",
    )
    return t.layers.conv2d(
        x,
        4,
        3,
        normalizer_fn=t.layers.group_norm,
        normalizer_params={"groups": 2, "channels_axis": -1},
    )


def collect_end_points(t, x):
    with t.arg_scope([t.layers.conv2d], outputs_collections="outs"):
        x = t.layers.conv2d(x, np.int64(3), 3, stride=2)
    x = t.layers.collect_named_outputs("outs", "twice/", 2.0 * x)
    x = t.layers.append_tensor_alias(x, "scaled")
    assert t.layers.last_dimension(x.shape, min_rank=4) == 3
    for keys, expected in [("a", "a"), ({"w": ["b"]}, ["b"]), ({}, None), (None, None)]:
        assert t.layers.get_variable_collections(keys, "w") == expected
    x = t.layers.separable_conv2d(x, None, 3, 2, stride=1)
    return t.layers.max_pool2d(x, 2, 1, outputs_collections="outs")


@pytest.mark.parametrize(
    ("program", "shape"),
    [
        (convolve_sequences, [3, 9, 2]),
        (convolve_volumes, [2, 4, 5, 3, 2]),
        (convolve_back_and_apart, [2, 4, 5, 3]),
        (normalize_layers, [3, 4, 5]),
        (normalize_instances, [2, 5, 4, 6]),
        (collect_end_points, [2, 9, 8, 3]),
    ],
)
def test_layers_do_what_tf1s_do(program, shape, rng):
    # Divided by a small deviation the last digits grow.
    noisy = program is normalize_instances
    tf1_programs.compare(program, shape, rng, atol=1e-5 if noisy else 2e-6)


def test_sizes_may_be_numpys():
    def forward(x):
        x = tf1.layers.conv2d(x, np.int64(3), np.int32(3), stride=np.int64(2))
        x = tf1.layers.max_pool2d(x, np.int64(2), np.int64(1))
        x = tf1.core_layers.conv2d(x, np.int64(2), np.int64(1))
        x = tf1.core_layers.conv2d(x, 4 / 2, 1)  # As TF1's Dimension took it.
        return tf1.layers.fully_connected(tf1.layers.flatten(x), np.prod([2, 3]))

    assert tf1.Model(forward)(tf.ones([2, 8, 8, 1])).shape == (2, 6)


def test_end_points_are_there_also_in_a_pass_outside_a_step():
    def forward(x):
        x = tf1.layers.flatten(x, "outs")
        tf1.layers.collect_named_outputs("outs", "sum", tf.reduce_sum(x))
        return tf1.layers.convert_collection_to_dict("outs")

    net, x = tf1.Model(forward), tf.ones([2, 3, 1])
    for points in (net(x), net(x), tf.function(net)(x)):
        assert list(points) == ["Flatten", "sum"]
        np.testing.assert_array_equal(points["sum"], 6.0)
    assert tf1.get_collection("outs") == []  # They end with the pass.


def test_a_collection_of_a_pass_is_filtered_and_cleared():
    def forward(x):
        tf1.layers.flatten(x, "outs", scope="a")
        tf1.layers.flatten(x, "outs", scope="b")
        tf1.add_to_collection("outs", "no name")
        assert len(tf1.get_collection("outs")) == 3
        assert len(tf1.get_collection("outs", "b")) == 1
        tf1.clear_collection("outs")
        return tf1.get_collection("outs")

    assert tf1.Model(forward)(tf.ones([2, 3])) == []


def test_a_last_dimension_must_be_known():
    with pytest.raises(ValueError, match="rank of at least 2 and a known last"):
        tf1.layers.last_dimension(tf.TensorShape([3]), min_rank=2)
    with pytest.raises(ValueError, match="got <unknown>"):
        tf1.layers.last_dimension(tf.TensorShape(None))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tf1.layers.batch_norm(x, renorm=True), "renorm must be left out"),
        (
            lambda x: tf1.layers.batch_norm(x, renorm_clipping={"rmax": 3.0}),
            "renorm_clipping must be left out, got",
        ),
        (
            lambda x: tf1.core_layers.batch_normalization(
                x, renorm_clipping={"rmin": 0.5}
            ),
            "renorm_clipping must be left out, got",
        ),
        (
            lambda x: tf1.core_layers.batch_normalization(x, virtual_batch_size=2),
            "virtual_batch_size must be left out, got 2",
        ),
        (lambda x: tf1.layers.layer_norm(x, begin_norm_axis=2), "begin_norm_axis must"),
        (lambda x: tf1.layers.group_norm(x, 3, -1, [0]), "groups must divide a known"),
    ],
)
def test_what_no_normalization_takes_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        tf1.Model(lambda: call(tf.ones([2, 4])))()


def test_tf1s_defaults_may_be_written_out():
    def forward(x):
        params = {"zero_debias_moving_mean": False, "batch_weights": None}
        x = tf1.layers.batch_norm(x, renorm=False, **params)
        with tf1.variable_scope("a", custom_getter=None, constraint=None):
            return tf1.core_layers.batch_normalization(x, renorm=False)

    assert tf1.Model(forward)(tf.ones([2, 4])).shape == (2, 4)


def read_in_half(getter, name, shape=None, dtype=None, *args, **kwargs):
    """Returns a float16 copy of a float32 variable, as in mixed precision."""
    assert dtype == tf.float16
    return tf.cast(getter(name, shape, tf.float32, *args, **kwargs), tf.float16)


def double(getter, name, **kwargs):
    return 2.0 * getter(f"{name}_doubled", **kwargs)


def use_getters(t, x):
    with t.variable_scope("a", custom_getter=double, regularizer=t.l2_regularizer(0.1)):
        w = t.get_variable("w", [3, 2])
        with t.variable_scope("b", custom_getter=double):
            w += t.get_variable("w", [3, 2])
        w += t.get_variable("v", [3, 2], custom_getter=lambda getter, **k: getter(**k))
        x = t.layers.fully_connected(tf.matmul(x, w), 3)
    with t.variable_scope("half", custom_getter=read_in_half, dtype=tf.float16):
        return tf.cast(t.get_variable("h", [3]), tf.float32) + x


def test_custom_getters_nest_as_in_tf1(rng):
    tf1_programs.compare(use_getters, [4, 3], rng)


@pytest.mark.parametrize("kind", ["tf1", "keras", "tfreg"])
def test_a_constraint_is_applied_after_each_update(kind, rng):
    def build(t, x):
        limit = dict(constraint=lambda w: tf.clip_by_value(w, -0.5, 0.5))
        with t.variable_scope("s", **limit):
            x = x @ t.get_variable("w", [3, 4], initializer=tf.ones_initializer())
        return t.core_layers.dense(
            x,
            2,
            kernel_initializer=v1.constant_initializer(0.3),
            kernel_constraint=tf.nn.relu,
            bias_constraint=tf.nn.relu,
        )

    x = rng.normal(size=[8, 3]).astype("float32")
    with tf.Graph().as_default(), v1.Session() as session:
        loss = tf.reduce_mean(build(tf1_programs.SLIM, tf.constant(x)) ** 3)
        update = v1.train.GradientDescentOptimizer(0.1).minimize(loss)
        session.run(v1.global_variables_initializer())
        for _ in range(3):
            session.run(update)
        truth = session.run(v1.trainable_variables())
    optimizer = {
        "tf1": lambda: v1.train.GradientDescentOptimizer(0.1),
        "keras": lambda: tf.keras.optimizers.SGD(0.1),
        "tfreg": lambda: tfreg.optimizers.sgd(0.1),
    }[kind]()
    net = tf1.Model(lambda x: tf.reduce_mean(build(tf1, x) ** 3))
    step = tf1.create_train_op(net, optimizer)
    for _ in range(3):
        step(x)
    assert np.max(np.abs(net.variables[0])) <= 0.5
    for variable, value in zip(net.variables, truth, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-6)


def test_slims_arguments_of_variables_are_taken():
    def forward():
        return tf1.model_variable("w", [2], custom_getter=double)

    net = tf1.Model(forward)
    assert net().shape == (2,)
    assert [v.name for v in net.variables] == ["w_doubled:0"]
