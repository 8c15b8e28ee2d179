"""The state of rewriting one file: its names, and notes for the report.

    note = work.Note(3, "tf.placeholder", "make it an argument of the function")
    print(f"train.py:{note.line}: {note.name}: {note.text}")

A change may be undone once the code around it is visited. So notes are listed last.
"""

import dataclasses
import re

import libcst as cst
from libcst import matchers as m

from tfreg.porting.resolution import STAND_IN, Resolver


@dataclasses.dataclass(frozen=True, order=True)
class Note:
    """One line of the report.

    Attributes:
        line: number of the line in the source.
        name: the expression there.
        text: what it has become, or how to port it.
        fails_at_import: whether the file can't be imported before it is ported.
    """

    line: int
    name: str
    text: str
    fails_at_import: bool = False


class Work:
    """The names and notes of one file, and the statements to drop.

    Attributes:
        resolver: resolves the expressions of the file.
        local: the names of tfreg and tf1 in the file.
        rewritten: the expressions that have a new name.
        dropped: the statements to remove.
        values: assigned expression -> the rewritten one.
        kept: call -> the arguments that it keeps.
        totals: expression that adds all penalties -> the loss that it adds them to.
        imports: the imports, in order.
        taken: the names that other modules take from this one.
        is_tf1: whether the file, or one that it shares imports with, is or was TF1's.
        gone: the expressions that are left out.
    """

    def __init__(
        self,
        resolver: Resolver,
        local: dict[str, str],
        taken: frozenset[str] = frozenset(),
        is_tf1: bool = False,
    ):
        self.resolver = resolver
        self.local = local
        self.taken = taken
        self.is_tf1 = is_tf1
        self.gone: set[cst.CSTNode] = set()
        self.rewritten: set[cst.CSTNode] = set()
        self.dropped: set[cst.CSTNode] = set()
        self.values: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.kept: dict[cst.CSTNode, list[cst.Arg]] = {}
        self.totals: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.imports: list[cst.CSTNode] = []
        self._changes: dict[cst.CSTNode, Note] = {}
        self._remarks: set[Note] = set()
        self._left: dict[tuple[cst.CSTNode, str], Note] = {}
        self._maybe: dict[tuple[cst.CSTNode, str], Note] = {}

    def note_change(self, node: cst.CSTNode, text: str) -> None:
        """Notes that a node is rewritten."""
        line = self.resolver.get_line(node)
        self._changes[node] = Note(line, get_text(node), text)

    def remark(self, node: cst.CSTNode, text: str, name: str | None = None) -> None:
        """Notes a change that affects other code, too."""
        name = get_text(node) if name is None else name
        self._remarks.add(Note(self.resolver.get_line(node), name, text))

    def leave(
        self,
        node: cst.CSTNode,
        advice: str,
        name: str | None = None,
        fails_at_import: bool = True,
    ) -> None:
        """Notes that a node has to be ported by hand.

        Args:
            node: it stays as it is.
            advice: how to port it.
            name: what it is called in the report; None: its text.
            fails_at_import: whether it raises where it is evaluated.
        """
        text = get_text(node) if name is None else name
        fails = fails_at_import and is_at_import(self.resolver, node)
        note = Note(self.resolver.get_line(node), text, advice, fails)
        self._left[node, text] = note

    def forget(self, node: cst.CSTNode) -> None:
        """Removes the notes that a node has to be ported by hand."""
        self._left = {key: n for key, n in self._left.items() if key[0] is not node}

    def suspect(self, node: cst.CSTNode, advice: str) -> None:
        """Notes that a node has to be ported by hand if the file is TF1 code."""
        text = get_text(node)
        note = Note(self.resolver.get_line(node), text, advice)
        self._maybe[node, text] = note

    def restore(self, node: cst.CSTNode) -> None:
        """Removes the note that a node is rewritten."""
        self.rewritten.discard(node)
        self._changes.pop(node, None)

    def list_notes(self) -> tuple[tuple[Note, ...], ...]:
        """Returns the changes, the remarks, and what is left to port by hand."""
        left = self._left
        ported = self.resolver.imports("tfreg.tf1", STAND_IN) or self.resolver.uses_v1()
        if left or self._changes or ported or self.is_tf1:
            left = left | self._maybe
        kept = {note for (node, _), note in left.items() if not self._is_gone(node)}
        changes = self._changes.values()
        return tuple(sorted(changes)), tuple(sorted(self._remarks)), tuple(sorted(kept))

    def _is_gone(self, node: cst.CSTNode | None) -> bool:
        while self.gone and node is not None:
            if node in self.gone:
                return True
            node = self.resolver.get_parent(node)
        return False

    def rename(self, original, updated, target: str) -> cst.BaseExpression:
        """Returns tfreg's name for an expression.

        Args:
            original: the expression.
            updated: the same with its parts rewritten; its parentheses are kept.
            target: a dotted name that begins with tfreg or tf1.
        """
        value = getattr(original, "value", None)
        if isinstance(value, cst.Call):  # tf.get_default_graph() is gone with it.
            self.forget(value.func)
        first, *rest = target.split(".")
        node: cst.BaseExpression = cst.Name(self.local[first])
        for part in rest:
            node = cst.Attribute(node, cst.Name(part))
        self.rewritten.add(original)
        self.note_change(original, get_text(node))
        return node.with_changes(lpar=updated.lpar, rpar=updated.rpar)

    def stand_in(self, original, updated, name: str) -> cst.BaseExpression:
        """Returns a stand-in for a name that TensorFlow 2 lacks.

        Args:
            original: the expression.
            updated: the same with its parts rewritten; its parentheses are kept.
            name: as imported, e.g. tensorflow.contrib.slim.
        """
        call = write_stand_in(self.local["unported"], name)
        self.rewritten.add(original)
        self.note_change(original, "a stand-in, which raises where it is used")
        return call.with_changes(lpar=updated.lpar, rpar=updated.rpar)

    def move(self, original, updated, target: str):
        """Returns another name of TensorFlow in place of one that is gone.

        Args:
            original: the expression.
            updated: the same with its parts rewritten.
            target: the new name in full, e.g. tf.subtract.
        """
        base, root = original, updated
        while isinstance(base, cst.Attribute):
            base, root = base.value, root.value
        node: cst.BaseExpression = root
        if self.resolver.find_name(base) != "tensorflow":
            alias = self.resolver.find_alias("tensorflow")
            if alias is None:
                name = self.resolver.resolve(original) or ""
                fails = not name.startswith("tf.python.")  # Private, and still there.
                self.leave(original, f"write {target}", fails_at_import=fails)
                return updated
            node = cst.Name(alias)
        for part in target.split(".")[1:]:
            node = cst.Attribute(node, cst.Name(part))
        self.rewritten.add(original)
        self.note_change(original, get_text(node))
        return node.with_changes(lpar=updated.lpar, rpar=updated.rpar)

    def put_under_v1(self, original, updated):
        """Returns a name of TensorFlow with compat.v1 inserted."""
        after = _insert(self.resolver, original, updated)
        if after is None:
            name = self.resolver.resolve(original)
            self.leave(original, f"write tf.compat.v1{(name or '')[2:]}")
            return updated
        self.rewritten.add(original)
        self.note_change(original, get_text(after))
        return after


def _insert(resolver: Resolver, original, updated):
    if not isinstance(original, cst.Attribute):
        return None
    if resolver.find_name(original.value) == "tensorflow":
        base = cst.Attribute(updated.value, cst.Name("compat"))
        base = cst.Attribute(base, cst.Name("v1"))
    else:
        base = _insert(resolver, original.value, updated.value)
    return base and updated.with_changes(value=base)


def write_stand_in(function: str, name: str) -> cst.Call:
    """Returns the code of a stand-in, e.g. unported("tf.contrib.slim")."""
    text = shorten(name)
    return cst.Call(cst.Name(function), [cst.Arg(cst.SimpleString(f'"{text}"'))])


def shorten(name: str) -> str:
    """Returns a name as a stand-in has it: tf for tensorflow, slim for tf_slim."""
    name = re.sub(r"^tensorflow(\.compat\.v1)?(?=\.|$)", "tf", name)
    return re.sub(r"^tf_slim\b", "tf.contrib.slim", name)


def is_at_import(resolver: Resolver, node: cst.CSTNode) -> bool:
    """Returns whether an expression is evaluated when its file is imported."""
    while (parent := resolver.get_parent(node)) is not None:
        if isinstance(parent, cst.Lambda):
            return False
        if isinstance(parent, cst.FunctionDef) and node is parent.body:
            return False
        if isinstance(parent, cst.If) and m.findall(parent.test, m.Name("__name__")):
            return False
        node = parent
    return True


def get_text(node) -> str:
    """Returns the source of an expression on one line, for a call without arguments."""
    if isinstance(node, cst.Call):
        return f"{get_text(node.func)}(...)"
    if isinstance(node, cst.BaseExpression):
        node = node.with_changes(lpar=(), rpar=())
    text = " ".join(cst.Module([]).code_for_node(node).split())
    return text if len(text) < 60 else f"{text[:57]}..."
