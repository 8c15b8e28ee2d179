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

from tfreg.porting import (
    calls,
    collecting,
    eager,
    imports,
    names,
    project,
    renamed,
    signatures,
    steps,
    sums,
    tensorflow2,
    totals,
    versions,
)
from tfreg.porting.resolution import (
    STAND_IN,
    Resolver,
    get_dotted,
    get_first,
    get_stand_in,
)
from tfreg.porting.work import Note, Work, get_text, is_at_import, shorten

_ALONE = project.Links()
# What may be of TensorFlow 1, or be left of it after a port.
_TF1 = re.compile(rb"tensorflow|tf_slim|tfreg")
# Private modules that TensorFlow 2 still has, with what TF1 code takes from them.
_PRIVATE = re.compile(
    r"tf\.python\.(framework\.(constant_op|dtypes|errors_impl|ops|random_seed|tensor_shape)"
    r"|ops\.(array|check|clip|control_flow|init|math|nn|random|sparse|state)_ops|ops\.nn)\."
)
_FLOW = ("tf.while_loop", "tf.cond", "tf.case", "tf.map_fn", "tf.scan", "tf.foldl")
_UPDATES = "leave it out: batch_norm updates its averages when it is called"
_VARIABLE = (
    "write tf1.Variable(value, name=name): in a forward function tf.Variable would "
    "create a new variable at each call"
)
_DROPOUT = "write tf1.nn.dropout(x, keep_prob), or rate="
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
_ALIAS = m.Assign(targets=[m.AssignTarget(m.Name())])
_CONTRIB = "write what is used of it in TensorFlow 2, then remove this"


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


def find_advice(name: str) -> str | None:
    """Returns the advice for a name that TensorFlow 2 lacks, None if it has it."""
    advice = names.find_advice(name)
    if advice is not None or not name.startswith("tf.") or name in names.MODULES:
        return advice
    if "(" in name:  # An attribute of what a call returns.
        return None
    if name.startswith("tf.python."):
        return "it is private, and may be gone: write the public name"
    known = any(name == n or name.startswith(f"{n}.") for n in renamed.NAMES)
    missing = None if known else tensorflow2.lacks(name)
    return missing and f"TensorFlow 2 has no {missing}: write what it did"


def rewrite(source: bytes, links: project.Links = _ALONE) -> Result:
    """Rewrites a file.

    Args:
        source: Python 3, in the encoding that it declares.
        links: the names that come from other files, and those that others need.

    Raises:
        libcst.ParserSyntaxError: the source can't be parsed.
    """
    result, changed = _rewrite_once(source, links, False), True
    # Once the code around it is rewritten, code that was left may be understood, and
    # an alias that is still used gets a stand-in.
    while changed:
        more = _rewrite_once(result.source, links, True)
        changed = more.source != result.source
        still = {_get_old(note) for note in more.left}
        result = Result(
            more.source,
            (*result.changes, *more.changes),
            (*result.remarks, *more.remarks),
            tuple(note for note in result.left if _get_old(note) in still),
        )
    return result


def _get_old(note: Note) -> str:
    """Returns a note's name as it was before the rewriting."""
    return note.name.replace("compat.v1.", "")


def _rewrite_once(source: bytes, links: project.Links, stand_in: bool) -> Result:
    if not (links.origins or links.names or _TF1.search(source)):
        return Result(source)
    wrapper = metadata.MetadataWrapper(cst.parse_module(source))
    resolver = Resolver(wrapper, links.origins)
    local = imports.choose_names(resolver, links.origins)
    forms = versions.list_forms(set(resolver.list_names()), links.names)
    is_tf1 = bool(forms) or not links.names.isdisjoint(["tfreg.tf1", STAND_IN])
    work = Work(resolver, local, links.taken, is_tf1)
    module = wrapper.module.visit(Rewriter(work, stand_in, forms))
    module = imports.finish(module, work, links.origins)
    changes, remarks, left = work.list_notes()
    return Result(module.bytes if changes else source, changes, remarks, left)


class Rewriter(cst.CSTTransformer):
    """Rewrites the expressions of a file, but not its imports."""

    def __init__(self, work: Work, stand_in: bool, forms: Sequence[str]):
        super().__init__()
        self._work = work
        self._stand_in = stand_in  # Whether contrib's aliases get stand-ins.
        self._resolver = work.resolver
        self._forms = forms  # The names that have TF1's meaning.

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
        if self._resolver.is_stand_in(node):
            self._report_stand_in(node)
            return False
        return True

    def _report_stand_in(self, node: cst.Call) -> None:
        name = get_stand_in(node) or ""
        statement: Any = self._resolver.get_parent(node)
        target = statement.targets[0].target if m.matches(statement, _ALIAS) else None
        shared = target is not None and target.value in self._work.taken
        if shared and target is not None and not self._resolver.list_uses(target):
            self._work.remark(node, imports.SHARED, name)
            return
        advice = names.find_advice(names.normalize(name)) or _CONTRIB
        self._work.leave(node, advice, name, fails_at_import=False)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name):
        return self._replace(original_node, updated_node)

    def leave_Attribute(
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ):
        size = eager.port_size(self._work, original_node, updated_node)
        if size is not None:
            return size
        eager.check_attribute(self._work, original_node)
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
        if name in renamed.ANCIENT:
            return self._modernize(original, updated, renamed.ANCIENT[name])
        if name in renamed.NAMES and not self._is_v1(original):
            return self._put_under_v1(original, updated, name)
        if name in names.MODES:
            return self._write_mode(original, names.MODES[name])
        called = getattr(parent, "func", None) is original
        if not outer and not (called and name in names.CREATE_TRAIN_OP):
            return self._report(original, updated, parent, name)
        return updated

    def _modernize(self, original, updated, target: str):
        """Returns today's name for one of TF 0.x."""
        after = self._work.move(original, updated, target)
        full = f"tensorflow{target.removeprefix('tf')}"
        advice = names.find_advice(names.normalize(full))
        if advice is not None:
            self._work.leave(original, advice, get_text(after))
        return after

    def _put_under_v1(self, original, updated, name: str):
        """Returns a name under tf.compat.v1, unless its import is changed to that."""
        if self._is_moved(original):
            return updated
        after = self._work.put_under_v1(original, updated)
        if (advice := names.find_advice(name)) is not None:
            self._work.leave(original, advice, fails_at_import=False)
        return after

    def _write_mode(self, original, mode: str) -> cst.SimpleString:
        """Returns an estimator's mode as a string."""
        # Not the quotes of the f-string that it is in.
        inside: Any = self._resolver.find_parent(original, cst.FormattedString)
        quote = "'" if inside and '"' in inside.start else '"'
        text = f"{quote}{mode}{quote}"
        self._work.rewritten.add(original)
        self._work.note_change(original, text)
        return cst.SimpleString(text)

    def _is_moved(self, node: cst.CSTNode) -> bool:
        """Returns whether its import is changed to tensorflow.compat.v1."""
        if not isinstance(node, cst.Name):
            return False
        return all(
            isinstance(statement, cst.ImportFrom)
            and isinstance(statement.names, Sequence)
            and any(imports.is_moved(statement, alias) for alias in statement.names)
            for statement in self._resolver.find_definitions(node)
        )

    def _is_own(self, node: cst.CSTNode) -> bool:
        """Returns whether a name was bound by an assignment in this file."""
        return isinstance(node, cst.Name) and not all(
            isinstance(binding, metadata.ImportAssignment)
            or self._resolver.is_stand_in(self._resolver.get_value(binding) or node)
            for binding in self._resolver.find_bindings(node)
        )

    def _is_v1(self, node: cst.CSTNode) -> bool:
        return (self._resolver.find_name(node) or "").startswith(
            "tensorflow.compat.v1."
        )

    def _report(self, original, updated, parent, name: str):
        """Reports a name that isn't rewritten; returns it, or a stand-in for it."""
        full = self._resolver.find_name(original) or ""
        if name in names.MODULES:
            if not name.startswith(("contrib", "tf.contrib")):
                return updated
            if m.matches(parent, _ALIAS):
                self._work.leave(original, _CONTRIB, shorten(full), False)
                if self._stand_in and self._is_direct(original):
                    return self._work.stand_in(original, updated, full)
                return updated
            self._work.leave(original, "name its functions one by one")
            return updated
        advice = find_advice(name)
        if advice is None:
            return updated
        called = getattr(parent, "func", None) is original
        if called or not self._fails_at_import(original, name):
            fails = _PRIVATE.match(name) is None
            self._work.leave(original, advice, fails_at_import=fails)
            return updated
        self._work.leave(original, advice, shorten(full), False)
        return self._work.stand_in(original, updated, full)

    def _fails_at_import(self, node: cst.CSTNode, name: str) -> bool:
        """Returns whether reading a name raises when the file is imported."""
        gone = name.startswith("contrib") or tensorflow2.lacks(name) is not None
        at_import = is_at_import(self._resolver, node)
        return gone and at_import and self._is_direct(node)

    def _is_direct(self, node: cst.CSTNode) -> bool:
        """Returns whether a name is an attribute of the imported tensorflow."""
        first = get_first(node)
        real = self._resolver.find_name(first) in ("tensorflow", "tensorflow.compat.v1")
        return isinstance(node, cst.Attribute) and real

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call):
        name = self._resolver.resolve(original_node.func)
        step = steps.port_step(self._work, original_node, updated_node, name)
        if step is not None:
            return step
        if name is not None and name in self._forms:
            return versions.port(self._work, original_node, updated_node, name)
        eager.check_call(self._work, original_node, name)
        if name is not None:
            self._check_call(original_node, name)
        elif m.matches(original_node.func, _SESSION):
            self._work.suspect(original_node.func, _RUN)
        elif m.matches(original_node.func, _ITERATOR):
            self._work.suspect(original_node.func, "write for x, y in dataset")
        if name in ("functools.partial", "contrib.arg_scope"):
            return calls.adapt_later(self._work, original_node, updated_node, name)
        if name in names.TABLE:
            entry = names.TABLE[name]
            return calls.adapt(self._work, original_node, updated_node, [entry])
        if name in calls.KERAS:
            return calls.restore_contrib(self._work, original_node, updated_node, name)
        if name is not None and not self._is_v1(original_node.func):
            after = signatures.port(self._work, original_node, updated_node, name)
            if after is not None:
                return after
        return sums.port_sum(self._work, original_node, updated_node)

    def leave_BinaryOperation(self, original_node, updated_node):
        return sums.port_addition(self._work, original_node, updated_node)

    def leave_AugAssign(self, original_node, updated_node):
        after = eager.port_increment(self._work, original_node, updated_node)
        return after or sums.port_increment(self._work, original_node, updated_node)

    def _check_call(self, call: cst.Call, name: str) -> None:
        """Reports a call that looks valid but has another meaning on tfreg."""
        if name == "tf.control_dependencies" and call.args:
            if totals.get_key(self._resolver, call.args[0].value) == "update_ops":
                self._work.leave(call, _UPDATES)
        elif name == "tf.Variable" and self._resolver.find_parent(
            call, cst.FunctionDef
        ):
            self._work.suspect(call, _VARIABLE)
        elif name == "tf.nn.dropout" and not self._is_v1(call.func):
            positional = len(call.args) > 1 and call.args[1].keyword is None
            if positional and call.func not in self._work.rewritten:
                self._work.suspect(call, _DROPOUT)
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
