"""Collections against TF1's own, separate stores, and how long what they hold lives.

What TF1 does is not written down here: it is run, in a `tf.Graph`.
"""

import asyncio
import copy
import functools
import gc
import itertools
import pickle
import sys
import threading
import types
import weakref

import hypothesis
import hypothesis.strategies as st
import pytest
import tensorflow as tf

import tfreg
from tfreg import losses
from tfreg.collections import terms

tf1 = tf.compat.v1
LOSSES = "regularization_losses"


def ones(shape, seed):
    del seed
    return tf.ones(shape)


def make_dense(units=1, **arguments):
    """Returns a layer whose kernel is ones and costs sum(w ** 2)."""
    arguments.setdefault("kernel_regularizer", tfreg.l2_regularizer(2.0))
    return tfreg.layers.Dense(
        units, use_bias=False, kernel_initializer=ones, **arguments
    )


def mean(outputs):
    return tf.reduce_mean(outputs)


def get_total(outputs):
    """Returns the penalties in the total of a data loss of 0."""
    return losses.total_loss(0.0 * outputs[:, 0])


def get_names():
    return [term.name for term in tfreg.get_default_store().get_terms()]


# Collections, as TF1 has them


def run_tfreg(operations):
    calls = types.SimpleNamespace(
        add=tfreg.add_to_collection,
        add_all=tfreg.add_to_collections,
        get=tfreg.get_collection,
        ref=tfreg.get_collection_ref,
        clear=tfreg.clear_collection,
        keys=tfreg.get_all_collection_keys,
    )
    return run(operations, calls)


def run_tf1(operations):
    with tf.Graph().as_default() as graph:
        calls = types.SimpleNamespace(
            add=tf1.add_to_collection,
            add_all=tf1.add_to_collections,
            get=tf1.get_collection,
            ref=tf1.get_collection_ref,
            clear=graph.clear_collection,
            keys=graph.get_all_collection_keys,
        )
        return run(operations, calls)


def run(operations, calls):
    """Returns what every operation gave, with the list of each key after it."""
    outcomes = []
    for kind, *arguments in operations:
        if kind == "ref_append":
            key, value = arguments
            calls.ref(key).append(value)
        else:
            outcome = getattr(calls, kind)(*arguments)
            outcomes.append(list(outcome) if kind == "get" else None)
        outcomes.append([calls.get(key) for key in KEYS])
        # TF1 also lists keys whose list is empty, and none that isn't a string.
        full = {key for key in calls.keys() if calls.get(key)}  # noqa: SIM118
        outcomes.append({key for key in full if isinstance(key, str)})
    return outcomes


KEYS = ["losses", "my_tensors", "weights", "a/b", 7, ("t", 1), None]
NAMES = ["foo", "foobar", "foo/w", "bar", "bar/foo", "", "FOO", "fo"]
ITEMS = [types.SimpleNamespace(name=name) for name in NAMES]
ITEMS += [3, "text", None, (1, 2), types.SimpleNamespace(other="foo")]
SCOPES = [None, "", "foo", "foo/", "foo$", ".*o", "bar|foo", "(?i)foo", "[fb]", "none"]

keys, items = st.sampled_from(KEYS), st.sampled_from(ITEMS)
several = st.lists(st.sampled_from(KEYS[:4]), max_size=3)
one_or_several = st.sampled_from(KEYS[:4]) | several | several.map(tuple)
operations = st.lists(
    st.tuples(st.just("add"), keys, items)
    | st.tuples(st.just("add_all"), one_or_several, items)
    | st.tuples(st.just("get"), keys, st.sampled_from(SCOPES))
    | st.tuples(st.just("ref_append"), keys, items)
    | st.tuples(st.just("clear"), keys),
    max_size=12,
)


@hypothesis.given(operations)
@hypothesis.settings(max_examples=100)
@pytest.mark.parametrize("where", ["outside a step", "in a step", "in a trace"])
def test_any_sequence_of_operations_gives_what_it_gives_in_tf1(where, operations):
    got = []
    with tfreg.Store().as_default():
        if where == "outside a step":
            got = run_tfreg(operations)
        elif where == "in a step":
            with tfreg.step_scope():
                got = run_tfreg(operations)
            assert tfreg.get_all_collection_keys() == []
        else:
            trace = functools.partial(run_tfreg, operations)
            function = tf.function(lambda: got.extend(trace()), autograph=False)
            function.get_concrete_function()
            assert tfreg.get_all_collection_keys() == []
    assert got == run_tf1(operations)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_filters_by_the_beginning_of_the_name_as_in_tf1(scope):
    fill = [("add", "x", item) for item in ITEMS]
    chosen = [], []
    for run_all, found in zip((run_tfreg, run_tf1), chosen, strict=True):
        found += run_all([*fill, ("get", "x", scope)])[-3]
    assert chosen[0] == chosen[1]
    names = [getattr(item, "name", None) for item in chosen[0]]
    want = {
        None: [getattr(item, "name", None) for item in ITEMS],
        "": NAMES,
        "foo": ["foo", "foobar", "foo/w"],
        "foo/": ["foo/w"],
    }
    assert names == want.get(scope, names)


def test_a_collection_is_a_new_list_each_time_and_is_not_made_by_reading():
    assert tfreg.get_collection("absent") == []
    assert tfreg.get_all_collection_keys() == []
    tfreg.add_to_collection("x", 1)
    tfreg.get_collection("x").append(2)
    assert tfreg.get_collection("x") == [1]
    assert tfreg.get_collection("x") is not tfreg.get_collection("x")


def test_the_reference_is_the_live_list():
    live = tfreg.get_collection_ref("x")
    assert tfreg.get_all_collection_keys() == []
    tfreg.add_to_collection("x", 1)
    live.append(2)
    assert live == tfreg.get_collection("x") == [1, 2]
    assert tfreg.get_collection_ref("x") is live
    with tfreg.step_scope():
        inner = tfreg.get_collection_ref("x")
        inner.append(3)
        assert tfreg.get_collection("x") == [1, 2, 3]
    assert tfreg.get_collection("x") == [1, 2]


def test_the_live_list_of_the_regularization_losses_is_refused():
    message = "^key must not be 'regularization_losses', got it for a live list: its "
    with pytest.raises(ValueError, match=f"{message}terms live with their variables"):
        tfreg.get_collection_ref(tfreg.GraphKeys.REGULARIZATION_LOSSES)


def test_keys_of_any_kind_are_listed():
    for key in ("b", 7, ("t", 1), "a"):
        tfreg.add_to_collection(key, 0)
    assert set(tfreg.get_all_collection_keys()) == {"a", "b", 7, ("t", 1)}
    tfreg.clear_collection(7)
    assert set(tfreg.get_all_collection_keys()) == {"a", "b", ("t", 1)}


def test_graph_keys_are_tf1s():
    ours = {k: v for k, v in vars(tfreg.GraphKeys).items() if k.isupper()}
    assert ours == {name: getattr(tf1.GraphKeys, name) for name in ours}
    assert {"LOSSES", "WEIGHTS", "BIASES", "REGULARIZATION_LOSSES"} <= set(ours)


def test_layers_put_kernels_and_biases_into_the_collections_of_tf1():
    layer = tfreg.layers.Dense(2, name="fc")
    layer(tf.ones([1, 3]))
    assert tfreg.get_collection("weights") == [layer.kernel]
    assert tfreg.get_collection("biases", "fc/") == [layer.bias]
    assert tfreg.get_collection("biases", "fc2") == []


def nested_collections(add, get):
    """Returns what an inner function sees, and what is left outside."""
    seen = []
    add("x", 1)

    def inner():
        seen.append(list(get("x")))
        add("x", 2)
        seen.append(list(get("x")))

    tf.function(inner).get_concrete_function()
    seen.append(list(get("x")))
    return seen


def test_a_nested_function_inherits_collections_and_does_not_leak_its_own_as_in_tf1():
    with tf.Graph().as_default():
        want = nested_collections(tf1.add_to_collection, tf1.get_collection)
    assert want == [[1], [1, 2], [1]]
    assert nested_collections(tfreg.add_to_collection, tfreg.get_collection) == want
    tfreg.clear_collection("x")
    got = []

    def outer():
        got.extend(nested_collections(tfreg.add_to_collection, tfreg.get_collection))

    tf.function(outer).get_concrete_function()
    assert got == want and tfreg.get_collection("x") == []


def test_a_variable_stays_in_a_collection_and_a_tensor_goes_with_its_step():
    variable = tf.Variable(1.0)

    @tf.function
    def trace():
        tfreg.add_to_collection("x", variable)
        tfreg.add_to_collection("x", variable + 1.0)
        assert len(tfreg.get_collection("x")) == 2

    trace()
    assert tfreg.get_collection("x") == [variable]


# What a losses collection refuses


@pytest.mark.parametrize("key", [LOSSES, "losses", "my_losses"])
def test_an_eager_tensor_in_a_losses_collection_outside_a_step_is_refused(key):
    with pytest.raises(ValueError) as caught:
        tfreg.add_to_collection(key, tf.constant(1.0))
    words = " ".join(str(caught.value).split())
    assert "must" in words and "outside" in words
    assert "inside one `with tfreg.step_scope():`" in words
    assert "use apply_regularization or a layer's regularizer" in words
    assert tfreg.get_all_collection_keys() == []
    with pytest.raises(ValueError, match="must"):
        tfreg.add_to_collections(["other", key], tf.constant(1.0))


def test_an_eager_tensor_smuggled_in_by_the_live_list_is_refused_when_read():
    tfreg.get_collection_ref("losses").append(tf.constant(1.0))
    with pytest.raises(ValueError, match="'losses' must not hold an eager tensor"):
        tfreg.get_collection("losses")


def test_eager_tensors_in_other_collections_and_inside_steps_are_allowed():
    tfreg.add_to_collection("my_tensors", tf.constant(1.0))
    assert tfreg.get_collection("my_tensors")[0].numpy() == 1.0
    with tfreg.step_scope():
        for key in (LOSSES, "losses", "my_losses"):
            tfreg.add_to_collection(key, tf.constant(2.0))
            assert tfreg.get_collection(key)[0].numpy() == 2.0
        assert losses.total_loss(tf.zeros([1])).numpy() == 2.0
    assert tfreg.get_all_collection_keys() == ["my_tensors"]


def test_a_loss_outside_a_step_is_refused():
    message = "^a loss must be added inside a step, got energy in eager code outside"
    with pytest.raises(ValueError, match=message):
        tfreg.add_loss(tf.constant(1.0), name="energy")


def test_a_loss_that_is_no_scalar_is_refused():
    message = "^the penalty of energy must be a scalar, got rank 1"
    with tfreg.step_scope(), pytest.raises(ValueError, match=message):
        tfreg.add_loss(tf.ones([2]), name="energy")


def test_a_tensor_of_another_trace_gets_into_no_total():
    leaked = []
    tf.function(lambda: leaked.append(tf.constant(1.0) + 1.0))()

    @tf.function
    def step():
        tfreg.add_loss(leaked[0])
        return losses.total_loss(tf.zeros([1]))

    with pytest.raises(TypeError, match="is out of scope"):
        step()


# Terms: each once, as long as their variables live


def test_a_deleted_model_takes_its_terms_along_at_once():
    gc.disable()  # At once: not when the garbage collector comes by.
    try:
        model, other = make_dense(), make_dense()
        model(tf.ones([1, 3]))
        other(tf.ones([1, 3]))
        assert get_total(tf.ones([1, 1])).numpy() == 6.0
        assert len(get_names()) == 2
        del model
        assert get_names() == ["dense_1/kernel/Regularizer/l2_regularizer"]
        assert tfreg.get_collection("weights") == [other.kernel]
        assert get_total(tf.ones([1, 1])).numpy() == 3.0
        del other
        assert tfreg.get_all_collection_keys() == []
    finally:
        gc.enable()


def test_names_are_free_again_when_their_model_is_gone():
    layer = make_dense()
    layer(tf.ones([1, 1]))
    second = make_dense()
    assert (layer.name, second.name) == ("dense", "dense_1")
    del layer, second
    assert make_dense().name == "dense"


def test_a_term_that_dies_while_the_terms_are_listed_hides_no_other():
    store = tfreg.get_default_store()

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(1.0)
            store.add_term("dead", tf.nn.l2_loss, [self.w])
            self.me = self  # In a cycle: it dies when the collector comes by.

    kept = tf.Variable(1.0)
    num_calls = itertools.count()

    def collect_at(call):
        def profile(frame, event, argument):
            inside = frame.f_code.co_filename.endswith("store.py") and event == "call"
            if inside and next(num_calls) == call:
                gc.collect(0)  # The cycle is as young as can be.

        return profile

    gc.collect()
    for call in range(8):  # At every place where it could.
        gc.disable()
        Model()
        store.add_term("kept", tf.nn.l2_loss, [kept])
        num_calls = itertools.count()
        sys.setprofile(collect_at(call))
        found = store.get_terms()
        sys.setprofile(None)
        gc.enable()
        assert sum("kept" in term.name for term in found) == call + 1


def test_a_term_of_several_variables_lives_as_long_as_any_of_them():
    first, second = tf.Variable([3.0]), tf.Variable([4.0])
    tfreg.get_default_store().add_term("both", tf.nn.l2_loss, [first, second])
    assert get_total(tf.ones([1, 1])).numpy() == 12.5
    del first
    assert get_total(tf.ones([1, 1])).numpy() == 8.0
    del second
    assert tfreg.get_all_collection_keys() == []


def test_a_regularizer_that_is_a_method_of_the_model_does_not_leak_it():
    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.scale = 2.0
            self.layer = make_dense(kernel_regularizer=self.penalize)

        def penalize(self, weights):
            return self.scale * tf.reduce_sum(weights)

    model = Model()
    model.layer(tf.ones([1, 3]))
    assert get_total(tf.ones([1, 1])).numpy() == 6.0
    kernel = weakref.ref(model.layer.kernel)
    del model
    gc.collect()
    assert kernel() is None and tfreg.get_all_collection_keys() == []


def test_a_value_of_a_penalty_is_never_stale():
    layer = make_dense()
    layer(tf.ones([1, 3]))
    compiled = tf.function(lambda: get_total(tf.ones([1, 1])))
    for value in (1.0, 2.0, -3.0):
        layer.kernel.assign(tf.fill([3, 1], value))
        for total in (get_total(tf.ones([1, 1])), compiled()):
            assert total.numpy() == 3 * value**2
    assert compiled.experimental_get_tracing_count() == 1


def test_copying_a_layer_is_refused():
    layer = make_dense()
    layer(tf.ones([1, 3]))
    model = tfreg.layers.Sequential([layer])
    message = "a layer must not be copied or pickled, got a Dense"
    for original in (layer, model):
        with pytest.raises(TypeError, match=message):
            copy.deepcopy(original)


def test_clearing_forgets_terms_losses_and_what_was_missed():
    layer = make_dense(activity_regularizer=tf.reduce_sum)
    with tf.GradientTape():
        layer(tf.ones([1, 3]))
    with tfreg.step_scope():
        tfreg.add_loss(tf.constant(1.0))
        tfreg.clear_collection(LOSSES)
        assert tfreg.get_collection(LOSSES) == []
        assert get_total(tf.ones([1, 1])).numpy() == 0.0
    assert tfreg.get_all_collection_keys() == ["weights"]


def count_objects():
    gc.collect()
    return len(gc.get_objects())


def use_a_model(i):
    """Trains a new model for a step: eager, every 5th traced, every 100th compiled."""
    model = make_dense(activity_regularizer=tf.reduce_sum)
    x = tf.ones([2, 3])
    model(x)

    def step(x):
        with tf.GradientTape() as tape:
            total = get_total(model(x))
        return total, tape.gradient(total, model.kernel)

    with tfreg.step_scope():
        assert step(x)[0].numpy() == 6.0  # 3 of the kernel, 6 / 2 of the activity.
    with tfreg.step_scope():
        model(x)  # Nobody asks for its losses.
    if i % 5 == 0:
        compiled = tf.function(step, autograph=False, jit_compile=i % 100 == 0)
        assert compiled(x)[0].numpy() == 6.0
        tf.function(model.__call__, autograph=False).get_concrete_function(x)


def test_100_models_leave_nothing_in_the_store_and_no_objects():
    for i in range(20):
        use_a_model(i)
    before = count_objects()
    for i in range(100):
        use_a_model(i)
    after = count_objects()
    assert tfreg.get_all_collection_keys() == []
    assert get_total(tf.ones([1, 1])).numpy() == 0.0
    # TensorFlow itself keeps a few; a model is hundreds.
    assert after - before < 1000


def test_a_dropped_function_frees_its_graph():
    layer = make_dense(activity_regularizer=tf.reduce_sum)

    def step(x):
        tfreg.add_to_collection("x", x)
        with tfreg.step_scope():
            return get_total(layer(x))

    for function in (step, lambda x: layer(x)):
        compiled = tf.function(function)
        compiled(tf.ones([2, 3]))
        graph = weakref.ref(compiled.get_concrete_function(tf.ones([2, 3])).graph)
        assert graph() is not None
        del compiled
        gc.collect()
        assert graph() is None


# Stores


def test_a_store_keeps_two_models_apart():
    first, second = tfreg.Store(), tfreg.Store()
    models = []
    for store in (first, second):
        with store.as_default():
            models.append(make_dense(units=len(models) + 1))
            models[-1](tf.ones([1, 3]))
    assert [model.name for model in models] == ["dense", "dense"]
    for store, want in ((first, 3.0), (second, 6.0)):
        with store.as_default():
            assert get_total(tf.ones([1, 1])).numpy() == want
    assert get_total(tf.ones([1, 1])).numpy() == 0.0


def test_stores_nest_and_an_exception_leaves_them():
    outer, inner = tfreg.Store(), tfreg.Store()
    start = tfreg.get_default_store()
    with outer.as_default():
        with pytest.raises(KeyError), inner.as_default(), outer.as_default():
            assert tfreg.get_default_store() is outer
            raise KeyError
        with inner.as_default() as entered:
            assert tfreg.get_default_store() is inner is entered
        assert tfreg.get_default_store() is outer
    assert tfreg.get_default_store() is start


def test_a_layer_belongs_to_the_store_that_it_was_made_in():
    with tfreg.Store().as_default() as store:
        layer = make_dense()
    layer(tf.ones([1, 3]))
    assert get_names() == [] and len(store.get_terms()) == 1


def test_the_losses_of_another_store_can_be_added_by_hand():
    with tfreg.Store().as_default() as store:
        layer = make_dense(activity_regularizer=tf.reduce_sum)

    @tf.function
    def step(x):
        outputs = layer(x)
        return tf.add_n(store.get_collection(LOSSES)) + get_total(outputs)

    assert step(tf.ones([2, 3])).numpy() == 6.0


def in_thread(function):
    """Returns what a function returned, or raised, in a thread of its own."""
    outcome = []

    def work():
        try:
            outcome.append(function())
        except Exception as error:  # noqa: BLE001, handed on
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return outcome[0]


def test_a_thread_that_enters_no_store_uses_that_of_the_process():
    from tfreg.collections import store as stores

    with tfreg.Store().as_default():
        assert in_thread(tfreg.get_default_store) is stores._default


def step_in_turns(store, model, x):
    """Yields in the middle of a step, as a coroutine does."""
    with store.as_default(), tfreg.step_scope():
        outputs = model(x)
        yield
        yield get_total(outputs)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_steps_in_turns_keep_their_stores(order):
    stores, models = (tfreg.Store(), tfreg.Store()), []
    for i, store in enumerate(stores):
        with store.as_default():
            models.append(make_dense(i + 1, activity_regularizer=tf.reduce_sum))
    x = tf.ones([2, 3])
    steps = [step_in_turns(*pair, x) for pair in zip(stores, models, strict=True)]
    for step in steps:
        next(step)
    totals = {i: next(steps[i]).numpy() for i in order}
    assert totals == {0: 6.0, 1: 12.0}
    with stores[0].as_default():  # Others are suspended inside theirs.
        assert tfreg.get_default_store() is stores[0]
    for step in steps:
        step.close()


def test_coroutines_in_turns_keep_their_stores():
    async def work(store, seen):
        with store.as_default():
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(tfreg.get_default_store() is store)

    async def main():
        seen = []
        await asyncio.gather(*(work(tfreg.Store(), seen) for _ in range(3)))
        return seen

    assert asyncio.run(main()) == [True] * 9


def test_threads_with_stores_of_their_own_train_at_the_same_time():
    totals = [[] for _ in range(4)]

    def train(units, found):
        with tfreg.Store().as_default():
            layer = make_dense(units, activity_regularizer=tf.reduce_sum)
            step = tf.function(lambda x: get_total(layer(x)))
            for batch in range(1, 8):
                found.append(step(tf.ones([batch, 3])).numpy())
                with tfreg.step_scope():
                    found.append(step.python_function(tf.ones([batch, 3])).numpy())
                layer(tf.ones([batch, 3]))

    threads = [
        threading.Thread(target=train, args=(units, found))
        for units, found in enumerate(totals, start=1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [[6.0 * units] * 14 for units in (1, 2, 3, 4)]


def test_threads_that_share_a_store_lose_no_term():
    def build(i):
        layers.append(make_dense(name=f"layer{i}"))
        layers[-1](tf.ones([1, 3]))
        for _ in range(20):
            layers[-1](tf.ones([1, 3]))
            get_names()

    layers, store = [], tfreg.get_default_store()

    def work(i):
        with store.as_default():
            for k in range(10):
                build(10 * i + k)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(get_names())) == 40
    assert get_total(tf.ones([1, 1])).numpy() == 120.0


def test_the_replicas_use_the_store_of_whoever_runs_them():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with tfreg.Store().as_default(), tfreg.Store().as_default() as store:
        with strategy.scope():
            layer = make_dense(activity_regularizer=tf.reduce_sum)
            layer(tf.ones([1, 3]))

        def replica(x):
            assert tfreg.get_default_store() is store
            with tfreg.Store().as_default():
                assert tfreg.get_default_store() is not store
            return get_total(layer(x))

        compiled = tf.function(lambda x: strategy.run(replica, (x,)))
        shares = strategy.experimental_local_results(compiled(tf.ones([2, 3])))
    # Together the term once and the mean of both activities.
    assert sum(share.numpy() for share in shares) == 6.0


@pytest.mark.parametrize("trainable", [True, False])
def test_a_deep_copy_of_a_variable_keeps_its_terms(trainable):
    v = tf.Variable([1.0, 2.0], name="v", trainable=trainable)
    tfreg.apply_regularization(tfreg.l2_regularizer(2.0), [v])
    tfreg.apply_regularization(tfreg.l1_regularizer(1.0), [v])
    module = tf.Module()
    module.parts = [v]
    twin = copy.deepcopy(module)
    (other,) = twin.parts
    assert other is not v
    other.assign([3.0, 0.0])
    assert float(tfreg.losses.total_loss(tf.zeros([1]), module)) == 5 + 3
    assert float(tfreg.losses.total_loss(tf.zeros([1]), twin)) == 9 + 3
    assert float(tfreg.losses.total_loss(tf.zeros([1]))) == 20
    # A copy of the copy too; and a dropped one takes its terms along.
    third = copy.deepcopy(other)
    assert float(tfreg.losses.total_loss(tf.zeros([1]), [third])) == 12
    del third, other, twin
    gc.collect()
    assert float(tfreg.losses.total_loss(tf.zeros([1]))) == 8


def test_copies_of_variables_that_share_a_term_each_keep_it():
    pair = [tf.Variable([1.0]), tf.Variable([2.0])]
    tfreg.get_default_store().add_term("pair", tfreg.l2_regularizer(2.0), pair)
    twins = copy.deepcopy(pair)
    assert float(tfreg.losses.total_loss(tf.zeros([1]), twins)) == 5
    assert float(tfreg.losses.total_loss(tf.zeros([1]), twins[:1])) == 1


def test_a_copy_on_replicas_keeps_its_terms(two_replicas):
    with two_replicas.scope():
        v = tf.Variable([3.0])
        tfreg.apply_regularization(tfreg.l2_regularizer(2.0), [v])
        twin = copy.deepcopy(v)
    assert float(tfreg.losses.total_loss(tf.zeros([1]), [twin])) == 9


def test_a_copy_of_a_frozen_variable_is_frozen():
    v = tf.Variable([3.0])
    tfreg.apply_regularization(tfreg.l2_regularizer(2.0), [v])
    terms.set_trainable(v, False)
    twin = copy.deepcopy(v)
    assert not twin.trainable
    assert float(tfreg.losses.total_loss(tf.zeros([1]), [twin])) == 0
    terms.set_trainable(twin, True)
    assert twin.trainable
    assert float(tfreg.losses.total_loss(tf.zeros([1]), [twin])) == 9


def test_a_penalized_variable_is_not_pickled():
    v = tf.Variable([3.0], name="v")
    pickle.dumps(v)
    tfreg.apply_regularization(tfreg.l2_regularizer(2.0), [v])
    with pytest.raises(TypeError, match="must not be pickled, got v:0: its penalties"):
        pickle.dumps(v)
