"""Updates of a table's rows against tf.compat.v1.train, one device and closed forms."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, layers, losses, optimizers
from tfreg.optimizers import gradients

v1 = tf.compat.v1
RATE = 0.05
ROWS = 9
IDS = np.array([[4, 1, 4], [7, 7, 7], [1, 4, 2], [2, 1, 7], [4, 4, 1]], "int32")
UNUSED = [0, 3, 5, 6, 8]
# Float32 rounds a weight of 1 by 6e-8; five updates of moves up to 0.2.
ROUNDING = 5e-7

TF1 = {
    "sgd": (v1.train.GradientDescentOptimizer, optimizers.sgd),
    "momentum": (
        lambda rate: v1.train.MomentumOptimizer(rate, 0.8),
        lambda rate: optimizers.momentum(rate, 0.8),
    ),
    "nesterov": (
        lambda rate: v1.train.MomentumOptimizer(rate, 0.8, use_nesterov=True),
        lambda rate: optimizers.momentum(rate, 0.8, nesterov=True),
    ),
    "rmsprop": (
        lambda rate: v1.train.RMSPropOptimizer(rate, momentum=0.7),
        lambda rate: optimizers.rmsprop(
            rate, momentum=0.7, epsilon=1e-10, initial_mean_square=1.0
        ),
    ),
    "adagrad": (v1.train.AdagradOptimizer, optimizers.adagrad),
    "adam": (
        lambda rate: v1.train.AdamOptimizer(rate, epsilon=1e-7),
        optimizers.adam,
    ),
}
LAZY = {
    "lazy adam": lambda rate: optimizers.adam(rate, lazy=True),
    "lazy adamw": lambda rate: optimizers.adamw(rate, weight_decay=0.3, lazy=True),
}
OURS = {name: ours for name, (_, ours) in TF1.items()}
SPARSE = {name: ours for name, ours in OURS.items() if name != "adam"} | LAZY
every_sparse = pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE.keys())
MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "XLA": lambda function: tf.function(function, jit_compile=True),
}
every_mode = pytest.mark.parametrize("compiled", MODES.values(), ids=MODES.keys())


def half_squares(table, ids):
    return tf.reduce_sum((tf.gather(table, ids) - 1.0) ** 2) / 2


def draw(rng, dtype="float32"):
    return rng.normal(size=(ROWS, 2)).astype(dtype)


def run_ours(make, start, compiled=MODES["eager"]):
    """Returns the table and the optimizer after one update for each row of IDS."""
    table, optimizer = tf.Variable(start), make(RATE)

    def step(ids):
        with tf.GradientTape() as tape:
            loss = half_squares(table, ids)
        optimizer.apply([tape.gradient(loss, table)], [table])

    step = compiled(step)
    for ids in IDS:
        step(tf.constant(ids))
    return table, optimizer


def run_v1(make, start):
    with tf.Graph().as_default(), v1.Session() as session:
        table = v1.Variable(start, use_resource=True)
        ids = v1.placeholder(tf.int32, [None])
        train = make(RATE).minimize(half_squares(table, ids))
        session.run(v1.global_variables_initializer())
        for row in IDS:
            session.run(train, {ids: row})
        return session.run(table)


@pytest.mark.parametrize("name", TF1)
@every_mode
def test_updates_of_rows_are_those_of_tf1(name, compiled, rng):
    theirs, ours = TF1[name]
    start = draw(rng)
    table, _ = run_ours(ours, start, compiled)
    # TF1 computes Adam's 1 - 0.999 ** t in float32, to four digits.
    atol = 5e-6 if name == "adam" else ROUNDING
    np.testing.assert_allclose(table, run_v1(theirs, start), rtol=0, atol=atol)


@every_sparse
@every_mode
def test_rows_that_nobody_looked_up_stay_to_the_bit(make, compiled, rng):
    start = draw(rng)
    table, optimizer = run_ours(make, start, compiled)
    np.testing.assert_array_equal(table.numpy()[UNUSED], start[UNUSED])
    assert np.all(table.numpy()[[1, 2, 4, 7]] != start[[1, 2, 4, 7]])
    unbuilt = make(RATE)
    unbuilt.build([tf.Variable(start)])
    for slot, (variable,) in optimizer.slots.items():
        first = unbuilt.slots[slot][0].numpy()
        np.testing.assert_array_equal(variable.numpy()[UNUSED], first[UNUSED])
    assert optimizer.step.numpy() == len(IDS)


@every_sparse
def test_a_row_moves_only_when_it_is_looked_up(make, rng):
    table, optimizer = tf.Variable(draw(rng)), make(RATE)
    for ids in ([2, 5], [5, 5]):
        before = table.numpy()
        with tf.GradientTape() as tape:
            loss = half_squares(table, ids)
        optimizer.apply([tape.gradient(loss, table)], [table])
    np.testing.assert_array_equal(table.numpy()[2], before[2])  # It doesn't coast.
    assert np.all(table.numpy()[5] != before[5])


@every_sparse
def test_float64_rows_are_the_dense_update_where_all_are_looked_up(make, rng):
    start, ids = draw(rng, "float64"), [*range(ROWS), 3, 3, 0]
    got, want = tf.Variable(start), tf.Variable(start)
    optimizer, dense = make(RATE), make(RATE)
    for _ in range(4):
        with tf.GradientTape() as tape:
            loss = half_squares(got, ids)
        gradient = tape.gradient(loss, got)
        assert isinstance(gradient, tf.IndexedSlices)
        optimizer.apply([gradient], [got])
        with tf.GradientTape() as tape:
            loss = half_squares(want, ids)
        dense.apply([tf.convert_to_tensor(tape.gradient(loss, want))], [want])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def lazy_adam(start, decay=0.0):
    """Returns the table after IDS by the formula, in float64, row by row."""
    w, m, v = start.astype("float64"), np.zeros((ROWS, 2)), np.zeros((ROWS, 2))
    for t, ids in enumerate(IDS, 1):
        for row, count in zip(*np.unique(ids, return_counts=True), strict=True):
            g = count * (w[row] - 1.0)
            m[row] = 0.9 * m[row] + 0.1 * g
            v[row] = 0.999 * v[row] + 0.001 * g**2
            rate = RATE * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            move = rate * m[row] / (np.sqrt(v[row]) + 1e-7)
            w[row] -= RATE * decay * w[row] + move
    return w


@every_mode
@pytest.mark.parametrize("name, decay", [("lazy adam", 0.0), ("lazy adamw", 0.3)])
def test_lazy_adam_is_its_formula(name, decay, compiled, rng):
    start = draw(rng)
    table, _ = run_ours(LAZY[name], start, compiled)
    np.testing.assert_allclose(table, lazy_adam(start, decay), rtol=0, atol=ROUNDING)


@every_sparse
def test_without_an_id_nothing_moves(make, rng):
    start = draw(rng)
    table, optimizer = tf.Variable(start), make(RATE)
    empty = tf.IndexedSlices(tf.zeros([0, 2]), tf.zeros([0], tf.int32), [ROWS, 2])
    optimizer.apply([empty], [table])
    np.testing.assert_array_equal(table, start)


def test_the_norm_is_that_of_the_dense_gradient(rng):
    values, dense = rng.normal(size=(4, 2)), rng.normal(size=(3,))
    slices = tf.IndexedSlices(values, [5, 0, 5, 5], [ROWS, 2])
    table = np.zeros((ROWS, 2))
    np.add.at(table, [5, 0, 5, 5], values)
    want = np.sqrt(np.sum(table**2) + np.sum(dense**2))
    norm = optimizers.global_norm([slices, None, tf.constant(dense)])
    np.testing.assert_allclose(norm, want, rtol=1e-12)


@pytest.mark.parametrize("sparse", [(True, True), (True, False), (False, True)])
def test_a_sum_of_gradients_is_sparse_where_both_are(sparse, rng):
    slices = [
        tf.IndexedSlices(rng.normal(size=(2, 2)), tf.constant([1, 1], dtype), [3, 2])
        for dtype in ("int32", "int64")
    ]
    tensors = list(map(tf.convert_to_tensor, slices))
    pairs = zip(sparse, slices, tensors, strict=True)
    total = gradients.add(*(s if is_sparse else t for is_sparse, s, t in pairs))
    assert isinstance(total, tf.IndexedSlices) == all(sparse)
    np.testing.assert_allclose(tf.convert_to_tensor(total), tensors[0] + tensors[1])


class Tagger(tf.Module):
    """Embeds `[batch, 3]` ids, twice on request, and classifies their mean."""

    def __init__(self, twice=False, **regularizers):
        super().__init__()
        self.embedding = layers.Embedding(ROWS, 4, seed=1, name="table", **regularizers)
        self.dense = layers.Dense(3, seed=2, name="dense")
        self.twice = twice

    def __call__(self, x, training=False):
        inputs = tf.reduce_mean(self.embedding(x), 1)
        if self.twice:
            inputs += self.embedding(x[:, 0])
        return self.dense(inputs)


@pytest.fixture
def split(rng):
    x = rng.choice([1, 2, 4, 7], size=(23, 3)).astype("int32")
    return data.Split(x, rng.integers(0, 3, 23).astype("int32"))


def make_step(make, model=None, **settings):
    loss = losses.sparse_softmax_cross_entropy
    return tfreg.Step(model or Tagger(), loss, make(RATE), **settings)


def get_values(step):
    slots = sum(step.optimizer.slots.values(), [])
    return [v.numpy() for v in [*step.model.trainable_variables, *slots]]


def record_table_gradients(step):
    """Returns a list that gets the kind of the table's gradient at each update."""
    kinds, apply = [], step.optimizer.apply

    def spy(gradients, variables, summed=False):
        place = [v.shape[0] for v in variables].index(ROWS)
        kinds.append(isinstance(gradients[place], tf.IndexedSlices))
        apply(gradients, variables, summed)

    step.optimizer.apply = spy
    return kinds


def assert_close(got, want, atol=ROUNDING):
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


SETTINGS = [
    {},
    {"clip_norm": 0.1},
    {"accumulate": 3},
    {"precision": "float16"},
    {"accumulate": 2, "clip_norm": 0.1, "precision": "float16"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("twice", [False, True])
def test_a_step_keeps_the_gradient_sparse_and_is_the_dense_one(settings, twice, split):
    def run(takes_rows):
        step = make_step(optimizers.adagrad, Tagger(twice), **settings)
        step.optimizer.takes_rows = takes_rows
        kinds = record_table_gradients(step)
        train = tf.function(step)
        for start in (0, 8):
            x, y = (v[start : start + 8] for v in (split.x, split.y))
            report = train(tf.constant(x), tf.constant(y))
        assert set(kinds) == {takes_rows}
        return [*get_values(step), report["gradient_norm"]]

    # Adagrad moves no row without a gradient: the dense update is the same.
    assert_close(run(True), run(False))


@pytest.mark.parametrize(
    "regularizers, is_sparse",
    [
        ({"activity_regularizer": tfreg.l2_regularizer(0.1)}, True),
        ({"kernel_regularizer": tfreg.l2_regularizer(0.1)}, False),
    ],
)
def test_only_a_penalty_of_the_whole_table_makes_its_gradient_dense(
    regularizers, is_sparse, split
):
    step = make_step(optimizers.momentum, Tagger(**regularizers))
    kinds = record_table_gradients(step)
    x, y = tf.constant(split.x), tf.constant(split.y)
    step.evaluate(x, y)
    before = step.model.embedding.embeddings.numpy()
    step(x, y)
    assert kinds == [is_sparse]
    after = step.model.embedding.embeddings.numpy()
    if is_sparse:
        np.testing.assert_array_equal(after[UNUSED], before[UNUSED])
    else:  # Of unused rows the gradient is the penalty's.
        want = before[UNUSED] * (1 - RATE * 0.1)
        np.testing.assert_allclose(after[UNUSED], want, rtol=1e-6)


def test_a_table_that_is_also_used_whole_is_updated_whole(rng):
    start = draw(rng)
    table, optimizer = tf.Variable(start), optimizers.sgd(RATE)
    with tf.GradientTape() as tape:
        loss = half_squares(table, [1, 1]) + tf.reduce_sum(table**2) / 2
    optimizer.apply([tape.gradient(loss, table)], [table])
    want = start.copy()
    want -= RATE * start
    want[1] -= RATE * 2 * (start[1] - 1)
    np.testing.assert_allclose(table, want, rtol=1e-5)


@every_mode
def test_an_activity_regularizer_penalizes_each_row_as_often_as_it_occurs(
    compiled, rng
):
    layer = layers.Embedding(
        ROWS, 4, activity_regularizer=tfreg.l2_regularizer(0.3), name="embedding"
    )
    ids = tf.constant([[4, 1, 4], [4, 7, 1]])
    layer(ids)

    def compute():
        with tfreg.step_scope(0), tf.GradientTape() as tape:
            per_example = 0.0 * tf.reduce_sum(layer(ids), [1, 2])
            loss = losses.total_loss(per_example, layer)
        gradient = tape.gradient(loss, layer.embeddings)
        assert isinstance(gradient, tf.IndexedSlices)
        return loss, gradient

    loss, gradient = compiled(compute)()
    w = layer.embeddings.numpy().astype("float64")
    counts = np.zeros([ROWS, 1])
    counts[[4, 1, 7], 0] = 3, 2, 1
    np.testing.assert_allclose(loss, 0.3 / 2 * np.sum(counts * w**2) / 2, rtol=1e-6)
    want = 0.3 * counts * w / 2
    np.testing.assert_allclose(tf.convert_to_tensor(gradient), want, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:weights should shrink")
@pytest.mark.parametrize("name", ["sgd", "momentum", "lazy adamw"])
def test_the_loop_on_replicas_is_the_one_device(name, split, two_replicas):
    def run(strategy):
        with strategy.scope() if strategy else contextlib.nullcontext():
            regularizer = tfreg.l2_regularizer(0.1)
            model = Tagger(twice=True, activity_regularizer=regularizer)
            step = make_step(SPARSE[name], model, clip_norm=0.2)
        # Of 7 one replica has 3 and the other 4.
        loop = tfreg.Loop(step, split, batch_size=7, strategy=strategy)
        start = model.embedding.embeddings.numpy()
        report = loop.train(0)
        table = model.embedding.embeddings.numpy()
        np.testing.assert_array_equal(table[UNUSED], start[UNUSED])
        return get_values(step), report

    (got, report), (want, alone) = run(two_replicas), run(None)
    # Adam divides rounding errors by the root of v, which is small at the start.
    assert_close(got, want, atol=5e-6)
    np.testing.assert_allclose(
        report["gradient_norm"], alone["gradient_norm"], rtol=1e-5
    )


@pytest.mark.parametrize("reduction", [None, tf.distribute.ReductionToOneDevice()])
@pytest.mark.parametrize("compiled", [MODES["eager"], MODES["graph"]])
def test_a_loop_of_ones_own_gathers_the_replicas_rows(reduction, compiled, rng):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], reduction)
    start = draw(rng)
    with strategy.scope():
        table, optimizer = tf.Variable(start), optimizers.adagrad(RATE)
        bias = tf.Variable([0.5])
    ids = [[4, 1, 4, 7], [4]]  # Of different lengths.

    def on_replica():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        mine = ids[tf.get_static_value(replica)]
        with tf.GradientTape() as tape:
            loss = half_squares(table, mine) + tf.reduce_sum(bias**2) / 2
        found = optimizers.sum_over_replicas(tape.gradient(loss, [table, bias]))
        assert isinstance(found[0], tf.IndexedSlices)
        optimizer.apply(found, [table, bias], summed=True)

    compiled(lambda: strategy.run(on_replica))()
    want, alone = tf.Variable(start), optimizers.adagrad(RATE)
    with tf.GradientTape() as tape:
        loss = half_squares(want, sum(ids, []))
    alone.apply([tape.gradient(loss, want)], [want])
    for local in strategy.experimental_local_results(table):
        np.testing.assert_allclose(local, want, rtol=0, atol=ROUNDING)
        np.testing.assert_array_equal(local.numpy()[UNUSED], start[UNUSED])


def test_one_trace_serves_any_number_of_ids(rng):
    table, optimizer = tf.Variable(draw(rng)), optimizers.adagrad(RATE)
    want, alone = tf.Variable(table), optimizers.adagrad(RATE)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def step(ids):
        with tf.GradientTape() as tape:
            loss = half_squares(table, ids)
        optimizer.apply([tape.gradient(loss, table)], [table])

    for ids in ([1, 1, 2], [], [4, 7, 4, 4, 1]):
        step(tf.constant(ids, tf.int64))
        with tf.GradientTape() as tape:
            loss = half_squares(want, tf.constant(ids, tf.int64))
        alone.apply([tape.gradient(loss, want)], [want])
    assert step.experimental_get_tracing_count() == 1
    np.testing.assert_allclose(table, want, rtol=0, atol=ROUNDING)
