"""Every use of undocumented parts of TensorFlow, each with its reason.

    graph = tf.function(tf.square).get_concrete_function(1.0).graph
    _tensorflow.get_chain(graph)  # a trace and its outer traces, innermost first

The trap: an undocumented name that the next TensorFlow removes. This module contains
all of them, and `tests/test_tensorflow.py` reports which feature needs a broken one.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.distribute import multi_worker_util
from tensorflow.python.eager import context, lift_to_graph, record
from tensorflow.python.framework import config, kernels
from tensorflow.python.util import _pywrap_util_port


def is_recording() -> bool:
    """Returns whether a tape may record the current operations.

    `tf.GradientTape` doesn't provide it, only the module that manages all tapes. In the
    forward pass of `tf.recompute_grad` and under `tape.stop_recording` no tape records:
    a penalty computed there has a value but no gradient.
    """
    return record.could_possibly_record()


def list_recomputed() -> Iterator[tuple[dict, Any, Any, Any]]:
    """Yields the running calls of `tf.recompute_grad`, innermost first.

    Only their frames identify the first pass that a second pass belongs to.

    Yields:
        The `kwargs`, a dict that identifies the call; its inputs; the inputs of this
        pass; and the tape of the second pass, None in the first.
    """
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_code.co_name
        if name in ("inner", "inner_recompute_grad"):
            local = frame.f_locals
            if "current_var_scope" in local and "kwargs" in local:
                args = local["args"]
                yield local["kwargs"], args, local.get("id_args", args), local.get("t")
        frame = frame.f_back


def convert(function: Callable) -> Callable:
    """Returns a function with AutoGraph, though its caller is excluded from it.

    `tf.autograph.to_graph` takes functions, but neither models nor methods.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        if tf.executing_eagerly():
            return function(*args, **kwargs)
        with ag_ctx.ControlStatusCtx(ag_ctx.Status.ENABLED) as enabled:
            converted = tf.__internal__.autograph.tf_convert(function, enabled)
            return converted(*args, **kwargs)

    return call


def set_trainable(variable: tf.Variable, trainable: bool) -> None:
    """Sets whether tapes watch a variable and tf.Modules list it as trainable.

    The public attribute can be set only when a variable is created.
    """
    # A strategy's variable has the value of its first copy.
    for copy in getattr(variable, "values", [variable]):
        copy._trainable = trainable


def limit_wait(cluster: tf.train.ClusterSpec, seconds: float) -> None:
    """Sets how long a strategy of several workers waits for all of them.

    No public argument changes the hour that it waits, deaf to signals.

    Args:
        cluster: the workers.
        seconds: at least one.
    """
    # Its module is at another place in each version.
    make = context.coordination_config_pb2.CoordinatedJob
    jobs = [
        make(name=job, num_tasks=cluster.num_tasks(job))
        for job in ("chief", "worker")
        if job in cluster.jobs
    ]
    context.context().configure_coordination_service(
        "standalone",
        multi_worker_util.coordination_leader(cluster),
        cluster_register_timeout_in_ms=int(max(seconds, 1.0) * 1000),
        coordinated_jobs=jobs,
    )
    settings = context.context().coordination_service
    if hasattr(settings, "cluster_register_with_barrier"):
        # Else one that has come, and is then lost, is waited for by another hour.
        settings.cluster_register_with_barrier = True


def get_chain(graph: tf.Graph | None) -> list[tf.Graph | None]:
    """Returns a graph and its outer traces, innermost first.

    Branches, loop bodies and nested tf.functions can read the tensors of their outer
    traces, which no public attribute provides.
    """
    chain = [graph]
    while getattr(graph, "building_function", False):
        graph = graph.outer_graph  # type: ignore[union-attr]
        if not getattr(graph, "building_function", False):
            break
        chain.append(graph)
    return chain


def find_called(chain: Sequence[tf.Graph]) -> set[tf.Graph]:
    """Returns the graphs of a chain and of all functions that they call.

    A call of a traced function runs no Python. So only the graph shows that the
    penalties of the function belong to this step.
    """
    functions = [f for graph in chain for f in graph._functions.values()]
    return {*chain, *(function.graph for function in functions)}


def list_results(graph: tf.Graph) -> list[str] | None:
    """Returns the names of the operations that a call of a traced function has to run.

    These are its outputs and its side effects. A plain graph has no such list: None.
    """
    if not hasattr(graph, "control_outputs"):
        return None
    operations = [output.op for output in graph.outputs] + graph.control_outputs
    return [operation.name for operation in operations]


def has_kernel(
    op_type: str, device_type: str, types: Mapping[str, Collection[int]] | None = None
) -> bool:
    """Returns whether an operation has a kernel, for example in XLA.

    The other way to know is a compilation, which takes up to seconds and runs nowhere
    but on that device.

    Args:
        op_type: for example "MatMul".
        device_type: for example "CPU", "XLA_CPU_JIT" or "XLA_GPU_JIT". A TensorFlow
            that was built for GPUs lists their kernels on machines without a GPU, too.
        types: the operation's attributes that are types, as numbers of `DataType`.
    """
    types = types or {}
    return any(
        all(allowed.issuperset(types.get(name, ())) for name, allowed in kernel.items())
        for kernel in _list_kernels(op_type, device_type)
    )


@functools.cache
def _list_kernels(op_type: str, device_type: str) -> list[dict[str, frozenset[int]]]:
    """Returns the types that each kernel takes, by the attribute's name."""
    _register_kernels()
    return [
        {c.name: frozenset(c.allowed_values.list.type) for c in kernel.constraint}
        for kernel in kernels.get_registered_kernels_for_op(op_type).kernel
        if kernel.device_type == device_type
    ]


@functools.cache
def _register_kernels() -> None:
    # XLA's kernels are registered by the first compilation in the process.
    with tf.init_scope(), tf.device("CPU:0"):
        tf.function(tf.identity, jit_compile=True)(0.0)


def is_deterministic() -> bool:
    """Returns whether `tf.config.experimental.enable_op_determinism` was called.

    XLA then has no gradient of max pooling, and raises at the first step.
    """
    return config.is_op_determinism_enabled()


def uses_onednn() -> bool:
    """Returns whether oneDNN computes the convolutions of graph mode on a CPU.

    TensorFlow decides by the processor if `TF_ENABLE_ONEDNN_OPTS` isn't set.
    """
    return _pywrap_util_port.IsMklEnabled()


def is_function(graph: tf.Graph) -> bool:
    """Returns whether a graph is that of a tf.function, not of a branch or loop.

    The next call of a tf.function reuses the values that its trace has read. A branch
    is part of its step.
    """
    return type(graph) is tf.__internal__.FuncGraph


@tf.autograph.experimental.do_not_convert
def get_handle(variable: tf.Variable) -> tf.Tensor:
    """Returns the handle of a variable for raw operations; in a replica, of its copy.

    A compiled replica can't aggregate, as `assign` would. So each replica applies the
    same sum to its own copy.
    """
    return variable.handle


def write_event(writer: tf.summary.SummaryWriter, event: bytes) -> None:
    """Writes a serialized `Event` to an open writer.

    `tf.summary` writes only summaries, but a resumed run needs a session's START.
    """
    tf.raw_ops.ImportEvent(writer=writer._resource, event=event)


@tf.autograph.experimental.do_not_convert
def assign(variable: tf.Variable, value: tf.Tensor) -> None:
    """Assigns the same value in each replica; across replicas, to all copies.

    In a replica `variable.assign` aggregates, which a compiled replica can't.
    """
    if tf.distribute.in_cross_replica_context():
        variable.assign(value)
        return
    value = tf.cast(value, variable.dtype)
    tf.raw_ops.AssignVariableOp(resource=get_handle(variable), value=value)


def create_slots(optimizer: Any, variables: Sequence[tf.Variable]) -> None:
    """Creates the slots of an optimizer of `tf.compat.v1.train` that don't exist."""
    # Otherwise created by the first update, in the same way.
    with tf.init_scope():
        optimizer._create_slots(list(variables))


def evaluate(tensor: tf.Tensor) -> tf.Tensor | None:
    """Returns the value of a trace's tensor, None if it depends on the arguments.

    `tf.function` does so with the initial values of variables that are created in its
    first trace; a variable created outside the trace can't have one of its tensors.
    """

    @tf.function(autograph=False)
    def compute() -> tf.Tensor:
        graph = tf.compat.v1.get_default_graph()
        return lift_to_graph.lift_to_graph([tensor], graph)[tensor]

    try:
        with tf.init_scope():
            return compute()
    except lift_to_graph.UnliftableError:
        return None
