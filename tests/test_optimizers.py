"""Every optimizer against its formula in float64, Keras and tf.compat.v1.train."""

import dataclasses
from collections.abc import Callable

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfreg import optimizers
from tfreg.collections import scopes
from tfreg.optimizers import schedules
from tfreg.runs import config

v1 = tf.compat.v1
RATE = 0.05


@dataclasses.dataclass(frozen=True)
class Case:
    """A member and three others who know what it does; each takes a learning rate."""

    name: str
    ours: Callable
    keras: Callable
    formula: Callable  # (w, g, state, t = 1, 2, ..., rate) -> w, in float64
    v1: Callable | None = None


def sgd(w, g, state, t, rate):
    return w - rate * g


def momentum(w, g, state, t, rate):
    state["accum"] = 0.8 * state.get("accum", 0.0) + g
    return w - rate * state["accum"]


def nesterov(w, g, state, t, rate):
    state["accum"] = 0.8 * state.get("accum", 0.0) + g
    return w - rate * (g + 0.8 * state["accum"])


def adam(w, g, state, t, rate, beta_1=0.9, beta_2=0.999, decay=0.0):
    state["m"] = beta_1 * state.get("m", 0.0) + (1 - beta_1) * g
    state["v"] = beta_2 * state.get("v", 0.0) + (1 - beta_2) * g**2
    correction = np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    move = rate * correction * state["m"] / (np.sqrt(state["v"]) + 1e-7)
    return w - move - rate * decay * w


def fast_adam(w, g, state, t, rate):
    return adam(w, g, state, t, rate, beta_1=0.0, beta_2=0.9)


def adamw(w, g, state, t, rate):
    return adam(w, g, state, t, rate, decay=0.3)


def rmsprop(w, g, state, t, rate, rho=0.9, momentum=0.0, start=0.0, epsilon=1e-7):
    state["ms"] = rho * state.get("ms", start) + (1 - rho) * g**2
    move = rate * g / np.sqrt(state["ms"] + epsilon)
    state["mom"] = momentum * state.get("mom", 0.0) + move
    return w - state["mom"]


def heavy_rmsprop(w, g, state, t, rate):
    return rmsprop(w, g, state, t, rate, rho=0.8, momentum=0.7)


def v1_rmsprop(w, g, state, t, rate):
    return rmsprop(w, g, state, t, rate, start=1.0, epsilon=1e-10)


def adagrad(w, g, state, t, rate):
    state["accum"] = state.get("accum", 0.1) + g**2
    return w - rate * g / (np.sqrt(state["accum"]) + 1e-7)


class V1KerasRMSprop(keras.optimizers.RMSprop):
    """Keras's, from tf.compat.v1's start."""

    def build(self, variables):
        super().build(variables)
        for velocity in self._velocities:
            velocity.assign(np.ones(velocity.shape))


CASES = [
    Case(
        "sgd",
        optimizers.sgd,
        keras.optimizers.SGD,
        sgd,
        v1.train.GradientDescentOptimizer,
    ),
    Case(
        "momentum",
        lambda rate: optimizers.momentum(rate, 0.8),
        lambda rate: keras.optimizers.SGD(rate, momentum=0.8),
        momentum,
        lambda rate: v1.train.MomentumOptimizer(rate, 0.8),
    ),
    Case(
        "nesterov",
        lambda rate: optimizers.momentum(rate, 0.8, nesterov=True),
        lambda rate: keras.optimizers.SGD(rate, momentum=0.8, nesterov=True),
        nesterov,
        lambda rate: v1.train.MomentumOptimizer(rate, 0.8, use_nesterov=True),
    ),
    Case(
        "adam",
        optimizers.adam,
        keras.optimizers.Adam,
        adam,
        lambda rate: v1.train.AdamOptimizer(rate, epsilon=1e-7),
    ),
    Case(
        "fast_adam",
        lambda rate: optimizers.adam(rate, beta_1=0.0, beta_2=0.9),
        lambda rate: keras.optimizers.Adam(rate, beta_1=0.0, beta_2=0.9),
        fast_adam,
        lambda rate: v1.train.AdamOptimizer(rate, 0.0, 0.9, epsilon=1e-7),
    ),
    Case(
        "adamw",
        lambda rate: optimizers.adamw(rate, weight_decay=0.3),
        lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.3),
        adamw,
    ),
    Case("rmsprop", optimizers.rmsprop, keras.optimizers.RMSprop, rmsprop),
    Case(
        "heavy_rmsprop",
        lambda rate: optimizers.rmsprop(rate, rho=0.8, momentum=0.7),
        lambda rate: keras.optimizers.RMSprop(rate, rho=0.8, momentum=0.7),
        heavy_rmsprop,
    ),
    Case(
        "v1_rmsprop",
        lambda rate: optimizers.rmsprop(rate, epsilon=1e-10, initial_mean_square=1.0),
        lambda rate: V1KerasRMSprop(rate, epsilon=1e-10),
        v1_rmsprop,
        v1.train.RMSPropOptimizer,
    ),
    Case(
        "adagrad",
        optimizers.adagrad,
        keras.optimizers.Adagrad,
        adagrad,
        v1.train.AdagradOptimizer,
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Least squares on four of 20 examples a step: `[4, 5] @ [5, 3] + [3]`.

    Batches keep the gradients away from 0, where RMSProp would follow the sign of their
    rounding errors, and two right programs would part.
    """

    x: np.ndarray
    y: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def gradients(self, kernel, bias, step):
        """Returns those of half the mean squared error; for arrays and for tensors."""
        rows = (4 * step + np.arange(4)) % 20
        if isinstance(kernel, np.ndarray):
            error = (self.x[rows] @ kernel + bias - self.y[rows]) / 4
            return [self.x[rows].T @ error, error.sum(0)]
        x, y = tf.gather(self.x, rows), tf.gather(self.y, rows)
        error = (x @ kernel + bias - y) / 4
        return [tf.matmul(x, error, transpose_a=True), tf.reduce_sum(error, 0)]

    def variables(self):
        return [
            tf.Variable(self.kernel, name="dense_0/kernel"),
            tf.Variable(self.bias, name="dense_0/bias"),
        ]

    def cast(self, dtype):
        arrays = (self.x, self.y, self.kernel, self.bias)
        return Problem(*(array.astype(dtype) for array in arrays))


@pytest.fixture
def problem(rng):
    shapes = [(20, 5), (20, 3), (5, 3), (3,)]
    return Problem(*(rng.normal(size=shape).astype("float32") for shape in shapes))


def run_ours(case, problem, num_steps=50, rate=RATE):
    optimizer, variables = case.ours(rate), problem.variables()
    for step in range(num_steps):
        optimizer.apply(problem.gradients(*variables, step), variables)
    return [variable.numpy() for variable in variables]


def run_formula(case, problem, num_steps=50, rates=None):
    rates = np.full(num_steps, RATE) if rates is None else rates
    problem = problem.cast("float64")
    weights, states = [problem.kernel, problem.bias], [{}, {}]
    for step, rate in enumerate(rates):
        triples = zip(weights, problem.gradients(*weights, step), states, strict=True)
        weights = [case.formula(w, g, state, step + 1, rate) for w, g, state in triples]
    return weights


def run_keras(case, problem, num_steps=50):
    optimizer = case.keras(RATE)
    variables = [keras.Variable(problem.kernel), keras.Variable(problem.bias)]
    for step in range(num_steps):
        values = [variable.value for variable in variables]
        optimizer.apply(problem.gradients(*values, step), variables)
    return [variable.numpy() for variable in variables]


def run_v1(case, problem, num_steps=50, rates=None):
    with tf.Graph().as_default(), v1.Session() as session:
        rate = v1.placeholder_with_default(np.float32(RATE), [])
        variables = [
            v1.Variable(problem.kernel, use_resource=True),
            v1.Variable(problem.bias, use_resource=True),
        ]
        step = v1.placeholder(tf.int64, [])
        gradients = problem.gradients(*variables, step)
        train = case.v1(rate).apply_gradients(zip(gradients, variables, strict=True))
        session.run(v1.global_variables_initializer())
        for i in range(num_steps):
            feed = {step: i} if rates is None else {step: i, rate: rates[i]}
            session.run(train, feed)
        return session.run(variables)


def assert_close(got, want, atol):
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=atol)


def assert_equal(got, want):
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def make_loop(optimizer, variables, problem):
    """Returns a compiled function (start, stop) -> None, one step after the other."""

    @tf.function(jit_compile=True)
    def loop(start, stop):
        def body(step):
            optimizer.apply(problem.gradients(*variables, step), variables)
            return step + 1

        tf.while_loop(lambda step: step < stop, body, [start])

    return loop


def int64(number):
    return tf.constant(number, tf.int64)


# Float32 rounds a weight of 1 by 6e-8; measured after 50 steps: up to 4e-7.
ROUNDING = 2e-6


@every_case
def test_trajectory_is_that_of_the_formula(case, problem):
    assert_close(run_ours(case, problem), run_formula(case, problem), ROUNDING)


@every_case
def test_float64_trajectory_is_that_of_the_formula(case, problem):
    # The hyperparameters are float32: 3e-8 of each, times moves of up to 2.
    got = run_ours(case, problem.cast("float64"))
    assert_close(got, run_formula(case, problem), atol=1e-7)


@every_case
def test_trajectory_is_that_of_keras(case, problem):
    # Keras computes 1 - 0.999 ** t in float32, to four digits; measured: 8e-6.
    atol = 3e-5 if "adam" in case.name else ROUNDING
    assert_close(run_ours(case, problem), run_keras(case, problem), atol)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.v1], ids=lambda case: case.name
)
@pytest.mark.parametrize("schedule", [None, "cosine"])
def test_trajectory_is_that_of_tf1(case, schedule, problem):
    rate, rates = RATE, None
    if schedule:
        rate = schedules.cosine(RATE, num_steps=40, warmup_steps=10)
        rates = [rate(step).numpy() for step in range(50)]
    want = run_v1(case, problem, rates=rates)
    assert_close(run_ours(case, problem, rate=rate), want, ROUNDING)


@every_case
def test_schedule_inside_a_compiled_loop_is_followed(case, problem):
    schedule = schedules.cosine(RATE, num_steps=40, warmup_steps=10, final=0.01)
    optimizer, variables = case.ours(schedule), problem.variables()
    make_loop(optimizer, variables, problem)(int64(0), int64(50))
    rates = [float(schedule(step)) for step in range(50)]
    want = run_formula(case, problem, rates=rates)
    assert_close([variable.numpy() for variable in variables], want, ROUNDING)
    assert optimizer.step.numpy() == 50
    np.testing.assert_allclose(optimizer.learning_rate(), 0.01, rtol=1e-6)


@every_case
@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_and_xla_are_eager(case, jit_compile, problem):
    optimizer, variables = case.ours(RATE), problem.variables()

    @tf.function(jit_compile=jit_compile)
    def step(number):
        optimizer.apply(problem.gradients(*variables, number), variables)

    for number in range(10):
        step(int64(number))
    got = [variable.numpy() for variable in variables]
    # XLA contracts a * b + c into one rounding.
    assert_close(got, run_ours(case, problem, num_steps=10), ROUNDING)
    # The slots made at tracing cost no second trace.
    assert step.experimental_get_tracing_count() == 1
    assert optimizer.step.numpy() == 10


def test_loop_over_a_tensor_counter_traces_once(problem):
    schedule = schedules.piecewise([3, 11], [0.1, 0.05, 0.01], warmup_steps=5)
    optimizer, variables = optimizers.adam(schedule), problem.variables()
    loop = make_loop(optimizer, variables, problem)
    for start, stop in [(0, 7), (7, 8), (8, 30)]:
        loop(int64(start), int64(stop))
    assert loop.experimental_get_tracing_count() == 1
    whole, whole_variables = optimizers.adam(schedule), problem.variables()
    make_loop(whole, whole_variables, problem)(int64(0), int64(30))
    assert_equal(variables, whole_variables)


def test_variable_as_learning_rate_takes_effect_without_a_retrace():
    rate, w = tf.Variable(0.5, trainable=False), tf.Variable([1.0])
    optimizer = optimizers.sgd(rate)
    step = tf.function(lambda: optimizer.apply([tf.ones([1])], [w]), jit_compile=True)
    step()
    assert w.numpy() == [0.5]
    rate.assign(0.25)
    step()
    assert w.numpy() == [0.25]
    assert optimizer.learning_rate().numpy() == 0.25
    assert step.experimental_get_tracing_count() == 1


def test_momentum_multiplies_the_whole_sum_by_the_new_rate():
    rate, w = tf.Variable(1.0), tf.Variable([0.0])
    optimizer = optimizers.momentum(rate, 0.5)
    optimizer.apply([tf.ones([1])], [w])
    rate.assign(0.5)
    optimizer.apply([tf.zeros([1])], [w])
    # -1 * 1, then -0.5 * (0.5 * 1); Keras would move by -0.5.
    assert w.numpy() == [-1.25]


def test_decay_takes_the_weights_before_the_update():
    w = tf.Variable([2.0], dtype="float64")
    optimizers.adamw(0.5, weight_decay=0.25).apply([tf.constant([3.0], "float64")], [w])
    # Adam's first move is the rate, but for epsilon: 1e-7 / (3 * sqrt(0.001)).
    np.testing.assert_allclose(w, [2.0 - 0.5 - 0.5 * 0.25 * 2.0], rtol=1e-5)


def test_decay_alone_shrinks_by_rate_times_decay():
    w = tf.Variable([2.0])
    optimizers.adamw(0.5, weight_decay=0.25).apply([tf.zeros([1])], [w])
    assert w.numpy() == [2.0 * (1 - 0.5 * 0.25)]


def test_bias_correction_keeps_float32s_digits():
    w = tf.Variable([0.0])
    optimizer = optimizers.adam(1.0, epsilon=1e-30)
    for _ in range(3):
        before = w.numpy()
        optimizer.apply([tf.ones([1])], [w])
        # A constant gradient moves by the rate; 1 - 0.999 ** t is 6e-5 off in float32.
        np.testing.assert_allclose(w - before, [-1.0], rtol=1e-6)


@every_case
def test_variable_without_gradient_stays_with_its_slots(case, problem):
    optimizer, (kernel, bias) = case.ours(RATE), problem.variables()
    optimizer.apply(problem.gradients(kernel, bias, 0), [kernel, bias])
    kept = [bias, *(variables[1] for variables in optimizer.slots.values())]
    before = [variable.numpy() for variable in kept]
    kernel_before = kernel.numpy()
    gradient = problem.gradients(kernel, bias, 1)[0]
    optimizer.apply([gradient, None], [kernel, bias])
    assert_equal([variable.numpy() for variable in kept], before)
    assert np.all(kernel.numpy() != kernel_before)
    assert optimizer.step.numpy() == 2


@every_case
@pytest.mark.parametrize("jit_compile", [False, True])
def test_indexed_slices_are_the_dense_gradient(case, jit_compile, rng):
    table = rng.normal(size=(5, 2)).astype("float32")
    values = rng.normal(size=(3, 2)).astype("float32")
    indices = [4, 1, 4]
    dense = np.zeros_like(table)
    np.add.at(dense, indices, values)
    got, want = tf.Variable(table), tf.Variable(table)
    optimizer, other = case.ours(RATE), case.ours(RATE)

    @tf.function(jit_compile=jit_compile)
    def step():
        optimizer.apply([tf.IndexedSlices(values, indices, [5, 2])], [got])

    for _ in range(3):
        step()
        other.apply([dense], [want])
    assert_close([got], [want], ROUNDING)


@every_case
@pytest.mark.parametrize("build_first", [True, False])
def test_restored_midway_it_continues_to_the_bit(case, build_first, problem, tmp_path):
    schedule = schedules.cosine(RATE, num_steps=20, warmup_steps=3)

    def start():
        optimizer, variables = case.ours(schedule), problem.variables()
        objects = {"optimizer": optimizer, "variables": variables}
        return optimizer, variables, tf.train.Checkpoint(**objects)

    def advance(optimizer, variables, steps):
        for step in steps:
            optimizer.apply(problem.gradients(*variables, step), variables)

    optimizer, variables, checkpoint = start()
    advance(optimizer, variables, range(6))
    path = checkpoint.write(str(tmp_path / "checkpoint"))
    advance(optimizer, variables, range(6, 12))

    again, again_variables, checkpoint = start()
    if build_first:
        again.build(again_variables)
    status = checkpoint.read(path)
    again.build(again_variables)
    status.assert_consumed()
    assert again.step.numpy() == 6
    advance(again, again_variables, range(6, 12))
    assert_equal(again_variables, variables)
    for slot, slot_variables in optimizer.slots.items():
        assert_equal(again.slots[slot], slot_variables)


def test_checkpoint_names_slots_by_position(problem, tmp_path):
    optimizer = optimizers.adam()
    optimizer.build(problem.variables())
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    names = {name.split("/.")[0] for name, _ in tf.train.list_variables(path)}
    slots = {f"optimizer/slots/{slot}/{i}" for slot in "mv" for i in range(2)}
    assert names == {"_CHECKPOINTABLE_OBJECT_GRAPH", "optimizer/step"} | slots


def test_variable_as_learning_rate_is_in_the_checkpoint(tmp_path):
    rate = tf.Variable(0.5)
    checkpoint = tf.train.Checkpoint(optimizer=optimizers.sgd(rate))
    path = checkpoint.write(str(tmp_path / "checkpoint"))
    rate.assign(0.1)
    checkpoint.read(path)
    assert rate.numpy() == 0.5


def test_slots_are_named_after_their_variables_and_shaped_like_them(problem):
    optimizer, variables = (
        optimizers.rmsprop(initial_mean_square=0.5),
        problem.variables(),
    )

    @tf.function
    def first_step():
        with tf.name_scope("training"):
            optimizer.apply(problem.gradients(*variables, 0), variables)

    first_step()
    names = {name: [v.name for v in slot] for name, slot in optimizer.slots.items()}
    assert names == {
        "ms": ["dense_0/kernel/ms:0", "dense_0/bias/ms:0"],
        "mom": ["dense_0/kernel/mom:0", "dense_0/bias/mom:0"],
    }
    for slot in optimizer.slots.values():
        assert [v.shape for v in slot] == [v.shape for v in variables]
    assert not optimizer.trainable_variables
    fresh = optimizers.rmsprop(initial_mean_square=0.5)
    fresh.build(variables)
    np.testing.assert_array_equal(fresh.slots["ms"][1], [0.5] * 3)
    np.testing.assert_array_equal(fresh.slots["mom"][1], [0.0] * 3)


def test_build_is_idempotent(problem):
    optimizer, variables = optimizers.adam(), problem.variables()
    optimizer.build(variables)
    slots = list(optimizer.slots["m"])
    optimizer.build(tuple(variables))
    assert [a is b for a, b in zip(optimizer.slots["m"], slots, strict=True)] == [1, 1]
    assert optimizer.step.numpy() == 0


def test_slots_lie_on_their_variables_device():
    device = tf.config.list_logical_devices("CPU")[-1].name
    with tf.device(device):
        w = tf.Variable([1.0])
    optimizer = optimizers.adam()
    optimizer.build([w])
    assert [slot[0].device for slot in optimizer.slots.values()] == [w.device] * 2


@pytest.fixture(scope="module")
def strategy():
    devices = tf.config.list_logical_devices("CPU")[:2]
    if len(devices) < 2:
        pytest.skip("fewer than two logical CPUs: conftest.py makes four")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def run_on_replicas(strategy, step, compiled):
    """Runs `step` on each replica, in one function; compiled on its own device."""

    def on_replica():
        if not compiled:
            return step()
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        device = strategy.extended.worker_devices[tf.get_static_value(replica)]
        # Without it XLA compiles every replica for the first's device.
        with tf.device(device):
            return tf.function(step, jit_compile=True)()

    return tf.function(lambda: strategy.run(on_replica))


@every_case
@pytest.mark.parametrize("compiled, build_first", [(False, True), (True, False)])
def test_every_replica_is_the_one_device(
    case, compiled, build_first, problem, strategy
):
    with strategy.scope():
        schedule = schedules.cosine(RATE, num_steps=5)
        optimizer, variables = case.ours(schedule), problem.variables()
    if build_first:
        optimizer.build(variables)

    def step():
        number = optimizer.step.read_value()
        summed = problem.gradients(*variables, number)
        optimizer.apply(summed, variables, summed=True)

    run = run_on_replicas(strategy, step, compiled)
    for _ in range(3):
        run()
    want = run_ours(case, problem, num_steps=3, rate=schedule)
    for replica, device in enumerate(strategy.extended.worker_devices):
        local = [strategy.experimental_local_results(v)[replica] for v in variables]
        assert_close(local, want, ROUNDING)
        for variable in [optimizer.step, *sum(optimizer.slots.values(), [])]:
            local = strategy.experimental_local_results(variable)[replica]
            assert local.device.endswith(device)
            assert local.shape or local.numpy() == 3


def test_replicas_add_their_gradients_up(strategy):
    with strategy.scope():
        w, optimizer = tf.Variable([1.0, 2.0]), optimizers.sgd(0.5)

    def step():
        share = scopes.get_replica() + 1.0
        optimizer.apply([tf.fill([2], share)], [w])

    tf.function(lambda: strategy.run(step))()
    replicas = strategy.num_replicas_in_sync
    total = replicas * (replicas + 1) / 2
    for local in strategy.experimental_local_results(w):
        np.testing.assert_array_equal(local, [1 - 0.5 * total, 2 - 0.5 * total])


def test_mirrored_variables_outside_a_replica_are_refused(strategy):
    with strategy.scope():
        w, optimizer = tf.Variable([1.0]), optimizers.sgd(0.1)
        with pytest.raises(RuntimeError, match=r"strategy\.run"):
            optimizer.apply([tf.ones([1])], [w])
    # Here the handle would be the first replica's, and the second left behind.
    with pytest.raises(RuntimeError, match=r"strategy\.run"):
        optimizer.apply([tf.ones([1])], [w])
    assert w.numpy() == [1.0]
    assert optimizer.step.numpy() == 0


def test_optimizer_of_another_strategy_is_refused(strategy):
    with strategy.scope():
        w = tf.Variable([1.0])
    # Its step would be counted once by each replica.
    optimizer = optimizers.sgd(0.1)
    with pytest.raises(RuntimeError, match=r"strategy\.scope"):
        strategy.run(lambda: optimizer.apply([tf.ones([1])], [w]))


STEPS = [*range(0, 30), 99, 100, 101, 5000]


@pytest.mark.parametrize("warmup_steps", [0, 7])
@pytest.mark.parametrize("final", [0.0, 0.02])
def test_cosine_is_that_of_keras(warmup_steps, final):
    ours = schedules.cosine(0.1, 100, warmup_steps, final)
    theirs = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else 0.1,
        100 - warmup_steps,
        alpha=final / 0.1,
        warmup_target=0.1 if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    # Rounding of the cosine's argument, relative to the peak.
    assert_close(map(ours, STEPS), map(theirs, STEPS), atol=0.1 * 1e-6)


def test_cosine_has_its_corners():
    schedule = schedules.cosine(0.5, num_steps=30, warmup_steps=10, final=0.125)
    got = [schedule(int64(step)).numpy() for step in [0, 5, 10, 20, 30, 10**12]]
    assert got == [0.0, 0.25, 0.5, 0.3125, 0.125, 0.125]


@hypothesis.given(
    st.floats(1e-6, 1e3),
    st.integers(0, 1000),
    st.integers(1, 1000),
    st.integers(0, 9999),
)
@hypothesis.settings(deadline=None, derandomize=True, max_examples=50)
def test_cosine_stays_between_zero_and_peak(peak, warmup_steps, more, step):
    schedule = schedules.cosine(peak, warmup_steps + more, warmup_steps)
    # A rounding above: the half wave is added up in float32.
    assert 0.0 <= schedule(step).numpy() <= peak * (1 + 1e-6)


def test_piecewise_is_that_of_keras():
    ours = schedules.piecewise([3, 10], [0.5, 0.25, 0.125])
    theirs = keras.optimizers.schedules.PiecewiseConstantDecay(
        [3, 10], [0.5, 0.25, 0.125]
    )
    got = [ours(int64(step)).numpy() for step in range(15)]
    assert got == [float(theirs(step)) for step in range(15)]


def test_piecewise_warms_up_to_its_value():
    schedule = schedules.piecewise([6], [0.5, 0.25], warmup_steps=4)
    got = [schedule(int64(step)).numpy() for step in range(8)]
    assert got == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.25]


def test_piecewise_of_one_value_and_constant_are_constant():
    assert schedules.piecewise([], [0.5])(int64(9)).numpy() == 0.5
    rate = schedules.constant(0.5)(int64(9))
    assert (rate.numpy(), rate.dtype, rate.shape) == (0.5, tf.float32, [])


def test_keras_schedule_is_a_schedule():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    optimizer, w = optimizers.sgd(schedule), tf.Variable([1.0])
    for _ in range(2):
        optimizer.apply([tf.ones([1])], [w])
    assert w.numpy() == [1.0 - 0.5 - 0.25]


@pytest.mark.parametrize("name", config.OPTIMIZERS)
def test_every_name_is_a_factory_of_a_learning_rate(name):
    optimizer = getattr(optimizers, name)(0.25)
    assert isinstance(optimizer, optimizers.Optimizer)
    rate = optimizer.learning_rate()
    assert (rate.numpy(), rate.dtype, rate.shape) == (0.25, tf.float32, [])


@pytest.mark.parametrize("name", config.SCHEDULES)
def test_every_schedule_has_a_factory(name):
    arguments = {"constant": [0.5], "cosine": [0.5, 9], "piecewise": [[3], [0.5, 0.1]]}
    arguments["linear"] = [0.5, 0.1, 9]
    assert getattr(schedules, name)(*arguments[name])(int64(0)).numpy() == 0.5


@pytest.mark.parametrize("name", config.OPTIMIZERS)
@pytest.mark.parametrize(
    "rate",
    [
        True,
        0.0,
        0,
        np.int64(-1),
        "0.1",
        -0.1,
        float("nan"),
        float("inf"),
        1e-50,
        1e39,
        "cosine",
        None,
    ],
)
def test_learning_rate_is_refused(name, rate):
    with pytest.raises(ValueError) as error:
        getattr(optimizers, name)(rate)
    assert str(error.value) == (
        "learning_rate must be a finite float > 0, a tf.Variable or a schedule, got "
        f"{rate!r}: write e.g. 0.1"
    )


FRACTIONS = [
    ("momentum", "momentum"),
    ("adam", "beta_1"),
    ("adamw", "beta_2"),
    ("rmsprop", "rho"),
    ("rmsprop", "momentum"),
]
POSITIVES = [("adam", "epsilon"), ("rmsprop", "epsilon"), ("adagrad", "epsilon")]
NONNEGATIVES = [
    ("adamw", "weight_decay"),
    ("rmsprop", "initial_mean_square"),
    ("adagrad", "initial_accumulator_value"),
]
FRACTION = "float in [0, 1), got {!r}: write 0.5 for a half"
POSITIVE = "finite float > 0, got {!r}: write e.g. 0.1"
NONNEGATIVE = "finite float >= 0, got {!r}: write e.g. 0.1"
REFUSED = [
    *((*p, v, FRACTION) for p in FRACTIONS for v in [1, 1.0, -0.1, 1 - 1e-9]),
    *((*p, v, POSITIVE) for p in POSITIVES for v in [0.0, True, float("nan")]),
    *((*p, v, NONNEGATIVE) for p in NONNEGATIVES for v in [-1, False, float("inf")]),
]


@pytest.mark.parametrize("name, argument, value, message", REFUSED)
def test_hyperparameter_is_refused(name, argument, value, message):
    with pytest.raises(ValueError) as error:
        getattr(optimizers, name)(0.1, **{argument: value})
    assert str(error.value) == f"{argument} must be a {message.format(value)}"


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: schedules.constant(True), "value must be a finite float >= 0, got"),
        (
            lambda: schedules.cosine(0.0, 9),
            "peak must be a finite float > 0, got 0.0:",
        ),
        (
            lambda: schedules.cosine(0.1, 9, 0, -1.0),
            "final must be a finite float >= 0",
        ),
        (
            lambda: schedules.cosine(0.1, 9.0),
            "num_steps must be an int >= 1, got 9.0:",
        ),
        (
            lambda: schedules.cosine(0.1, 9, 9),
            "num_steps must be an int >= 10, got 9:",
        ),
        (lambda: schedules.cosine(0.1, 9, -1), "warmup_steps must be an int >= 0"),
        (
            lambda: schedules.cosine(0.1, True),
            "num_steps must be an int >= 1, got True",
        ),
        (
            lambda: schedules.piecewise([5, 5], [0.1] * 3),
            "boundaries must be an int >= 6",
        ),
        (
            lambda: schedules.piecewise([-1], [0.1] * 2),
            "boundaries must be an int >= 0",
        ),
        (
            lambda: schedules.piecewise([5], [0.1]),
            r"values must be 2 floats, got \[0.1\]",
        ),
        (
            lambda: schedules.piecewise([5], [0.1, -1]),
            "values must be a finite float >= 0",
        ),
        (
            lambda: schedules.piecewise([], [0.1], 0.5),
            "warmup_steps must be an int >= 0",
        ),
    ],
)
def test_schedule_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_schedule_keeps_its_boundaries_when_the_callers_list_changes():
    boundaries = [3]
    schedule = schedules.piecewise(boundaries, [0.5, 0.25])
    boundaries.append(4)
    assert schedule(int64(9)).numpy() == 0.25


@pytest.mark.parametrize(
    "gradients, message",
    [
        ([1.0], "must be 2 and not all None, got 1, None 0 times: pass what the tape"),
        ([None, None], "must be 2 and not all None, got 2, None 2 times"),
        ([], "must be 2 and not all None, got 0"),
    ],
)
def test_gradients_are_refused_before_anything_is_written(gradients, message):
    optimizer, variables = optimizers.adam(), [tf.Variable(1.0), tf.Variable(2.0)]
    with pytest.raises(ValueError, match=f"gradients {message}"):
        optimizer.apply(gradients, variables)
    assert optimizer.slots == {"m": [], "v": []}
    assert optimizer.step.numpy() == 0


def test_each_variable_keeps_its_slots_whatever_is_updated_beside_it():
    variables = [tf.Variable(1.0, name=name) for name in "abc"]
    alone = [tf.Variable(1.0, name=name) for name in "abc"]
    optimizer = optimizers.momentum(0.1)
    optimizer.build(variables[:2])
    own = [optimizers.momentum(0.1) for _ in alone]
    # One after the other is frozen, another comes, and the order changes.
    for places in ([0, 1], [0], [2, 0], [1, 2], [0, 1, 2]):
        gradients = [tf.constant(i + 1.0) for i in places]
        optimizer.apply(gradients, [variables[i] for i in places])
        for i, gradient in zip(places, gradients, strict=True):
            own[i].apply([gradient], [alone[i]])
    assert [v.numpy() for v in variables] == [v.numpy() for v in alone]
    assert len(optimizer.slots["accum"]) == 3


def test_variable_named_twice_is_refused():
    a = tf.Variable(1.0, name="a")
    with pytest.raises(ValueError, match=r"\['a:0', 'a:0'\]"):
        optimizers.adam().build([a, a])


@pytest.mark.parametrize(
    "make, got",
    [
        (lambda: keras.Variable(1.0), "Variable path="),
        (lambda: tf.constant(1.0), "tf.Tensor"),
        # Adam's 0.999 is 1.0 in bfloat16.
        (lambda: tf.Variable(1.0, dtype="bfloat16"), "dtype=bfloat16"),
        (lambda: tf.Variable(1.0, dtype="float16"), "dtype=float16"),
    ],
)
def test_what_is_no_float_variable_is_refused(make, got):
    message = f"must be float32 or float64 tf.Variables, got .*{got}.*: cast where"
    with pytest.raises(TypeError, match=message):
        optimizers.sgd(0.1).apply([tf.constant(1.0)], [make()])
