r"""Finds the sums of penalties that TF1 code wrote by hand.

    source = "import tensorflow as tf\nloss + tf.losses.get_regularization_loss()\n"
    wrapper = cst.MetadataWrapper(cst.parse_module(source))
    found, total = Resolver(wrapper), wrapper.module.body[1].body[0].value
    data_loss = totals.find_data_loss(found, total, total)

The total becomes tfreg.losses.total_loss(data_loss), which counts the penalties once on
replicas too.
"""

import libcst as cst
from libcst import matchers as m

from tfreg.porting import arguments, collecting
from tfreg.porting.resolution import Resolver

_SUMS = ("tf.add_n", "tf.reduce_sum", "tf.math.reduce_sum", "tf.math.add_n")
_ADDITION = m.BinaryOperation(operator=m.Add())


def get_key(found: Resolver, node: cst.CSTNode) -> str | None:
    """Returns the key that `get_collection(key)` is called with; None: no such call.

    The keys of GraphKeys are lower-cased.
    """
    node = found.find_value(node)
    if not isinstance(node, cst.Call):
        return None
    name = found.resolve(node.func) or ""
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
    value = found.find_value(key.value)
    if isinstance(value, cst.SimpleString):
        return str(value.evaluated_value)
    prefix, _, constant = (found.resolve(value) or "").rpartition(".")
    return constant.lower() if prefix == "tf.GraphKeys" else None


def is_penalty(found: Resolver, node: cst.CSTNode) -> bool:
    """Returns whether an expression is the sum of all penalties and nothing else."""
    node = _find_fresh(found, node)
    if not isinstance(node, cst.Call):
        return False
    name = found.resolve(node.func)
    if name == "tf.losses.get_regularization_loss":
        return arguments.find_argument(node.args, 0, "scope") is None
    return is_sum(found, node) and _is_all(found, node.args[0].value)


def is_sum(found: Resolver, node: cst.Call) -> bool:
    """Returns whether a call adds up the members of its first argument."""
    builtin = m.matches(node.func, m.Name("sum")) and not any(
        hasattr(binding, "node")
        for binding in found.find_bindings(node.func)  # type: ignore[arg-type]
    )
    plain = bool(node.args) and node.args[0].keyword is None and not node.args[0].star
    return plain and (builtin or found.resolve(node.func) in _SUMS)


def _is_all(found: Resolver, node: cst.CSTNode) -> bool:
    call = _find_fresh(found, node)
    every = get_key(found, call) == "regularization_losses"
    return every and isinstance(call, cst.Call) and len(call.args) < 2


def _find_fresh(found: Resolver, node: cst.CSTNode) -> cst.CSTNode:
    """Returns what a name is bound to, if it would still be the same here."""
    value = found.find_value(node)
    if value is not node and not collecting.is_complete(found, value, node):
        return node
    return value


def is_total(found: Resolver, node: cst.CSTNode | None) -> bool:
    """Returns whether an expression is a total already, in which penalties may be."""
    value = node and found.find_value(node)
    return isinstance(value, cst.Call) and found.resolve(value.func) in (
        "tf.losses.get_total_loss",
        "contrib.losses.get_total_loss",
    )


def find_data_loss(
    found: Resolver, original: cst.BinaryOperation, updated: cst.BinaryOperation
) -> cst.BaseExpression | None:
    """Returns what is added to the penalties in a chain of additions.

    Args:
        original: the whole chain.
        updated: the same chain, as it is to be written.

    Returns:
        The rest of the chain; None where the penalties are not in it once.
    """
    paths = list(_walk(found, original, ""))
    return _cut(updated, paths[0]) if len(paths) == 1 else None


def _walk(found: Resolver, node: cst.BaseExpression, path: str):
    if is_penalty(found, node):
        yield path
    elif m.matches(node, _ADDITION):
        yield from _walk(found, node.left, f"{path}l")  # type: ignore
        yield from _walk(found, node.right, f"{path}r")  # type: ignore


def _cut(node: cst.BinaryOperation, path: str) -> cst.BaseExpression:
    side, other = ("left", "right") if path[0] == "l" else ("right", "left")
    if len(path) == 1:
        return getattr(node, other)
    return node.with_changes(**{side: _cut(getattr(node, side), path[1:])})


def find_listed(
    found: Resolver, original: cst.Call, updated: cst.Call
) -> cst.BaseExpression | None:
    """Returns the loss of tf.add_n([loss] + penalties), or of tf.add(loss, penalty)."""
    if found.resolve(original.func) in ("tf.add", "tf.math.add"):
        pair = [arg.value for arg in original.args[:2] if arg.keyword is None]
        sides = [i for i, node in enumerate(pair) if is_penalty(found, node)]
        if len(pair) == 2 and len(sides) == 1:
            return updated.args[1 - sides[0]].value
        return None
    if not is_sum(found, original):
        return None
    members, after = original.args[0].value, updated.args[0].value
    if m.matches(members, m.List()):
        held = [element.value for element in members.elements]  # type: ignore
        sides = [i for i, node in enumerate(held) if is_penalty(found, node)]
        if len(held) == 2 and len(sides) == 1:
            return after.elements[1 - sides[0]].value  # type: ignore
    one = m.List(elements=[m.Element()])
    if m.matches(members, m.BinaryOperation(left=one, operator=m.Add())):
        if _is_all(found, members.right):  # type: ignore
            return after.left.elements[0].value  # type: ignore
    elif m.matches(members, m.BinaryOperation(right=one, operator=m.Add())) and (
        _is_all(found, members.left)  # type: ignore
    ):
        return after.right.elements[0].value  # type: ignore
    return None
