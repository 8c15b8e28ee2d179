r"""Rewrites one file's TF1 code for tfreg.

    source = b"import tensorflow as tf\nx = tf.contrib.layers.flatten(x)\n"
    result = rewriting.rewrite(source)  # result.source, result.changes, result.left

A port never guesses: code that it doesn't understand is kept and reported.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import libcst as cst
from libcst import matchers as m
from libcst import metadata

from tfreg.porting import arguments, collecting, imports, names, renamed, steps, totals
from tfreg.porting.resolution import Resolver, get_dotted
from tfreg.porting.work import Note, Work

_FLOW = ("tf.while_loop", "tf.cond", "tf.case", "tf.map_fn", "tf.scan", "tf.foldl")
_UPDATES = "leave it out: batch_norm updates its averages when it is called"
_VARIABLE = (
    "write tf1.get_variable(name, initializer=value): in a forward function "
    "tf.Variable would create a new variable at each call"
)
_RUN = "call the function that computes it, with the batch as arguments"
_SESSION = m.Attribute(
    value=m.Name("sess")
    | m.Name("session")
    | m.Attribute(attr=m.Name("sess"))
    | m.Attribute(attr=m.Name("session")),
    attr=m.Name("run"),
)
_ITERATOR = m.Attribute(
    attr=m.Name("make_one_shot_iterator") | m.Name("make_initializable_iterator")
)
_KERAS = ("tf.keras.regularizers.l1", "tf.keras.regularizers.l2")
# In the form that tf_upgrade_v2 writes, with parentheses.
_HALF = m.BinaryOperation(
    left=m.Float("0.5"),
    operator=m.Multiply(),
    right=m.MatchIfTrue(lambda node: bool(node.lpar)),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """A rewritten file.

    Attributes:
        source: the new bytes, or the old ones if nothing changed.
        changes: the changes.
        remarks: changes that the caller of the code has to know of.
        left: the code to port by hand.
    """

    source: bytes
    changes: tuple[Note, ...] = ()
    remarks: tuple[Note, ...] = ()
    left: tuple[Note, ...] = ()


def rewrite(source: bytes) -> Result:
    """Rewrites a file.

    Args:
        source: Python 3, in the encoding that it declares.

    Raises:
        libcst.ParserSyntaxError: the source can't be parsed.
    """
    result = _rewrite_once(source)
    # Once the code around it is rewritten, code that was left may be understood.
    while (more := _rewrite_once(result.source)).source != result.source:
        still = {note.name for note in more.left}
        result = Result(
            more.source,
            (*result.changes, *more.changes),
            (*result.remarks, *more.remarks),
            tuple(note for note in result.left if note.name in still),
        )
    return result


def _rewrite_once(source: bytes) -> Result:
    if not re.search(rb"tensorflow|tf_slim", source):
        return Result(source)
    wrapper = metadata.MetadataWrapper(cst.parse_module(source))
    resolver = Resolver(wrapper)
    work = Work(resolver, imports.choose_names(resolver))
    module = wrapper.module.visit(Rewriter(work))
    if work.list_notes()[0] or re.search(rb"contrib|tf_slim", source):
        module = imports.finish(module, work)
    changes, remarks, left = work.list_notes()
    return Result(module.bytes if changes else source, changes, remarks, left)


class Rewriter(cst.CSTTransformer):
    """Rewrites the expressions of a file, but not its imports."""

    def __init__(self, work: Work):
        super().__init__()
        self._work = work
        self._resolver = work.resolver

    def visit_Import(self, node: cst.Import) -> bool:
        self._work.imports.append(node)
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        self._work.imports.append(node)
        module = get_dotted(node.module) if node.module is not None else ""
        if isinstance(node.names, cst.ImportStar) and re.match(
            r"(tensorflow\.(contrib|compat\.v1)|tf_slim)\b", module
        ):
            self._work.leave(node, "import the names one by one")
        return False

    def visit_Call(self, node: cst.Call) -> bool:
        if totals.get_key(self._resolver, node) == "update_ops":
            self._work.leave(node, _UPDATES)
            return False
        return True

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name):
        return self._replace(original_node, updated_node)

    def leave_Attribute(
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ):
        return self._replace(original_node, updated_node)

    def _replace(self, original, updated):
        name = self._resolver.resolve(original)
        parent: Any = self._resolver.get_parent(original)
        if (
            name is None
            or self._is_own(original)
            or isinstance(parent, cst.AssignTarget | cst.AugAssign | cst.Del)
        ):
            return updated
        if isinstance(original, cst.Attribute) and original.value in (
            self._work.rewritten
        ):
            self._work.rewritten.add(original)
            return updated
        # A longer name is rewritten as one; a call is handled in leave_Call.
        outer = isinstance(parent, cst.Attribute) and parent.value is original
        longer = (self._resolver.resolve(parent) if outer else None) or ""
        if longer in names.TABLE or (
            longer.startswith("tf.GraphKeys.") and names.find_advice(longer)
        ):
            return updated
        if name in names.TABLE:
            return self._work.rename(original, updated, names.TABLE[name].target)
        if name in renamed.NAMES and not self._is_v1(original):
            return self._work.put_under_v1(original, updated)
        if name in names.MODES:
            # Not the quotes of the f-string that it is in.
            inside: Any = self._resolver.find_parent(original, cst.FormattedString)
            quote = "'" if inside and '"' in inside.start else '"'
            text = f"{quote}{names.MODES[name]}{quote}"
            self._work.rewritten.add(original)
            self._work.note_change(original, text)
            return cst.SimpleString(text)
        called = getattr(parent, "func", None) is original
        if not outer and not (called and name in names.CREATE_TRAIN_OP):
            self._report(original, parent, name)
        return updated

    def _is_own(self, node: cst.CSTNode) -> bool:
        """Returns whether a name was bound by an assignment in this file."""
        return isinstance(node, cst.Name) and not all(
            isinstance(binding, metadata.ImportAssignment)
            for binding in self._resolver.find_bindings(node)
        )

    def _is_v1(self, node: cst.CSTNode) -> bool:
        return (self._resolver.find_name(node) or "").startswith(
            "tensorflow.compat.v1."
        )

    def _report(self, original, parent, name: str) -> None:
        if name in names.MODULES:
            alias = m.matches(parent, m.Assign(targets=[m.AssignTarget(m.Name())]))
            if name.startswith(("contrib", "tf.contrib")) and not alias:
                self._work.leave(original, "name its functions one by one")
        elif (advice := names.find_advice(name)) is not None:
            self._work.leave(original, advice)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call):
        name = self._resolver.resolve(original_node.func)
        step = steps.port_step(self._work, original_node, updated_node, name)
        if step is not None:
            return step
        if name is not None:
            self._check_call(original_node, name)
        elif m.matches(original_node.func, _SESSION):
            self._work.suspect(original_node.func, _RUN)
        elif m.matches(original_node.func, _ITERATOR):
            self._work.suspect(original_node.func, "write for x, y in dataset")
        if name in ("functools.partial", "contrib.arg_scope"):
            return self._adapt_later(original_node, updated_node, name)
        if name in names.TABLE:
            entry = names.TABLE[name]
            return self._adapt(original_node, updated_node, [entry], 0)
        if name in _KERAS:
            return self._restore_contrib(original_node, updated_node, name)
        if name is not None and self._is_v1_call(original_node, name):
            function = self._work.put_under_v1(original_node.func, updated_node.func)
            return updated_node.with_changes(func=function)
        return self._port_sum(original_node, updated_node)

    def _adapt(self, original, updated, entries: Sequence[names.Entry], first: int):
        """Adapts the arguments from position `first` on to each of the entries."""
        args = list(updated.args[first:])
        try:
            for entry in entries:
                args = arguments.adapt(args, entry)
        except arguments.Unportable as error:
            self._work.leave(original, str(error))
            if original.func in self._work.rewritten:
                self._work.restore(original.func)
                return updated.with_changes(func=original.func)
            return updated
        args = arguments.end_arguments([*updated.args[:first], *args], updated.args)
        if args == list(updated.args):
            return updated
        if original.func not in self._work.rewritten:
            self._work.note_change(original, "the arguments of tfreg")
        values = {id(arg.value) for arg in args}
        pairs = zip(original.args, updated.args, strict=True)
        self._work.kept[original] = [b for b, a in pairs if id(a.value) in values]
        return updated.with_changes(args=args)

    def _adapt_later(self, original, updated, name: str):
        """Adapts the arguments that partial and arg_scope pass to functions."""
        first = original.args[0].value if original.args else None
        listed = [e.value for e in getattr(first, "elements", ())]
        functions = [first] if name == "functools.partial" else listed
        resolved = [node and self._resolver.resolve(node) for node in functions]
        entries = [names.TABLE[n] for n in resolved if n in names.TABLE]
        return self._adapt(original, updated, entries, 1)

    def _is_v1_call(self, call: cst.Call, name: str) -> bool:
        if self._is_v1(call.func):
            return False
        given = [arg.keyword.value for arg in call.args if arg.keyword is not None]
        patterns = [renamed.ARGUMENTS[w] for w in given if w in renamed.ARGUMENTS]
        old = any(re.fullmatch(pattern, name) for pattern in patterns)
        return old or (name == "tf.name_scope" and len(call.args) > 1)

    def _restore_contrib(self, original, updated, name: str):
        """Undoes tf_upgrade_v2's conversion of contrib's regularizers to Keras's."""
        if len(original.args) != 1 or original.args[0].star:
            return updated
        arg = updated.args[0]
        old = m.matches(arg, m.Arg(keyword=m.Name("l")))
        scale = arg.value
        if name.endswith("l2"):
            if (arg.keyword is not None and not old) or not m.matches(scale, _HALF):
                return updated
            scale = scale.right
            scale = scale.with_changes(lpar=scale.lpar[1:], rpar=scale.rpar[:-1])
        elif not old:
            return updated
        target = f"tfreg.{name[-2:]}_regularizer"
        function = self._work.rename(original.func, updated.func, target)
        only = arg.with_changes(
            value=scale, keyword=None, equal=cst.MaybeSentinel.DEFAULT
        )
        return updated.with_changes(func=function, args=[only])

    def _port_sum(self, original, updated):
        before: Any = totals.find_listed(self._resolver, original, original)
        loss = totals.find_listed(self._resolver, original, updated)
        if loss is not None and not totals.is_total(self._resolver, before):
            self._work.totals[original] = before
            return self._write_total(original, updated, loss)
        if not totals.is_sum(self._resolver, original):
            return updated
        listed = self._resolver.find_value(original.args[0].value)
        if totals.get_key(self._resolver, listed) != "losses":
            return updated
        direct = listed is original.args[0].value
        after = updated.args[0].value if direct else self._work.values.get(listed)
        if not isinstance(after, cst.Call):
            return updated
        function = self._work.rename(
            original, cst.Name("_"), "tf1.losses.get_total_loss"
        )
        apart = cst.ensure_type(
            cst.parse_expression("f(add_regularization_losses=False)"), cst.Call
        )
        scope = [arguments.name_argument(arg, "scope") for arg in after.args[1:]]
        rest = arguments.separate([*apart.args, *scope, *updated.args[1:]])
        return updated.with_changes(func=function, args=rest)

    def leave_BinaryOperation(self, original_node, updated_node):
        addition = m.BinaryOperation(operator=m.Add())
        parent = self._resolver.get_parent(original_node)
        if not m.matches(original_node, addition) or (
            parent is not None and m.matches(parent, addition)
        ):
            return updated_node
        before: Any = totals.find_data_loss(
            self._resolver, original_node, original_node
        )
        loss = totals.find_data_loss(self._resolver, original_node, updated_node)
        if loss is None or totals.is_total(self._resolver, before):
            return updated_node
        self._work.totals[original_node] = before
        return self._write_total(original_node, updated_node, loss)

    def leave_AugAssign(self, original_node, updated_node):
        if (
            not m.matches(original_node, m.AugAssign(m.Name(), m.AddAssign()))
            or not totals.is_penalty(self._resolver, original_node.value)
            or totals.is_total(self._resolver, original_node.target)
        ):  # fmt: skip
            return updated_node
        total = self._write_total(
            original_node.value, updated_node.value, updated_node.target
        )
        targets = [cst.AssignTarget(updated_node.target)]
        return cst.Assign(targets, total, semicolon=updated_node.semicolon)

    def _write_total(self, original, updated, loss: cst.BaseExpression):
        function = self._work.rename(original, cst.Name("_"), "tf1.losses.total_loss")
        return cst.Call(function, [cst.Arg(loss)], lpar=updated.lpar, rpar=updated.rpar)

    def _check_call(self, call: cst.Call, name: str) -> None:
        """Reports a call that looks valid but has another meaning on tfreg."""
        if name == "tf.control_dependencies" and call.args:
            if totals.get_key(self._resolver, call.args[0].value) == "update_ops":
                self._work.leave(call, _UPDATES)
        elif name == "tf.Variable" and self._resolver.find_parent(
            call, cst.FunctionDef
        ):
            self._work.suspect(call, _VARIABLE)
        elif name == "tf.nn.dropout" and len(call.args) > 1 and not self._is_v1(call):
            if call.args[1].keyword is None:
                self._work.suspect(call, "write rate=1 - keep_prob, or rate=")
        elif name in _FLOW and (
            inner := collecting.find_collecting(self._resolver, call)
        ):
            advice = f"write a Python loop or branch: {inner} inside would be lost"
            self._work.leave(call, advice)

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign):
        self._work.values[original_node.value] = updated_node.value
        return updated_node

    def leave_IndentedBlock(self, original_node, updated_node):
        return imports.drop_statements(original_node, updated_node, self._work.dropped)

    def leave_Module(self, original_node, updated_node):
        return imports.drop_statements(original_node, updated_node, self._work.dropped)
