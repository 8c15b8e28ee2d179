"""Which mode is faster for a training step, XLA's or the graph's, and why.

    traced = tf.function(lambda images: tf.nn.max_pool2d(images, 2, 2, "VALID"))
    graph = traced.get_concrete_function(images).graph
    compiling.choose(graph)  # Mode(name="xla", reasons=())

The traps: an operation that XLA can't compile, which fails at the first step, and on a
CPU one that XLA runs on a single thread, such as the gradient of a convolution. One of
them makes the whole step slow, so it decides for the whole step.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfreg import _tensorflow

MODES = ("auto", "xla", "graph")
MAX_REASONS = 5

_ALWAYS, _NEVER = -(2**62), 2**62  # Unknown sizes are -1.
# Operations that XLA runs more slowly on a CPU than the graph does, from which size on:
# the last dimension of an output, or its number of elements. `benchmarks/modes.py`
# measures both sides of a bound.
SLOW_ON_CPU = {
    **dict.fromkeys(
        (
            "Conv2D",
            "Conv2DBackpropFilter",
            "Conv2DBackpropInput",  # also the forward pass of a transposed convolution
            "Conv3D",
            "Conv3DBackpropFilterV2",
            "Conv3DBackpropInputV2",
            "DepthwiseConv2dNative",
            "DepthwiseConv2dNativeBackpropFilter",
            "DepthwiseConv2dNativeBackpropInput",
            "MaxPoolGrad",
            "MaxPoolGradV2",
            "MaxPoolGradGrad",
            "MaxPool3DGrad",
            "MaxPool3DGradGrad",
            "ResizeBilinear",
            "ResizeBilinearGrad",
            "ResizeNearestNeighbor",
            "ResizeNearestNeighborGrad",
            "Svd",
        ),
        (_ALWAYS, _ALWAYS),
    ),
    "SelfAdjointEigV2": (16, 8192),
    "Cholesky": (32, 8192),
    "MatrixInverse": (16, 8192),
    "MatrixSolve": (16, 8192),
    "MatrixTriangularSolve": (128, 8192),
    "Qr": (128, 8192),
    "TopKV2": (512, 1024),  # where it is a sort
    **dict.fromkeys(
        ("RandomStandardNormal", "RandomUniform", "TruncatedNormal"), (_NEVER, 16_384)
    ),
    **dict.fromkeys(
        (
            "StatelessRandomNormal",
            "StatelessRandomNormalV2",
            "StatelessRandomUniform",
            "StatelessRandomUniformFullInt",
            "StatelessRandomUniformFullIntV2",
            "StatelessRandomUniformInt",
            "StatelessRandomUniformIntV2",
            "StatelessRandomUniformV2",
            "StatelessTruncatedNormal",
            "StatelessTruncatedNormalV2",
        ),
        (_NEVER, 256),
    ),
}
# XLA raises "do not yet have a deterministic XLA implementation".
NOT_DETERMINISTIC = ("MaxPoolGrad", "MaxPoolGradV2")
_UNKNOWN = "has an unknown dimension"
# XLA inlines calls, and knows the axes of the sums in the gradient of a broadcast.
_KNOWN_TO_XLA = (
    "_Arg",
    "BroadcastGradientArgs",
    "PartitionedCall",
    "StatefulPartitionedCall",
)


class Mode(NamedTuple):
    """How a step is run: "xla" or "graph", and in plain words why not XLA."""

    name: str
    reasons: tuple[str, ...]


def trace(function: Callable, **options: Any) -> Any:
    """Returns a tf.function of tfreg's own code, in which AutoGraph has nothing to do.

    TensorFlow warns of many traces of the same code, as those of several runs in one
    process are; here each function's are counted alone.

    Args:
        function: takes and returns nests of tensors.
        **options: of `tf.function`, for example jit_compile.
    """
    counted: Any = functools.partial(function)
    # The program's name, in a profile.
    counted.__name__ = getattr(function, "__name__", type(function).__name__)
    return tf.function(counted, autograph=False, **options)


def check(compile: str) -> str:
    """Returns `compile`.

    Raises:
        ValueError: it isn't "auto", "xla" or "graph".
    """
    if compile not in MODES:
        raise ValueError(
            f"compile must be one of {', '.join(MODES)}, got {compile!r}: choose one "
            "of them"
        )
    return compile


def choose(
    graph: tf.Graph,
    device_type: str = "CPU",
    deterministic: bool = False,
    any_dimensions: bool = False,
) -> Mode:
    """Returns the mode for a step, a function of its operations and nothing else.

    It is XLA, unless an operation that the step runs has no kernel there, a dimension
    is unknown, which XLA compiles again for each size, or on a CPU an operation is slow
    there. Operations in functions that the step doesn't call don't count, nor do those
    in functions with `jit_compile=True`, which XLA compiles in either mode.

    Args:
        graph: of a concrete function of one training step, from the forward pass to the
            update.
        device_type: "CPU" or "GPU".
        deterministic: whether `tf.config.experimental.enable_op_determinism` was
            called. XLA then has no gradient of max pooling.
        any_dimensions: whether unknown dimensions are no reason, as in a trace for
            batches of any size.

    Returns:
        The mode and up to five reasons against XLA, one per kind of operation, in the
        order of the graph.

    Raises:
        ValueError: another device type.
    """
    if device_type not in ("CPU", "GPU"):
        raise ValueError(
            f"device_type must be CPU or GPU, got {device_type!r}: pass that of the "
            "device that trains"
        )
    reasons: dict[str, str] = {}  # The first place of each kind of reason.
    for node, body in _walk(graph):
        reason = _find_reason(node, body, device_type, deterministic)
        if reason is not None:
            kind = _UNKNOWN if _UNKNOWN in reason else reason
            reasons.setdefault(kind, f"{reason}, in {node.name}")
    # An unknown dimension is often the consequence of another reason.
    unknown = reasons.pop(_UNKNOWN, None)
    if unknown is not None and not any_dimensions:
        reasons[_UNKNOWN] = unknown
    listed = list(reasons.values())
    return Mode("graph" if listed else "xla", tuple(listed[:MAX_REASONS]))


def _find_reason(
    node: Any, body: Mapping[str, Any], device_type: str, deterministic: bool
) -> str | None:
    """Returns why a node should not be compiled; `body` is its graph or function."""
    op = node.op
    if op != "Placeholder":
        xla = f"XLA_{device_type}_JIT"
        if not _tensorflow.has_kernel(op, xla):
            return f"{op} has no XLA kernel"
        if not _tensorflow.has_kernel(op, xla, _get_types(node)):
            return f"{op} has no XLA kernel for its types"
    if _is_unknown(node) and op not in _KNOWN_TO_XLA:
        # Those after it are unknown for the same reason.
        inputs = [body[_get_name(reference)] for reference in node.input]
        if not any(map(_is_unknown, inputs)):
            return f"{'the input' if op == 'Placeholder' else op} {_UNKNOWN}"
    if op == "EmptyTensorList" and _has_no_bound(node, body):
        return "a loop with a gradient has no maximum_iterations"
    if deterministic and op in NOT_DETERMINISTIC:
        return f"{op} isn't deterministic in XLA"
    if device_type == "CPU" and _is_slow(node, body):
        return f"{op} is slow in XLA on a CPU"
    return None


def _is_slow(node: Any, body: Mapping[str, Any]) -> bool:
    width, number = SLOW_ON_CPU.get(node.op, (_NEVER, _NEVER))
    shapes = _list_shapes(node)
    if all(
        math.prod(shape) < number and (not shape or shape[-1] < width)
        for shape in shapes
    ):
        return False
    return node.op != "TopKV2" or _is_sort(node, body)


def _is_sort(node: Any, body: Mapping[str, Any]) -> bool:
    """Returns whether all elements are sorted, and not only the largest, nor indices.

    Indices are sorted to sum the rows of an embedding, in which XLA gains more than it
    loses in the sort.
    """
    if tf.as_dtype(node.attr["T"].type).is_integer:
        return False
    source = body[_get_name(node.input[0])]
    (width,) = {shape[-1] for shape in _list_shapes(node)}
    return any(shape[-1:] == [width] for shape in _list_shapes(source))


def _list_shapes(node: Any) -> list[list[int]]:
    """Returns the shapes of the outputs; a rank that isn't known is [-1]."""
    shapes = node.attr["_output_shapes"].list.shape
    return [[-1] if s.unknown_rank else [d.size for d in s.dim] for s in shapes]


def _is_unknown(node: Any) -> bool:
    return any(-1 in shape for shape in _list_shapes(node))


def _get_types(node: Any) -> dict[str, set[int]]:
    kinds = {name: value.WhichOneof("value") for name, value in node.attr.items()}
    types = {
        name: {node.attr[name].type} if kind == "type" else node.attr[name].list.type
        for name, kind in kinds.items()
        if kind in ("type", "list")
    }
    return {name: set(numbers) for name, numbers in types.items()}


def _has_no_bound(node: Any, body: Mapping[str, Any]) -> bool:
    """Returns whether a list of tensors may grow without bound, as XLA's can't."""
    source = body[_get_name(node.input[1])]
    if source.op != "Const":
        return False
    return int(tf.make_ndarray(source.attr["value"].tensor)) < 0


def _walk(graph: tf.Graph) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yields each node that a call runs, with the nodes of its graph or function."""
    definition = graph.as_graph_def(add_shapes=True)
    functions = {f.signature.name: f for f in definition.library.function}
    bodies = [_prune(definition.node, _tensorflow.list_results(graph))]
    seen = set()
    for body in bodies:  # It grows.
        for node in body.values():
            if node.op not in functions:
                yield node, body
            for name in _list_called(node):
                if name not in functions or name in seen:
                    continue
                seen.add(name)
                function = functions[name]
                if not function.attr["_XlaMustCompile"].b:
                    results = [*function.ret.values(), *function.control_ret.values()]
                    nodes = [*_list_arguments(function), *function.node_def]
                    bodies.append(_prune(nodes, results))


def _list_arguments(function: Any) -> Iterator[Any]:
    for k, argument in enumerate(function.signature.input_arg):
        attributes = function.arg_attr[k].attr
        yield tf.compat.v1.NodeDef(name=argument.name, op="_Arg", attr=attributes)


def _list_called(node: Any) -> list[str]:
    """Returns the functions that a node calls: its own, branches or loop bodies."""
    values = [node.attr[name] for name in sorted(node.attr)]
    names = [f.name for value in values for f in (value.func, *value.list.func)]
    return [node.op, *names]


def _prune(nodes: Iterable[Any], results: Iterable[str] | None) -> dict[str, Any]:
    """Returns the nodes that the results depend on, by name; None: all nodes."""
    named = {node.name: node for node in nodes}
    if results is None:
        return named
    todo, needed = [_get_name(result) for result in results], set()
    while todo:
        name = todo.pop()
        if name in named and name not in needed:
            needed.add(name)
            todo += map(_get_name, named[name].input)
    return {name: node for name, node in named.items() if name in needed}


def _get_name(reference: str) -> str:
    """Returns the node of an input, "name", "name:0", "name:output:0" or "^name"."""
    return reference.removeprefix("^").partition(":")[0]
