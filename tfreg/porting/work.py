"""The state of rewriting one file: its names, and notes for the report.

    note = work.Note(3, "tf.placeholder", "make it an argument of the function")
    print(f"train.py:{note.line}: {note.name}: {note.text}")

A change may be undone once the code around it is visited. So notes are listed last.
"""

import dataclasses

import libcst as cst

from tfreg.porting.resolution import Resolver


@dataclasses.dataclass(frozen=True, order=True)
class Note:
    """One line of the report.

    Attributes:
        line: number of the line in the source.
        name: the expression there.
        text: what it has become, or how to port it.
    """

    line: int
    name: str
    text: str


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
    """

    def __init__(self, resolver: Resolver, local: dict[str, str]):
        self.resolver = resolver
        self.local = local
        self.rewritten: set[cst.CSTNode] = set()
        self.dropped: set[cst.CSTNode] = set()
        self.values: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.kept: dict[cst.CSTNode, list[cst.Arg]] = {}
        self.totals: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.imports: list[cst.CSTNode] = []
        self._changes: dict[cst.CSTNode, Note] = {}
        self._remarks: set[Note] = set()
        self._left: set[Note] = set()
        self._maybe: set[Note] = set()

    def note_change(self, node: cst.CSTNode, text: str) -> None:
        """Notes that a node is rewritten."""
        line = self.resolver.get_line(node)
        self._changes[node] = Note(line, get_text(node), text)

    def remark(self, node: cst.CSTNode, text: str) -> None:
        """Notes a change that affects other code, too."""
        self._remarks.add(Note(self.resolver.get_line(node), get_text(node), text))

    def leave(self, node: cst.CSTNode, advice: str, name: str | None = None) -> None:
        """Notes that a node has to be ported by hand."""
        text = get_text(node) if name is None else name
        self._left.add(Note(self.resolver.get_line(node), text, advice))

    def forget(self, node: cst.CSTNode) -> None:
        """Removes the notes that a node has to be ported by hand."""
        text, line = get_text(node), self.resolver.get_line(node)
        self._left = {n for n in self._left if (n.line, n.name) != (line, text)}

    def suspect(self, node: cst.CSTNode, advice: str) -> None:
        """Notes that a node has to be ported by hand if the file is TF1 code."""
        self._maybe.add(Note(self.resolver.get_line(node), get_text(node), advice))

    def restore(self, node: cst.CSTNode) -> None:
        """Removes the note that a node is rewritten."""
        self.rewritten.discard(node)
        self._changes.pop(node, None)

    def list_notes(self) -> tuple[tuple[Note, ...], ...]:
        """Returns the changes, the remarks, and what is left to port by hand."""
        left = self._left
        if left or self._changes:
            left = left | self._maybe
        changes = self._changes.values()
        return tuple(sorted(changes)), tuple(sorted(self._remarks)), tuple(sorted(left))

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


def get_text(node) -> str:
    """Returns the source of an expression on one line, for a call without arguments."""
    if isinstance(node, cst.Call):
        return f"{get_text(node.func)}(...)"
    if isinstance(node, cst.BaseExpression):
        node = node.with_changes(lpar=(), rpar=())
    text = " ".join(cst.Module([]).code_for_node(node).split())
    return text if len(text) < 60 else f"{text[:57]}..."
