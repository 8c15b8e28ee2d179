r"""The report of a port: what is left by file and kind, what imports, what to do next.

    path, source = pathlib.Path("net.py"), b"import tensorflow as tf\ntf.Session()\n"
    notes = report.Report(project.Project({path: source}))
    notes.add(path, rewriting.rewrite(source))
    print(notes.format())

The trap: a file without a line of its own to write may not be imported either, if it
imports one that can't be.
"""

import itertools
import json
import pathlib
import re
from collections import Counter
from collections.abc import Sequence

from tfreg.porting import project, rewriting
from tfreg.porting.work import Note

# Kinds of what is left, in the order in which to write them, and what their advice
# says. The order of the patterns is another: `delete` is the most certain.
_KINDS = (
    "delete",
    "name",
    "input",
    "variable",
    "tensor",
    "training",
    "session",
    "checkpoint",
    "summary",
)
_PATTERNS = [
    ("delete", r"leave it out|without it|then remove this"),
    ("summary", r"tf\.summary"),
    ("checkpoint", r"tf1\.(save|restore)|tf\.saved_model"),
    ("input", r"argument of the function|tf\.data|for x, y in dataset"),
    ("session", r"once a batch|that computes it|loop over the batches|loop by hand"),
    ("training", r"train_step|create_train_op|GradientTape|optimizer|tf\.keras\.metr"),
    ("tensor", r"eager|an? \w+ of your own"),
    (
        "variable",
        r"get_variable|variable_scope|net\.variables|tf1\.Model|Variable\w+\(",
    ),
    ("name", ""),
]


def find_kind(note: Note) -> str:
    """Returns the kind of work that a note asks for."""
    return next(kind for kind, text in _PATTERNS if re.search(text, note.text))


class Report:
    """What a port did, and what it left.

    Args:
        modules: the project that the files are in.
    """

    def __init__(self, modules: project.Project):
        self._modules = modules
        self._results: dict[pathlib.Path, rewriting.Result] = {}
        self._errors: dict[pathlib.Path, str] = {}

    def add(self, path: pathlib.Path, result: rewriting.Result) -> None:
        """Adds a file that was ported."""
        self._results[path] = result

    def add_error(self, path: pathlib.Path, sentence: str) -> None:
        """Adds a file that wasn't ported, and the reason."""
        self._errors[path] = sentence

    def is_done(self) -> bool:
        """Returns whether all files are ported, and nothing is left."""
        return not self._errors and not any(r.left for r in self._results.values())

    def find_obstacle(self, path: pathlib.Path) -> str | None:
        """Returns why a file can't be imported yet: a place, or None if it can."""
        waiting, seen = [path], {path}
        while waiting:
            file = waiting.pop(0)
            if file in self._errors:
                return str(file)
            result = self._results.get(file, rewriting.Result(b""))
            if lines := [n.line for n in result.left if n.fails_at_import]:
                return f"{file}:{min(lines)}"
            imported = set(self._modules.list_imported(file)) - seen
            waiting += sorted(imported)
            seen |= imported
        return None

    def find_next(self) -> tuple[pathlib.Path, Note] | None:
        """Returns what to write first: what most imports wait for, if any do."""
        users = Counter(
            imported
            for path in self._results
            for imported in self._modules.list_imported(path)
        )
        left = ((path, n) for path, r in self._results.items() for n in _sort(r.left))
        return min(
            left, key=lambda i: (not i[1].fails_at_import, -users[i[0]]), default=None
        )

    def _count_kinds(self) -> dict[str, int]:
        notes = (note for r in self._results.values() for note in r.left)
        found = Counter(find_kind(note) for note in notes)
        return {kind: found[kind] for kind in _KINDS if found[kind]}

    def format(self) -> str:
        """Returns the report as lines of text."""
        lines = [line for path in self._results for line in self._format_file(path)]
        if kinds := self._count_kinds():
            counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            lines.append(f"to write by hand, by kind: {counts}")
        if first := self.find_next():
            lines.append(f"next: {_format_note(*first)}")
        totals = self._sum()
        bad = f", {totals['not_ported']} not ported" if totals["not_ported"] else ""
        lines.append(
            f"files: {totals['read']} read, {totals['changed']} changed{bad}; places: "
            f"{totals['rewritten']} rewritten, {totals['left']} to write by hand"
        )
        return "\n".join(lines)

    def _format_file(self, path: pathlib.Path) -> list[str]:
        result, obstacle = self._results[path], self.find_obstacle(path)
        if obstacle is None and not result.left and not result.remarks:
            return []
        state = f"can't be imported before {obstacle} is written" if obstacle else ""
        lines = [f"{path}: {state or 'can be imported'}, {len(result.left)} to write"]
        lines += [_format_note(path, note) for note in result.remarks]
        groups = itertools.groupby(_sort(result.left), find_kind)
        for kind, notes in groups:
            members = [_format_note(path, note) for note in notes]
            lines += [f"  {kind}, {len(members)}:", *members]
        return lines

    def _sum(self) -> dict[str, int]:
        results = self._results.values()
        return {
            "read": len(results),
            "changed": sum(bool(result.changes) for result in results),
            "not_ported": len(self._errors),
            "rewritten": sum(len(result.changes) for result in results),
            "left": sum(len(result.left) for result in results),
        }

    def to_json(self) -> str:
        """Returns the report as JSON; docs/porting.md lists its fields."""
        files = [
            {
                "path": str(path),
                "obstacle": self.find_obstacle(path),
                "rewritten": len(result.changes),
                "remarks": [_describe(path, note) for note in result.remarks],
                "left": [_describe(path, note) for note in _sort(result.left)],
            }
            for path, result in self._results.items()
        ]
        errors = [{"path": str(p), "error": text} for p, text in self._errors.items()]
        first = self.find_next()
        content = {
            "files": files,
            "errors": errors,
            "kinds": self._count_kinds(),
            "next": first and _describe(*first),
            "totals": self._sum(),
        }
        return json.dumps(content, indent=2)


def _sort(notes: Sequence[Note]) -> list[Note]:
    return sorted(notes, key=lambda note: (_KINDS.index(find_kind(note)), note))


def _format_note(path: pathlib.Path, note: Note) -> str:
    return f"{path}:{note.line}: {note.name}: {note.text}"


def _describe(path: pathlib.Path, note: Note) -> dict[str, object]:
    return {
        "path": str(path),
        "line": note.line,
        "kind": find_kind(note),
        "name": note.name,
        "text": note.text,
        "fails_at_import": note.fails_at_import,
    }
