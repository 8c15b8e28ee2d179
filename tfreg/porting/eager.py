r"""Finds what eager code lacks: names and ops of tensors, sessions' methods.

    from tfreg.porting import rewriting

    source = b"import tensorflow as tf\nloss = tf.reduce_sum(x)\nprint(loss.eval())\n"
    rewriting.rewrite(source).left  # loss.eval: call the function that ...

A tensor of a graph had them all. Sizes are integers now: x.get_shape()[1].value is
rewritten.
"""

import re
from typing import Any

import libcst as cst
from libcst import matchers as m

from tfreg.porting import renamed
from tfreg.porting.resolution import Resolver
from tfreg.porting.work import Work

_GET_SHAPE = m.Call(func=m.Attribute(attr=m.Name("get_shape"))) | m.Attribute(
    attr=m.Name("shape")
)
_ATOMS = cst.Name | cst.Attribute | cst.Call | cst.Subscript | cst.BaseNumber
_OP = "an eager tensor has no op: write a name of your own; a variable has .name"
_NAME = "an eager tensor has no name: write a name of your own"
_EVAL = "call the function that computes it, and .numpy() on the result"
_GRADIENTS = (
    "write train_step = tf1.create_train_op(loss_fn, optimizer), which does both; "
    "for towers, strategy.run(train_step, batch)"
)
_SUMMARY = (
    "write it where tf.summary.create_file_writer(folder).as_default() is open, with "
    "step=: it logs nothing otherwise, and says nothing"
)
_OUTSIDE = "call it in a function that tf1.Model runs: it raises outside of a pass"
_FLAGS = "leave it out: tf.compat.v1.app.run parses the flags, or FLAGS(sys.argv)"
_SCHEDULE = (
    "in eager code it returns a function: pass that to an optimizer, and call it where "
    "the number is needed"
)
_TENSORS = re.compile(
    r"tf\.(nn|math|image|linalg|losses|layers)\.\w+|contrib\.(?!\w*ers?$|arg_scope)\w+"
    r"|tf\.(?!Variable|get_\w+|\w*_scope|device|placeholder|Session)\w+"
    r"|tfreg\.tf1\.(layers|core_layers|losses)\.\w+"
)
_SUMMARIES = re.compile(
    r"tf(\.compat\.v1)?\.summary\.(scalar|histogram|image|audio|text)"
)
_SCHEDULES = re.compile(
    r"tf\.train\.(\w+_decay(_restarts)?|piecewise_constant(_decay)?)"
)
_VARIABLES = re.compile(
    r"tf\.(get_v|V)ariable|contrib\.(model_)?variable"
    r"|tfreg\.tf1\.(get_variable|(model_)?variable|Variable)"
)


def port_size(work: Work, original: cst.Attribute, updated: cst.Attribute):
    """Returns the size that `.value` is an attribute of, or None."""
    if original.attr.value != "value":
        return None
    item = work.resolver.find_value(original.value)
    if not isinstance(item, cst.Subscript):
        return None
    if not m.matches(work.resolver.find_value(item.value), _GET_SHAPE):
        return None
    work.note_change(original, "an integer already")
    return updated.value


def port_increment(work: Work, original: cst.AugAssign, updated: Any):
    """Returns `w += x` of a variable as an assignment of the sum, or None.

    A variable of TF1 became a tensor so; one of TensorFlow 2 refuses it.
    """
    resolver, target = work.resolver, original.target
    kind = type(original.operator).__name__.removesuffix("Assign")
    if not isinstance(target, cst.Name) or not hasattr(cst, kind):
        return None
    for binding in resolver.find_bindings(target):
        value = resolver.get_value(binding)
        name = resolver.resolve(value.func) if isinstance(value, cst.Call) else None
        if _VARIABLES.fullmatch(name or ""):
            other = updated.value
            if not isinstance(other, _ATOMS) and not other.lpar:
                lpar, rpar = [cst.LeftParen()], [cst.RightParen()]
                other = other.with_changes(lpar=lpar, rpar=rpar)
            result = cst.BinaryOperation(target, getattr(cst, kind)(), other)
            work.note_change(original, "a tensor, and no update of the variable")
            targets = [cst.AssignTarget(target)]
            return cst.Assign(targets, result, semicolon=updated.semicolon)
    return None


def check_attribute(work: Work, node: cst.Attribute) -> None:
    """Reports the op or the name of a tensor."""
    resolver = work.resolver
    name = resolver.resolve(node)
    if name is not None and "(" not in name:
        return
    parent = resolver.get_parent(node)
    called = isinstance(parent, cst.Call) and parent.func is node
    if node.attr.value == "op" and not called:
        if not isinstance(parent, cst.Attribute):
            work.suspect(node, _OP)
        elif parent.attr.value in ("name", "type", "inputs", "outputs"):
            work.suspect(parent, _OP)
    elif node.attr.value == "name" and _is_tensor(resolver, node.value):
        work.suspect(node, _NAME)


def _is_tensor(resolver: Resolver, node: cst.CSTNode) -> bool:
    """Returns whether a name has only what functions of TF1 returned, and arguments."""
    if not isinstance(node, cst.Name):
        return False
    bindings = resolver.find_bindings(node)
    values = [v for v in map(resolver.get_value, bindings) if v is not None]
    names = [resolver.resolve(v.func) for v in values if isinstance(v, cst.Call)]
    is_known = bool(names) and len(names) == len(values)
    return is_known and all(_TENSORS.fullmatch(name or "") for name in names)


def check_call(work: Work, call: cst.Call, name: str | None) -> None:
    """Reports a call that fails in eager code, or does nothing there.

    Args:
        work: notes of the file.
        call: the call.
        name: the normal name of its function, or None.
    """
    words = {arg.keyword.value for arg in call.args if arg.keyword is not None}
    if name is not None:
        _check_known(work, call, name, words)
    if isinstance(call.func, cst.Attribute) and (name is None or "(" in name):
        _check_method(work, call, name is None, words)


def _check_method(work: Work, call: cst.Call, unknown: bool, words: set[str]) -> None:
    method = cst.ensure_type(call.func, cst.Attribute).attr.value
    session = bool(words & {"session", "feed_dict"})
    if method == "eval":
        first = call.args[0].value if call.args else None
        given = first is None or m.matches(first, m.Name("sess") | m.Name("session"))
        if given or session:
            work.suspect(call, _EVAL)
    elif method == "run" and session:
        work.suspect(call, _EVAL)
    elif unknown and method in ("compute_gradients", "apply_gradients"):
        work.suspect(call.func, _GRADIENTS)


def _check_known(work: Work, call: cst.Call, name: str, words: set[str]) -> None:
    resolver = work.resolver
    if name.endswith("._parse_flags"):
        work.leave(call.func, _FLAGS)
    after = renamed.ANCIENT.get(name)
    if _SUMMARIES.fullmatch(after or name):
        if "step" not in words:
            work.leave(call.func, _SUMMARY, after, fails_at_import=False)
    elif _SCHEDULES.fullmatch(name) and not _goes_to_optimizer(resolver, call):
        work.leave(call.func, _SCHEDULE, fails_at_import=False)
    elif (
        _VARIABLES.fullmatch(name)
        and "Var" not in name
        and not resolver.find_parent(call, cst.FunctionDef, cst.Lambda)
    ):
        work.leave(call.func, _OUTSIDE, name.rpartition(".")[2])


def _goes_to_optimizer(resolver: Resolver, call: cst.Call) -> bool:
    """Returns whether a schedule is used by optimizers alone."""
    uses: list[cst.CSTNode] = [call]
    match resolver.get_parent(call):
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() as name)]):
            uses = resolver.list_uses(name)
    return bool(uses) and all(_is_for_optimizer(resolver, use) for use in uses)


def _is_for_optimizer(resolver: Resolver, use: cst.CSTNode) -> bool:
    outer = resolver.find_parent(use, cst.Call, cst.SimpleStatementLine)
    if not isinstance(outer, cst.Call):
        return False
    name = resolver.resolve(outer.func) or ""
    given = any(arg.value is use for arg in outer.args)
    return given and re.search(r"Optimizer$|optimize_loss$", name) is not None
