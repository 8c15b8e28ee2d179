r"""Finds the sums of penalties that TF1 code writes by hand.

    source = "import tensorflow as tf\nloss + tf.losses.get_regularization_loss()\n"
    wrapper = cst.MetadataWrapper(cst.parse_module(source))
    resolver, total = Resolver(wrapper), wrapper.module.body[1].body[0].value
    data_loss = totals.find_data_loss(resolver, total, total)

The total becomes tf1.losses.total_loss(data_loss), which counts each penalty once
also on replicas.
"""

import libcst as cst
from libcst import matchers as m

from tfreg.porting import arguments, collecting
from tfreg.porting.resolution import Resolver

_SUMS = ("tf.add_n", "tf.reduce_sum", "tf.math.reduce_sum", "tf.math.add_n")
_ADDITION = m.BinaryOperation(operator=m.Add())


def get_key(resolver: Resolver, node: cst.CSTNode) -> str | None:
    """Returns the key of a call `get_collection(key)`, None for anything else.

    The keys of GraphKeys are in lower case.
    """
    node = resolver.find_value(node)
    if not isinstance(node, cst.Call):
        return None
    name = resolver.resolve(node.func) or ""
    if name in (
        "tf.losses.get_regularization_losses",
        "contrib.losses.get_regularization_losses",
    ):
        return None if node.args else "regularization_losses"
    if name not in ("tf.get_collection", "tf.get_default_graph().get_collection"):
        return None
    key = arguments.find_argument(node.args, 0, "name", "key")
    if key is None:
        return None
    value = resolver.find_value(key.value)
    if isinstance(value, cst.SimpleString):
        return str(value.evaluated_value)
    prefix, _, constant = (resolver.resolve(value) or "").rpartition(".")
    return constant.lower() if prefix == "tf.GraphKeys" else None


def is_penalty(resolver: Resolver, node: cst.CSTNode) -> bool:
    """Returns whether an expression is the sum of all penalties and nothing else."""
    node = _find_current(resolver, node)
    if not isinstance(node, cst.Call):
        return False
    name = resolver.resolve(node.func)
    if name == "tf.losses.get_regularization_loss":
        return arguments.find_argument(node.args, 0, "scope") is None
    return is_sum(resolver, node) and _is_all(resolver, node.args[0].value)


def is_sum(resolver: Resolver, node: cst.Call) -> bool:
    """Returns whether a call sums the members of its first argument."""
    builtin = m.matches(node.func, m.Name("sum")) and not any(
        hasattr(binding, "node")
        for binding in resolver.find_bindings(node.func)  # type: ignore[arg-type]
    )
    plain = bool(node.args) and node.args[0].keyword is None and not node.args[0].star
    return plain and (builtin or resolver.resolve(node.func) in _SUMS)


def _is_all(resolver: Resolver, node: cst.CSTNode) -> bool:
    call = _find_current(resolver, node)
    penalties = get_key(resolver, call) == "regularization_losses"
    return penalties and isinstance(call, cst.Call) and len(call.args) < 2


def _find_current(resolver: Resolver, node: cst.CSTNode) -> cst.CSTNode:
    """Returns the value of a name, if reading it again would give the same."""
    value = resolver.find_value(node)
    if value is not node and not collecting.is_complete(resolver, value, node):
        return node
    return value


def is_total(resolver: Resolver, node: cst.CSTNode | None) -> bool:
    """Returns whether an expression is a total, which may include penalties."""
    value = node and resolver.find_value(node)
    return isinstance(value, cst.Call) and resolver.resolve(value.func) in (
        "tf.losses.get_total_loss",
        "contrib.losses.get_total_loss",
    )


def find_data_loss(
    resolver: Resolver, original: cst.BinaryOperation, updated: cst.BinaryOperation
) -> cst.BaseExpression | None:
    """Returns the data loss in a chain of additions that includes the penalties.

    Args:
        original: the chain.
        updated: the same chain with its parts rewritten.

    Returns:
        The chain without the penalties; None unless they are in it exactly once.
    """
    paths = list(_walk(resolver, original, ""))
    return _cut(updated, paths[0]) if len(paths) == 1 else None


def _walk(resolver: Resolver, node: cst.BaseExpression, path: str):
    if is_penalty(resolver, node):
        yield path
    elif m.matches(node, _ADDITION):
        yield from _walk(resolver, node.left, f"{path}l")  # type: ignore
        yield from _walk(resolver, node.right, f"{path}r")  # type: ignore


def _cut(node: cst.BinaryOperation, path: str) -> cst.BaseExpression:
    side, other = ("left", "right") if path[0] == "l" else ("right", "left")
    if len(path) == 1:
        return getattr(node, other)
    return node.with_changes(**{side: _cut(getattr(node, side), path[1:])})


def find_listed(
    resolver: Resolver, original: cst.Call, updated: cst.Call
) -> cst.BaseExpression | None:
    """Returns the loss of tf.add_n([loss] + penalties), or of tf.add(loss, penalty)."""
    if resolver.resolve(original.func) in ("tf.add", "tf.math.add"):
        pair = [arg.value for arg in original.args[:2] if arg.keyword is None]
        sides = [i for i, node in enumerate(pair) if is_penalty(resolver, node)]
        if len(pair) == 2 and len(sides) == 1:
            return updated.args[1 - sides[0]].value
        return None
    if not is_sum(resolver, original):
        return None
    members, after = original.args[0].value, updated.args[0].value
    if m.matches(members, m.List()):
        pair = [element.value for element in members.elements]  # type: ignore
        sides = [i for i, node in enumerate(pair) if is_penalty(resolver, node)]
        if len(pair) == 2 and len(sides) == 1:
            return after.elements[1 - sides[0]].value  # type: ignore
    one = m.List(elements=[m.Element()])
    if m.matches(members, m.BinaryOperation(left=one, operator=m.Add())):
        if _is_all(resolver, members.right):  # type: ignore
            return after.left.elements[0].value  # type: ignore
    elif m.matches(members, m.BinaryOperation(right=one, operator=m.Add())) and (
        _is_all(resolver, members.left)  # type: ignore
    ):
        return after.right.elements[0].value  # type: ignore
    return None
