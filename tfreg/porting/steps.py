r"""Rewrites training operations as training steps.

    source = b'''import tensorflow.contrib.slim as slim
    def make_train_op(images, labels, optimizer):
        loss = loss_fn(images, labels)
        return slim.learning.create_train_op(loss, optimizer)
    '''
    result = porting.rewriting.rewrite(source)

returns tf1.create_train_op(tf1.Model(loss_fn), optimizer): a function of the batch. The
batch is the arguments without default of the enclosing function.
"""

import re
from typing import Any

import libcst as cst
from libcst import matchers as m
from libcst import metadata

from tfreg.porting import arguments, names, totals
from tfreg.porting.work import Work

_MINIMIZE = re.compile(r"tf\.train\.\w*Optimizer\(\)\.minimize")
_BY_HAND = (
    "write a function of the batch that returns the loss, and "
    "train_step = tf1.create_train_op(tf1.Model(function), optimizer)"
)
# Reads of collections depend on earlier statements, not only on the batch.
_READING = re.compile(
    r".*\.(get_(?!variable)\w+|trainable_variables|global_variables)(\(\))?"
)
_MINIMIZED = names.read_entry(
    "tf1.create_train_op loss global_step var_list -gate_gradients "
    "-aggregation_method -colocate_gradients_with_ops -name !grad_loss "
    "var_list>variables_to_train"
)


def port_step(work: Work, original: cst.Call, updated: cst.Call, name: str | None):
    """Returns the training step that replaces a training operation.

    Args:
        work: notes of the file.
        original: a call.
        updated: the same call with its parts rewritten.
        name: the normal name of the function that is called.

    Returns:
        None if the call isn't a training operation.
    """
    minimize = name is not None and _MINIMIZE.fullmatch(name) is not None
    if name is None and m.matches(original.func, m.Attribute(attr=m.Name("minimize"))):
        first = original.args[0].value if original.args else None
        if first is not None and not isinstance(first, cst.Lambda):
            work.suspect(original, _BY_HAND)
    if not minimize and name not in names.CREATE_TRAIN_OP:
        return None
    entry = _MINIMIZED if minimize else names.CREATE_TRAIN_OP[name or ""]
    try:
        return _write(work, original, updated, entry, minimize)
    except arguments.Unportable as error:
        work.leave(original, str(error))
        return updated


def _write(work: Work, original, updated, entry: names.Entry, minimize: bool):
    place = entry.arguments.index("loss" if "loss" in entry.arguments else "total_loss")
    given = arguments.find_argument(original.args, place, "loss", "total_loss")
    if given is None or given is not original.args[0]:
        raise arguments.Unportable(_BY_HAND)
    pairs = zip(original.args, updated.args, strict=True)
    later = [_defer(work, before, after) for before, after in pairs]
    args = arguments.adapt([arg for arg in later if arg is not None], entry)
    args = arguments.end_arguments(args, updated.args)
    function = Batch(work, original).make_function(given.value, updated.args[0].value)
    # A VariableStore of its own, whose variables the first step creates.
    model = cst.Call(
        work.rename(original, cst.Name("_"), "tf1.Model"), [cst.Arg(function)]
    )
    args[0] = args[0].with_changes(value=model, keyword=None)
    args[0] = args[0].with_changes(equal=cst.MaybeSentinel.DEFAULT)
    if minimize:
        args = _add_defaults([args[0], cst.Arg(updated.func.value), *args[1:]])
    target = work.rename(original, cst.Name("_"), entry.target)
    work.remark(original, "is a step now: call it with each batch")
    return updated.with_changes(func=target, args=args)


def _defer(work: Work, before: cst.Arg, after: cst.Arg) -> cst.Arg | None:
    """Returns an argument that is evaluated when the step runs, None to drop it.

    Raises:
        Unportable: variables that don't exist before the model's first call.
    """
    word = "" if before.keyword is None else before.keyword.value
    key = totals.get_key(work.resolver, before.value)
    if word == "update_ops" and key == "update_ops":
        work.forget(before.value)  # batch_norm does it.
        return None
    listed = word in ("variables_to_train", "var_list", "variables")
    if not listed or arguments.is_unset(before.value):
        return after
    if not isinstance(before.value, cst.Call):
        raise arguments.Unportable(f"{_BY_HAND}, with {word}=lambda: the variables")
    if work.resolver.resolve(before.value) == "tf.trainable_variables()" and (
        not before.value.args
    ):
        return None
    return after.with_changes(value=cst.Lambda(cst.Parameters(), after.value))


def _add_defaults(args: list[cst.Arg]) -> list[cst.Arg]:
    """Adds the arguments that make create_train_op do the same as minimize."""
    given = {arg.keyword.value for arg in args if arg.keyword is not None}
    text = "check_numerics=False"
    if "global_step" not in given and len(args) - len(given) < 3:
        text = f"global_step=None, {text}"
    defaults = cst.ensure_type(cst.parse_expression(f"f({text})"), cst.Call)
    return arguments.separate([*args, *defaults.args])


class Batch:
    """Writes a loss as a function of the batch.

    Args:
        work: notes of the file.
        call: the training operation.

    Raises:
        Unportable: the training operation isn't in a function, or is in an f-string.
    """

    def __init__(self, work: Work, call: cst.Call):
        self._work = work
        kinds = cst.FunctionDef, cst.Lambda, cst.ClassDef
        function = work.resolver.find_parent(call, *kinds)
        text = work.resolver.find_parent(call, cst.FormattedStringExpression)
        if not isinstance(function, cst.FunctionDef) or text is not None:
            raise arguments.Unportable(_BY_HAND)
        self._function = function
        self._batch: set[str] = set()
        self._inlined: set[cst.CSTNode] = set()

    def make_function(
        self, loss: cst.BaseExpression, updated: cst.BaseExpression
    ) -> cst.BaseExpression:
        """Returns a function of the batch that returns a loss.

        Args:
            loss: a call, or a name for its result that nothing else uses.
            updated: the same with its parts rewritten.

        Raises:
            Unportable: the loss depends on more than the batch and the module's names.
        """
        body = self._inline(loss, updated)
        if not self._batch or isinstance(body, cst.Name):
            raise arguments.Unportable(_BY_HAND)
        self._work.dropped |= self._inlined
        order = [p.name.value for p in self._function.params.params]
        params = [name for name in order if name in self._batch]
        given = [m.Arg(m.Name(name), keyword=None) for name in params]
        if m.matches(body, m.Call(func=m.Name(), args=given)):
            return cst.ensure_type(body, cst.Call).func
        return cst.Lambda(
            cst.Parameters([cst.Param(cst.Name(name)) for name in params]), body
        )

    def _inline(self, node: cst.BaseExpression, updated: Any) -> cst.BaseExpression:
        """Returns an expression in terms of the batch and the module's names."""
        name = self._work.resolver.resolve(node) or ""
        if node in self._work.totals:
            loss = self._inline(self._work.totals[node], updated.args[0].value)
            return updated.with_changes(args=[cst.Arg(loss)])
        if isinstance(node, cst.BinaryOperation):
            left = self._inline(node.left, updated.left)
            right = self._inline(node.right, updated.right)
            return updated.with_changes(left=left, right=right)
        if isinstance(node, cst.Name):
            is_imported = node in self._work.rewritten
            return updated if is_imported else self._inline_name(node)
        if isinstance(node, cst.Attribute):
            if name and "(" not in name:  # A module's attribute.
                return updated
            return updated.with_changes(value=self._inline(node.value, updated.value))
        if isinstance(node, cst.Call) and isinstance(updated, cst.Call):
            kept = self._work.kept.get(node, node.args)
            if _READING.fullmatch(name) or len(kept) != len(updated.args):
                raise arguments.Unportable(_BY_HAND)
            pairs = zip(kept, updated.args, strict=True)
            args = [
                after.with_changes(value=self._inline(before.value, after.value))
                for before, after in pairs
            ]
            self._check(node.func, updated.func)
            return updated.with_changes(args=args)
        if isinstance(node, cst.BaseNumber | cst.BaseString):
            return updated
        raise arguments.Unportable(_BY_HAND)

    def _check(self, function: cst.BaseExpression, updated: Any) -> None:
        """Raises if a called function isn't available when the step runs."""
        batch, self._batch = self._batch, set()
        self._inline(function, updated)
        self._batch = batch  # A model that is an argument isn't part of the batch.

    def _inline_name(self, node: cst.Name) -> cst.BaseExpression:
        bindings = list(self._work.resolver.find_bindings(node))
        if not bindings:  # From an import *.
            return node
        if len(bindings) > 1:
            raise arguments.Unportable(_BY_HAND)
        binding = bindings[0]
        if isinstance(binding, metadata.BuiltinAssignment) or isinstance(
            binding.scope, metadata.GlobalScope
        ):
            return node
        target = getattr(binding, "node", None)
        if isinstance(target, cst.Param):
            if target.star:
                raise arguments.Unportable(_BY_HAND)
            own = any(target is param for param in self._function.params.params)
            if own and target.default is None and node.value not in ("self", "cls"):
                self._batch.add(node.value)
            return node
        value: Any = self._work.resolver.get_value(binding)
        if value is None or not self._is_plain(binding, value):
            raise arguments.Unportable(_BY_HAND)
        line = self._work.resolver.find_parent(value, cst.SimpleStatementLine)
        self._inlined.add(cst.ensure_type(line, cst.SimpleStatementLine))
        return self._inline(value, self._work.values.get(value, value))

    def _is_plain(self, binding: metadata.BaseAssignment, value: cst.CSTNode) -> bool:
        """Returns whether a name is bound on a line of its own, and used once."""
        resolver = self._work.resolver
        line = resolver.find_parent(value, cst.SimpleStatementLine)
        return (
            isinstance(line, cst.SimpleStatementLine)
            and len(line.body) == 1
            and len(list(binding.references)) == 1
            and len(resolver.list_reads(binding.scope, binding.name)) == 1
            and m.matches(line.body[0], m.Assign(targets=[m.AssignTarget()]))
            and resolver.find_parent(value, cst.FunctionDef) is self._function
        )
