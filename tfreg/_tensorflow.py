"""Every use of what TensorFlow doesn't document, each with its reason.

    graph = tf.function(tf.square).get_concrete_function(1.0).graph
    _tensorflow.get_chain(graph)  # a trace and those around it, innermost first

The trap: an undocumented name that is gone in the next TensorFlow. All of them stand
here, and `tests/test_tensorflow.py` says of each what it is needed for when it breaks.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record


def is_recording() -> bool:
    """Tells whether a tape could record what is computed now.

    `tf.GradientTape` doesn't tell it: only the module that holds all tapes does. In
    the forward pass of `tf.recompute_grad` and under `tape.stop_recording` none can: a
    penalty computed there has a value and no gradient.
    """
    return record.could_possibly_record()


def list_recomputed() -> Iterator[tuple[dict, Any, Any, Any]]:
    """Yields the calls of `tf.recompute_grad` that this is in, the innermost first.

    Of each its `kwargs`, which no other call has, its inputs, those of this pass, and
    the tape of the second pass, None in the first. Only its frames tell which second
    pass belongs to which first.
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


def set_trainable(variable: tf.Variable, trainable: bool) -> None:
    """Changes whether tapes watch a variable and tf.Modules list it as trainable.

    It can be given when a variable is made, and only read afterwards.
    """
    # A strategy's variable reads its first copy's.
    for copy in getattr(variable, "values", [variable]):
        copy._trainable = trainable


def get_chain(graph: tf.Graph | None) -> list[tf.Graph | None]:
    """Returns a graph and the traces that it is nested in, innermost first.

    A branch, a loop's body and a nested tf.function read the tensors of their outer
    traces; no public name leads from one to the other.
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

    A function that was traced earlier runs no Python when it is called again: only the
    graph tells that its penalties belong to this step.
    """
    functions = [f for graph in chain for f in graph._functions.values()]
    return {*chain, *(function.graph for function in functions)}


def is_function(graph: tf.Graph) -> bool:
    """Tells whether a graph is a tf.function's, not that of a branch or a loop.

    At its next call a tf.function keeps what it has read; a branch is part of its step.
    """
    return type(graph) is tf.__internal__.FuncGraph


@tf.autograph.experimental.do_not_convert
def get_handle(variable: tf.Variable) -> tf.Tensor:
    """Returns what raw operations take for a variable, in a replica its own copy's.

    A replica that is compiled can't aggregate, as `assign` would: each applies the sum
    that all of them have to a copy of its own.
    """
    return variable.handle


def write_event(writer: tf.summary.SummaryWriter, event: bytes) -> None:
    """Writes a serialized `Event` to an open writer.

    `tf.summary` writes summaries alone, and a resumed run needs a session's START.
    """
    tf.raw_ops.ImportEvent(writer=writer._resource, event=event)
