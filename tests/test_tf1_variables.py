"""TF1's variables and scopes, against tf.compat.v1 in a graph."""

import itertools
import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import tf_slim

import tfreg
from tfreg import tf1

v1 = tf.compat.v1

# The same program runs on either; slim's regularizers are contrib's.
TRUTH = types.SimpleNamespace(
    variable_scope=v1.variable_scope,
    get_variable=v1.get_variable,
    get_variable_scope=v1.get_variable_scope,
    no_regularizer=v1.no_regularizer,
    l1_regularizer=tf_slim.l1_regularizer,
    l2_regularizer=tf_slim.l2_regularizer,
    model_variable=tf_slim.model_variable,
    AUTO_REUSE=v1.AUTO_REUSE,
)


def nest(t):
    with t.variable_scope("a", regularizer=t.l2_regularizer(0.1)):
        t.get_variable("w", [2, 3])
        t.get_variable("b", [3], regularizer=t.no_regularizer)
        with t.variable_scope("c", regularizer=t.l1_regularizer(0.1)) as c:
            t.get_variable("w", [2], trainable=False)
        with t.variable_scope("d", regularizer=t.no_regularizer):
            t.get_variable("w", [2])
            t.get_variable("v", [2], regularizer=t.l2_regularizer(0.1))
        with t.variable_scope(c):
            t.get_variable("u", [2])
    with t.variable_scope("a/x"):
        t.get_variable("w", [2])


def number(t):
    for _ in range(2):
        with t.variable_scope(None, "x"):
            t.get_variable("w", [2])
            with t.variable_scope(None, "y"):
                t.get_variable("w", [2])
    with t.variable_scope("x_2"):
        t.get_variable("w", [2])
    with t.variable_scope(None, "x"):
        t.get_variable("w", [2])


def number_again(t):
    for _ in range(2):
        with t.variable_scope("a", reuse=t.AUTO_REUSE) as a:
            for _ in range(2):
                with t.variable_scope(None, "y"):
                    t.get_variable("w", [2], regularizer=t.l2_regularizer(0.1))
    with t.variable_scope(a), t.variable_scope(None, "y"):
        t.get_variable("w", [2])
    with t.variable_scope(None, "y"):
        t.get_variable("w", [2])


def share(t):
    with t.variable_scope("a", regularizer=t.l2_regularizer(0.1)) as a:
        w = t.get_variable("w", [2, 3])
    with t.variable_scope(a, reuse=True, regularizer=t.l1_regularizer(0.1)):
        assert t.get_variable("w", [2, 3]) is w
        with t.variable_scope("b", reuse=False):
            assert t.get_variable_scope().reuse is True
    with t.variable_scope("a"):
        t.get_variable_scope().reuse_variables()
        assert t.get_variable("w") is w
    with t.variable_scope("a", reuse=t.AUTO_REUSE):
        assert t.get_variable("w") is w
        t.get_variable("v", [2])


def start(t):
    t.get_variable("a", initializer=tf.constant([1, 2]))
    t.get_variable("b", initializer=np.ones([2, 2], np.float32))
    t.get_variable("c", [2], initializer=tf.zeros_initializer)
    t.get_variable("d", [2], tf.float64, v1.constant_initializer(3.0))
    t.get_variable("e", initializer=lambda: tf.ones([3]))
    t.get_variable("f", [2], tf.int32)
    t.get_variable("g", [], initializer=v1.ones_initializer())
    with t.variable_scope("s", initializer=v1.constant_initializer(2.0)):
        t.get_variable("h", [2])
        t.get_variable("i", [2], initializer=tf.ones_initializer())
    with t.variable_scope("t", dtype=tf.float64):
        t.get_variable("h", [2], initializer=tf.zeros_initializer())
    t.model_variable("m", [2], initializer=tf.zeros_initializer(), trainable=False)


def make_twice(t):
    t.get_variable("w", [2])
    t.get_variable("w", [2])


def find_nothing(t):
    with t.variable_scope("a", reuse=True):
        t.get_variable("w", [2])


def share_another_shape(t):
    t.get_variable("w", [2])
    t.get_variable_scope().reuse_variables()
    t.get_variable("w", [3])


def share_another_dtype(t):
    t.get_variable("w", [2])
    t.get_variable_scope().reuse_variables()
    t.get_variable("w", [2], tf.float64)


def reuse_a_default_name(t):
    with t.variable_scope(None, "a", reuse=True):
        pass


def name_no_scope(t):
    with t.variable_scope(None):
        pass


def reuse_by_a_word(t):
    with t.variable_scope("a", reuse="yes"):
        pass


def give_a_value_a_shape(t):
    t.get_variable("w", [2], initializer=tf.ones([2]))


def give_a_value_a_dtype(t):
    t.get_variable("w", dtype=tf.float64, initializer=tf.ones([2]))


def give_no_shape(t):
    t.get_variable("w")


RIGHT = [nest, number, number_again, share, start]
WRONG = [
    make_twice,
    find_nothing,
    share_another_shape,
    share_another_dtype,
    reuse_a_default_name,
    name_no_scope,
    reuse_by_a_word,
    give_a_value_a_shape,
    give_a_value_a_dtype,
    give_no_shape,
]


def run_graph(program):
    """Returns names, initial values and dtypes of the variables, and the terms."""
    with tf.Graph().as_default(), v1.Session() as session:
        program(TRUTH)
        session.run(v1.global_variables_initializer())
        losses = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
        return {
            "all": [v.name for v in v1.global_variables()],
            "trainable": [v.name for v in v1.trainable_variables()],
            "model": [v.name for v in v1.model_variables()],
            "terms": [loss.name.removesuffix(":0") for loss in losses],
            "values": session.run(v1.global_variables()),
        }


@pytest.mark.parametrize("program", RIGHT)
@pytest.mark.parametrize("graph", [False, True])
def test_scopes_name_make_and_penalize_what_tf1_does(program, graph):
    truth = run_graph(program)
    net = tf1.Model(lambda: program(tf1))
    run = tf.function(lambda: net()) if graph else net
    run()
    made = net.variables
    run()
    net()
    assert all(a is b for a, b in zip(net.variables, made, strict=True))
    assert [v.name for v in made] == truth["all"]
    assert [v.name for v in tf1.global_variables()] == truth["all"]
    assert [v.name for v in tf1.trainable_variables()] == truth["trainable"]
    assert [v.name for v in net.trainable_variables] == truth["trainable"]
    assert [v.name for v in tf1.model_variables()] == truth["model"]
    terms = tfreg.get_default_store().get_terms()
    assert [term.name for term in terms] == truth["terms"]
    for variable, value in zip(made, truth["values"], strict=True):
        assert variable.dtype == value.dtype and variable.shape == value.shape
        if program is start:
            np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("program", WRONG)
def test_what_tf1_refuses_is_refused(program):
    with pytest.raises((TypeError, ValueError)):
        run_graph(program)
    with pytest.raises(ValueError, match="must .*, got .*: "):
        tf1.Model(lambda: program(tf1))()


REUSES = st.sampled_from([None, False, True, tf1.AUTO_REUSE])
REGULARIZERS = st.sampled_from(["", "l1_regularizer", "no_regularizer"])
VARIABLES = st.tuples(
    st.just("variable"), st.sampled_from("vw"), st.sampled_from([2, 3]), REGULARIZERS
)
LEAVES = VARIABLES | st.just(("reuse_variables",))


def open_scopes(body):
    """Returns strategies of scopes: by name, by default name, or reopened."""
    names = st.sampled_from(["a", "b", "a/b", "a_1"])
    defaults = st.sampled_from("ab")
    rest = REGULARIZERS, st.lists(body, max_size=4)
    return st.one_of(
        st.tuples(st.just("scope"), names, st.none(), REUSES, *rest),
        st.tuples(st.just("scope"), st.none(), defaults, st.none(), *rest),
        st.tuples(st.just("return"), st.integers(0, 3), st.none(), REUSES, *rest),
    )


def run_program(t, program, scopes, found):
    """Runs such a list on a namespace; records the names of scopes and variables."""
    for kind, *values in program:
        if kind == "reuse_variables":
            t.get_variable_scope().reuse_variables()
        elif kind == "variable":
            name, size, regularizer = values
            chosen = choose(t, regularizer)
            found.append(t.get_variable(name, [size], regularizer=chosen).name)
        else:
            name, default, reuse, regularizer, body = values
            if kind == "return":
                if not scopes:
                    continue
                name = scopes[name % len(scopes)]
            chosen = choose(t, regularizer)
            with t.variable_scope(
                name, default, reuse=reuse, regularizer=chosen
            ) as scope:
                scopes.append(scope)
                found.append((scope.name, scope.reuse))
                run_program(t, body, scopes, found)


def choose(t, name):
    regularizer = getattr(t, name) if name else None
    return regularizer(0.1) if name == "l1_regularizer" else regularizer


@pytest.mark.slow
@hypothesis.settings(max_examples=100)
@hypothesis.given(st.lists(st.recursive(LEAVES, open_scopes, max_leaves=12)))
def test_any_nest_of_scopes_names_reuses_and_refuses_as_tf1(program):
    truth, ours, refusals = [], [], []
    with tf.Graph().as_default():
        try:
            run_program(TRUTH, program, [], truth)
        except ValueError as error:
            refusals.append(error)
        losses = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
        terms = [loss.name.removesuffix(":0") for loss in losses]
    with tfreg.Store().as_default() as store:
        net = tf1.Model(lambda: run_program(tf1, program, [], ours))
        for _ in range(2):
            ours.clear()
            try:
                net()
                assert not refusals
            except ValueError as error:
                assert refusals, error
            assert ours == truth
        assert [term.name for term in store.get_terms()] == terms


def test_variables_outside_a_forward_pass_are_refused():
    with pytest.raises(ValueError, match=r"get_variable\('w'\)"):
        tf1.get_variable("w", [2])
    inner = tf.function(lambda: tf1.get_variable("w", [2]))
    net = tf1.Model(inner)
    with pytest.raises(ValueError, match=r"tf\.function"):
        net()
    with pytest.raises(ValueError, match=r"tf\.function"):
        tf.function(net)()
    assert not net.variables


def test_a_tensor_of_a_trace_starts_no_variable():
    def forward(x):
        return tf1.get_variable("w", initializer=tf.reduce_mean(x))

    net = tf1.Model(forward)
    message = "initializer of w must be known .* got .* of a trace"
    with pytest.raises(ValueError, match=message):
        tf.function(net)(tf.ones([2]))
    net(tf.ones([2]))
    assert float(tf.function(net)(tf.zeros([2]))) == 1.0


def test_a_branch_belongs_to_its_pass():
    def forward(x):
        with tf1.variable_scope(None, "x"):
            w = tf1.get_variable("w", [], initializer=tf.ones_initializer())

        def double():
            with tf1.variable_scope(None, "x"):
                return 2.0 * tf1.get_variable("w", [])

        return tf.cond(x > 0, double, lambda: w.read_value())

    net = tf1.Model(forward)
    tf.function(net)(tf.constant(1.0))
    assert [v.name for v in net.variables] == ["x/w:0", "x_1/w:0"]


def test_retraces_find_the_variables():
    net = tf1.Model(lambda x: x @ tf1.get_variable("w", [x.shape[-1], 2]))
    step = tf.function(net)
    step(tf.ones([2, 3]))
    step(tf.ones([5, 3]))
    assert len(net.variables) == 1
    with pytest.raises(ValueError, match=r"shape of w .*\(3, 2\)"):
        step(tf.ones([2, 4]))


def test_a_name_that_each_pass_counts_on_is_refused_in_a_trace():
    numbers = itertools.count()
    net = tf1.Model(lambda: tf1.get_variable(f"w_{next(numbers)}", [2]))
    with pytest.raises(ValueError, match="w_1 must be created in the first pass"):
        tf.function(net)()


def test_a_store_serves_a_function_under_autograph():
    store = tf1.VariableStore()

    @tf.function
    def step(x):
        with store.as_default(), tf1.variable_scope("a", reuse=tf1.AUTO_REUSE):
            for _ in tf.range(2):
                x = x * tf1.get_variable("w", initializer=tf.constant(3.0))
        return x

    assert float(step(1.0)) == 9.0
    assert float(step(tf.constant(1.0))) == 9.0
    assert [v.name for v in store.variables] == ["a/w:0"]


def test_default_values_come_from_name_and_seed():
    def make(seed, *names):
        net = tf1.Model(
            lambda: [tf1.get_variable(n, [400, 300]) for n in names], seed=seed
        )
        return dict(zip(names, net(), strict=True))

    first, second = make(0, "a", "b"), make(0, "b", "a")
    np.testing.assert_array_equal(first["a"], second["a"])
    assert not np.array_equal(first["a"], first["b"])
    assert not np.array_equal(first["a"], make(1, "a")["a"])


@pytest.mark.parametrize("shape", [[], [400], [300, 200], [3, 3, 40, 50]])
def test_initializers_have_contribs_spread(shape):
    for arguments in [{}, {"uniform": True}, {"mode": "FAN_AVG", "factor": 1.0}]:
        ours = tf1.variance_scaling_initializer(**arguments, seed=1)(shape)
        slim = tf_slim.variance_scaling_initializer(**arguments, seed=1)(shape)
        if shape:
            # Both are samples: of 400 values the deviation is known to 4 per cent.
            tolerance = 5 / np.sqrt(np.prod(shape))
            np.testing.assert_allclose(np.std(ours), np.std(slim), rtol=tolerance)
            np.testing.assert_allclose(np.max(ours), np.max(slim), rtol=tolerance * 4)
    with pytest.raises(TypeError, match="mode .*FAN_IN"):
        tf1.variance_scaling_initializer(mode="FAN")
    with pytest.raises(TypeError, match="dtype .*int32"):
        tf1.xavier_initializer(dtype=tf.int32)


def test_a_model_takes_its_variables_and_terms_along():
    def forward():
        return tf1.get_variable("w", [2], regularizer=tf1.l2_regularizer(0.1))

    net = tf1.Model(forward)
    net()
    other = tf1.Model(forward)
    other()
    assert len(tf1.trainable_variables()) == 2
    assert len(tfreg.get_default_store().get_terms()) == 2
    del net
    assert len(tf1.trainable_variables()) == 1
    assert len(tfreg.get_default_store().get_terms()) == 1


def test_a_store_is_checkpointed_by_name(tmp_path):
    def forward(value):
        with tf1.variable_scope("a"):
            return tf1.get_variable("w", initializer=tf.constant(value))

    net = tf1.Model(forward)
    net(2.0)
    path = tf.train.Checkpoint(net=net).save(str(tmp_path / "model"))
    later = tf1.Model(forward)
    status = tf.train.Checkpoint(net=later).restore(path)
    assert float(tf.function(later)(5.0)) == 2.0  # Made after it was restored.
    status.assert_consumed()


def test_replicas_share_the_variables(two_replicas):
    strategy = two_replicas

    def forward(x):
        with tf1.variable_scope(None, "fc"):
            step = tf1.get_variable("n", [], tf.int32, trainable=False)
            step.assign_add(1)
            return x * tf1.get_variable("w", [], initializer=tf.ones_initializer())

    net = tf1.Model(forward)
    run = tf.function(lambda x: strategy.run(net, (x,)))
    for _ in range(2):
        results = strategy.experimental_local_results(run(tf.constant(2.0)))
        assert [float(r) for r in results] == [2.0, 2.0]
    assert [v.name for v in net.variables] == ["fc/n:0", "fc/w:0"]
    assert int(net.variables[0].numpy()) == 2


def test_the_global_step_is_the_stores():
    step = tf1.get_or_create_global_step()
    assert step is tf1.get_or_create_global_step() and step.dtype == tf.int64
    assert step.name == "global_step:0" and tf1.global_variables() == [step]
    with tfreg.Store().as_default():
        assert tf1.get_or_create_global_step() is not step
