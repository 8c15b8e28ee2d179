"""What tfreg needs of undocumented TensorFlow, and where it is allowed to."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import _tensorflow

PACKAGE = pathlib.Path(tfreg.__file__).parent
UNDOCUMENTED = re.compile(
    r"tensorflow\.(python|compiler)\b|keras\.src\b|__internal__|\.handle\b"
    r"|\b(building_function|outer_graph|current_var_scope|_trainable)\b|TFE_Py_"
    r"|\.(_functions|_flatten|_resource)\b"
)


def test_undocumented_tensorflow_stands_in_one_module():
    uses = {
        (path.name, match.group())
        for path in PACKAGE.rglob("*.py")
        for match in UNDOCUMENTED.finditer(path.read_text(encoding="utf-8"))
    }
    assert {name for name, _ in uses} == {"_tensorflow.py"}
    assert len(uses) <= 10


def test_a_tape_tells_whether_it_could_record():
    is_recording = _tensorflow.is_recording
    outside = _tensorflow.is_recording()
    with tf.GradientTape() as tape:
        inside = _tensorflow.is_recording()
        with tape.stop_recording():
            stopped = _tensorflow.is_recording()
        recomputed = []
        forward = tf.recompute_grad(lambda x: recomputed.append(is_recording()) or x)
        forward(tf.ones([]))
    got = (outside, inside, stopped, *recomputed)
    assert got == (False, True, False, False), "eager.record.could_possibly_record"


def test_a_trace_knows_those_around_it():
    chains = []

    @tf.function
    def outer(x):
        graph = tf.compat.v1.get_default_graph()

        def branch():
            inner = tf.compat.v1.get_default_graph()
            chains.append((graph, _tensorflow.get_chain(inner)))
            return x

        return tf.cond(x > 0, branch, lambda: x)

    outer(tf.ones([]))
    graph, chain = chains[0]
    assert chain[1:] == [graph], "FuncGraph.outer_graph, building_function"
    assert _tensorflow.get_chain(None) == [None]
    with tf.Graph().as_default() as plain:
        assert _tensorflow.get_chain(plain) == [plain]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_trace_knows_the_functions_that_it_calls(compiled):
    inner = tf.function(lambda x: x + 1.0, jit_compile=compiled)
    traced = inner.get_concrete_function(tf.ones([])).graph

    @tf.function
    def outer(x):
        before = _tensorflow.find_called([tf.compat.v1.get_default_graph()])
        y = inner(x)
        after = _tensorflow.find_called([tf.compat.v1.get_default_graph()])
        assert len(before) == 1 and traced in after, "Graph._functions"
        return y

    assert outer(tf.ones([])) == 2.0


def test_a_trace_lists_what_a_call_runs():
    @tf.function
    def step(x):
        tf.sin(x)
        tf.print(x)
        return tf.cos(x)

    graph = step.get_concrete_function(tf.TensorSpec([])).graph
    operations = map(graph.get_operation_by_name, _tensorflow.list_results(graph))
    types = {operation.type for operation in operations}
    assert types == {"Identity", "PrintV2"}, "FuncGraph.outputs, control_outputs"
    assert _tensorflow.list_results(tf.Graph()) is None


def test_kernels_are_listed_with_their_types():
    numbers = {"T": {tf.float32.as_datatype_enum}}
    strings = {"T": {tf.string.as_datatype_enum}}
    built_for_gpus = tf.test.is_built_with_cuda()
    for device_type in ("CPU", "XLA_CPU_JIT", "XLA_GPU_JIT")[: 2 + built_for_gpus]:
        has_kernel = _tensorflow.has_kernel("MatMul", device_type)
        assert has_kernel, "framework.kernels.get_registered_kernels_for_op"
        assert _tensorflow.has_kernel("MatMul", device_type, numbers)
        assert not _tensorflow.has_kernel("MatMul", device_type, strings)
    assert _tensorflow.has_kernel("AsString", "CPU")
    assert not _tensorflow.has_kernel("AsString", "XLA_CPU_JIT")
    assert not _tensorflow.has_kernel("NoSuchOperation", "CPU")


def test_a_function_is_told_from_a_branch():
    kinds = {}

    def note(name, x):
        graph = tf.compat.v1.get_default_graph()
        kinds[name] = _tensorflow.is_function(graph)
        return x

    @tf.function
    def outer(x):
        x = tf.cond(x > 0, lambda: note("cond", x), lambda: x)
        x = tf.while_loop(lambda x: x < 2, lambda x: note("while", x) + 1.0, [x])[0]
        return note("function", x)

    outer(tf.ones([]))
    want = {"cond": False, "while": False, "function": True}
    assert kinds == want, "tf.__internal__.FuncGraph"


def test_a_replica_writes_its_own_copy_by_the_handle():
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], reduction)
    with strategy.scope():
        variable = tf.Variable(0.0)

    def add():
        context = tf.distribute.get_replica_context()
        number = tf.cast(context.replica_id_in_sync_group, tf.float32)
        handle = _tensorflow.get_handle(variable)
        tf.raw_ops.AssignAddVariableOp(resource=handle, value=number)

    tf.function(lambda: strategy.run(add))()
    copies = strategy.experimental_local_results(variable)
    assert [float(copy) for copy in copies] == [0.0, 1.0], "Variable.handle"


def test_an_event_that_is_no_summary_is_written(tmp_path):
    from tensorflow.core.util import event_pb2

    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    writer = tf.summary.create_file_writer(str(tmp_path))
    event = event_pb2.Event(step=7, session_log=start)
    _tensorflow.write_event(writer, event.SerializeToString())
    writer.close()
    (path,) = tmp_path.iterdir()
    events = [
        event_pb2.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    steps = [event.step for event in events if event.HasField("session_log")]
    assert steps == [7], "SummaryWriter._resource"


def test_a_frozen_variable_is_watched_and_listed_nowhere():
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], reduction)
    module = tf.Module()
    with strategy.scope():
        module.variables_of_two_kinds = [tf.Variable(2.0)]
    module.variables_of_two_kinds.append(tf.Variable(3.0))
    for trainable in (False, True):
        for variable in module.variables:
            _tensorflow.set_trainable(variable, trainable)
        with tf.GradientTape() as tape:
            total = tf.add_n([v * v for v in module.variables])
        num_watched = len(tape.watched_variables())
        assert len(module.trainable_variables) == num_watched, "Variable._trainable"
        assert num_watched == 2 * trainable, "Variable._trainable"
        del total


def test_the_second_pass_of_recompute_grad_is_known_as_the_firsts():
    seen = []

    def forward(x):
        seen.append([(id(k), t is None) for k, *_, t in _tensorflow.list_recomputed()])
        return x * x

    for wrap in (lambda f: f, tf.function):
        seen.clear()

        @wrap
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.recompute_grad(forward)(x)
                y = tf.recompute_grad(forward)(y)
            return tape.gradient(y, x)

        assert float(step(tf.constant(2.0))) == 4 * 2.0**3
        (a, first), (b, second) = (block for (block,) in seen[:2])
        assert (first, second) == (True, True) and a != b, "custom_gradient's frames"
        assert seen[2:] == [[(b, False)], [(a, False)]], "custom_gradient's frames"


@pytest.mark.parametrize("autograph", [True, False])
def test_a_users_function_is_converted_where_its_caller_is_not(autograph):
    def clip(x):
        if tf.reduce_sum(x) > 1.0:
            x = tf.zeros_like(x)
        return x

    @tf.autograph.experimental.do_not_convert
    def call(x):
        return _tensorflow.convert(clip)(x)

    traced = tf.function(call, autograph=autograph)
    got = [float(traced(tf.constant(x))) for x in (0.5, 2.0)]
    assert got == [0.5, 0.0], "autograph.core.ag_ctx and __internal__.autograph"


def test_an_initial_value_of_a_trace_is_computed_outside_it():
    values = []

    @tf.function
    def trace(x):
        start = tf.random.stateless_uniform([3], seed=[1, 2]) * 2.0
        values.append(_tensorflow.evaluate(start))
        values.append(_tensorflow.evaluate(start * x))
        return start

    expected = trace(tf.constant(1.0))
    np.testing.assert_array_equal(values[0], expected)
    assert values[1] is None  # It depends on the argument.


def test_onednn_is_on_where_the_environment_says_so(monkeypatch):
    program = "from tfreg import _tensorflow; print(_tensorflow.uses_onednn())"
    seen = []
    for switch in "01":
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", switch)
        command = [sys.executable, "-c", program]
        seen.append(subprocess.check_output(command, text=True).strip())
    assert seen == ["False", "True"]
