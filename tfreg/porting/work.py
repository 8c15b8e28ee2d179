"""What is found and noted while one file is rewritten.

    note = work.Note(3, "tf.placeholder", "make it an argument of the function")
    print(f"train.py:{note.line}: {note.name}: {note.text}")

A change may be taken back once what is around it has been seen: notes come last.
"""

import dataclasses

import libcst as cst

from tfreg.porting.resolution import Resolver


@dataclasses.dataclass(frozen=True, order=True)
class Note:
    """One thing to tell: a line, what stands there, what became of it or has to."""

    line: int
    name: str
    text: str


class Work:
    """One file's names, notes, and statements to drop.

    Attributes:
        found: what the expressions stand for.
        local: what tfreg and tf1 are called in the file.
        rewritten: the expressions that have a new name.
        dropped: statements that go.
        values: what was assigned, as it is to be written.
        kept: the arguments that stay of a call that takes fewer now.
        totals: the loss to which an expression adds all penalties.
        imports: the imports, in order.
    """

    def __init__(self, found: Resolver, local: dict[str, str]):
        self.found = found
        self.local = local
        self.rewritten: set[cst.CSTNode] = set()
        self.dropped: set[cst.CSTNode] = set()
        self.values: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.kept: dict[cst.CSTNode, list[cst.Arg]] = {}
        self.totals: dict[cst.CSTNode, cst.BaseExpression] = {}
        self.imports: list[cst.CSTNode] = []
        self._changes: dict[cst.CSTNode, Note] = {}
        self._told: set[Note] = set()
        self._left: set[Note] = set()
        self._maybe: set[Note] = set()

    def note_change(self, node: cst.CSTNode, text: str) -> None:
        """Notes that a node is written anew."""
        line = self.found.get_line(node)
        self._changes[node] = Note(line, get_text(node), text)

    def tell(self, node: cst.CSTNode, text: str) -> None:
        """Notes what has to be known of a change, for it is seen elsewhere, too."""
        self._told.add(Note(self.found.get_line(node), get_text(node), text))

    def leave(self, node: cst.CSTNode, advice: str, name: str | None = None) -> None:
        """Notes that a node is to be written by hand."""
        text = get_text(node) if name is None else name
        self._left.add(Note(self.found.get_line(node), text, advice))

    def forget(self, node: cst.CSTNode) -> None:
        """Forgets what was to be written by hand at a node."""
        text, line = get_text(node), self.found.get_line(node)
        self._left = {n for n in self._left if (n.line, n.name) != (line, text)}

    def suspect(self, node: cst.CSTNode, advice: str) -> None:
        """Notes a node that is to be written by hand if the file is TF1's at all."""
        self._maybe.add(Note(self.found.get_line(node), get_text(node), advice))

    def restore(self, node: cst.CSTNode) -> None:
        """Forgets that a node was written anew."""
        self.rewritten.discard(node)
        self._changes.pop(node, None)

    def list_notes(self) -> tuple[tuple[Note, ...], ...]:
        """Returns the changes, what has to be known of them, and what is left."""
        left = self._left
        if left or self._changes:
            left = left | self._maybe
        changes = self._changes.values()
        return tuple(sorted(changes)), tuple(sorted(self._told)), tuple(sorted(left))

    def rename(self, original, updated, target: str) -> cst.BaseExpression:
        """Returns a name of tfreg in the place of an expression.

        Args:
            original: the expression.
            updated: it, as it would be written otherwise; its parentheses stay.
            target: a dotted name that begins with tfreg or tf1.
        """
        held = getattr(original, "value", None)
        if isinstance(held, cst.Call):  # tf.get_default_graph() went with it.
            self.forget(held.func)
        first, *rest = target.split(".")
        node: cst.BaseExpression = cst.Name(self.local[first])
        for part in rest:
            node = cst.Attribute(node, cst.Name(part))
        self.rewritten.add(original)
        self.note_change(original, get_text(node))
        return node.with_changes(lpar=updated.lpar, rpar=updated.rpar)

    def put_under_v1(self, original, updated):
        """Returns a name with compat.v1 after TensorFlow's."""
        after = _insert(self.found, original, updated)
        if after is None:
            name = self.found.resolve(original)
            self.leave(original, f"write tf.compat.v1{(name or '')[2:]}")
            return updated
        self.rewritten.add(original)
        self.note_change(original, get_text(after))
        return after


def _insert(found: Resolver, original, updated):
    if not isinstance(original, cst.Attribute):
        return None
    if found.find_name(original.value) == "tensorflow":
        base = cst.Attribute(updated.value, cst.Name("compat"))
        base = cst.Attribute(base, cst.Name("v1"))
    else:
        base = _insert(found, original.value, updated.value)
    return base and updated.with_changes(value=base)


def get_text(node) -> str:
    """Returns an expression's source on one line, a call's without arguments."""
    if isinstance(node, cst.Call):
        return f"{get_text(node.func)}(...)"
    if isinstance(node, cst.BaseExpression):
        node = node.with_changes(lpar=(), rpar=())
    text = " ".join(cst.Module([]).code_for_node(node).split())
    return text if len(text) < 60 else f"{text[:57]}..."
