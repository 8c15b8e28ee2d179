r"""Rewrites the sums of penalties that TF1 code writes by hand as tfreg's total.

    from tfreg.porting import rewriting

    source = b"import tensorflow as tf\nloss += tf.losses.get_regularization_loss()\n"
    rewriting.rewrite(source).source  # b"... tf1.losses.total_loss(loss)"

The trap: a sum to which another loss was added. It is kept, and reported.
"""

from typing import Any

import libcst as cst
from libcst import matchers as m

from tfreg.porting import arguments, totals
from tfreg.porting.work import Work


def port_sum(work: Work, original: cst.Call, updated: cst.Call) -> cst.Call:
    """Returns a call of tf.add_n, tf.add or sum, rewritten if it sums penalties."""
    before: Any = totals.find_listed(work.resolver, original, original)
    loss = totals.find_listed(work.resolver, original, updated)
    if loss is not None and not totals.is_total(work.resolver, before):
        work.totals[original] = before
        return _write_total(work, original, updated, loss)
    if not totals.is_sum(work.resolver, original):
        return updated
    listed = work.resolver.find_value(original.args[0].value)
    if totals.get_key(work.resolver, listed) != "losses":
        return updated
    direct = listed is original.args[0].value
    after = updated.args[0].value if direct else work.values.get(listed)
    if not isinstance(after, cst.Call):
        return updated
    function = work.rename(original, cst.Name("_"), "tf1.losses.get_total_loss")
    apart = cst.ensure_type(
        cst.parse_expression("f(add_regularization_losses=False)"), cst.Call
    )
    scope = [arguments.name_argument(arg, "scope") for arg in after.args[1:]]
    rest = arguments.separate([*apart.args, *scope, *updated.args[1:]])
    return updated.with_changes(func=function, args=rest)


def port_addition(work: Work, original, updated):
    """Returns an addition, rewritten if it adds the penalties to a loss."""
    addition = m.BinaryOperation(operator=m.Add())
    parent = work.resolver.get_parent(original)
    if not m.matches(original, addition) or (
        parent is not None and m.matches(parent, addition)
    ):
        return updated
    before: Any = totals.find_data_loss(work.resolver, original, original)
    loss = totals.find_data_loss(work.resolver, original, updated)
    if loss is None or totals.is_total(work.resolver, before):
        return updated
    work.totals[original] = before
    return _write_total(work, original, updated, loss)


def port_increment(work: Work, original, updated):
    """Returns `loss += penalty` as an assignment of the total."""
    if (
        not m.matches(original, m.AugAssign(m.Name(), m.AddAssign()))
        or not totals.is_penalty(work.resolver, original.value)
        or totals.is_total(work.resolver, original.target)
    ):  # fmt: skip
        return updated
    total = _write_total(work, original.value, updated.value, updated.target)
    targets = [cst.AssignTarget(updated.target)]
    return cst.Assign(targets, total, semicolon=updated.semicolon)


def _write_total(work: Work, original, updated, loss: cst.BaseExpression) -> cst.Call:
    function = work.rename(original, cst.Name("_"), "tf1.losses.total_loss")
    return cst.Call(function, [cst.Arg(loss)], lpar=updated.lpar, rpar=updated.rpar)
