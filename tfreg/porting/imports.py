"""Removes the imports that nothing uses any more, and adds tfreg's.

    wrapper = cst.MetadataWrapper(cst.parse_module("import tensorflow as tf"))
    local = imports.choose_names(Resolver(wrapper))

The trap: the file may use the name tfreg or tf1 already. `local` has the names to use.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import libcst as cst
from libcst import matchers as m
from libcst import metadata

from tfreg.porting import names, renamed, tensorflow2
from tfreg.porting.resolution import STAND_IN, Resolver, get_first, resolve_import
from tfreg.porting.work import Work, shorten, write_stand_in

_ALIAS = m.Assign(targets=[m.AssignTarget(target=m.Name())])
WANTED = {
    "tfreg": "tfreg",
    "tf1": "tfreg.tf1",
    "unported": STAND_IN,
}
_STAY = "write what is used of it in TensorFlow 2, then remove this"
SHARED = "other modules import it from here: remove it once none does"


def choose_names(resolver: Resolver, starred: Collection[str] = ()) -> dict[str, str]:
    """Returns the names that tfreg's modules get in a file.

    Args:
        resolver: of the file.
        starred: the names that other modules' import * may bind.
    """
    local = {}
    scopes = resolver.list_scopes()
    for name, full in WANTED.items():
        imported: str | None = None
        taken: object = name if name in starred else None
        for scope in scopes:
            for binding in scope.assignments:
                node = getattr(binding, "node", None)
                is_import = isinstance(binding, metadata.ImportAssignment)
                if is_import and resolve_import(node, binding.name) == full:
                    if isinstance(scope, metadata.GlobalScope):
                        imported = binding.name
                elif binding.name == name:
                    taken = binding
        other = "tfreg_" if name == "tfreg" else f"tfreg_{name}"
        local[name] = imported or (name if taken is None else other)
    return local


def drop_statements(original, updated, dropped: Collection[cst.CSTNode]):
    """Returns a block without some of its statements, but with their comments.

    Args:
        original: a Module or IndentedBlock.
        updated: the same block, with the same number of statements.
        dropped: statements of `original`.
    """
    if not any(statement in dropped for statement in original.body):
        return updated
    kept: list = []
    waiting: list[cst.EmptyLine] = []
    for before, after in zip(original.body, updated.body, strict=True):
        if before not in dropped:
            if waiting:
                blank = any(line.comment is None for line in after.leading_lines)
                lines = [line for line in waiting if line.comment or not blank]
                lines = [*lines, *after.leading_lines]
                after = after.with_changes(leading_lines=lines)
                waiting = []
            kept.append(after)
            continue
        waiting.extend(after.leading_lines)
        if (comment := after.trailing_whitespace.comment) is not None:
            waiting.append(cst.EmptyLine(comment=comment))
    if not kept and isinstance(original, cst.IndentedBlock):
        kept = [cst.SimpleStatementLine([cst.Pass()], leading_lines=waiting)]
        waiting = []
    waiting = [line for line in waiting if line.comment]
    return updated.with_changes(body=kept, footer=[*waiting, *updated.footer])


def finish(module: cst.Module, work: Work, origins: Mapping[str, str]) -> cst.Module:
    """Returns a module with the right imports, and notes the changes.

    Args:
        module: rewritten, with its old imports.
        work: notes of the rewriting.
        origins: the names that come from other modules.
    """
    wrapper = metadata.MetadataWrapper(module)
    remover = _Remover(wrapper.module, Resolver(wrapper, origins), work)
    return _add(wrapper.module.visit(remover), work.local)


def _is_contrib(name: str | None) -> bool:
    return name is not None and name.startswith(("contrib", "tf.contrib"))


def _is_old(name: str | None) -> bool:
    return name in names.TABLE or _is_contrib(name) or name == STAND_IN


def _is_gone(full: str | None) -> bool:
    """Returns whether importing a name fails in TensorFlow 2."""
    if full is None or full.startswith("tensorflow.compat.v1."):
        return "contrib" in (full or "")
    if full.split(".")[:2] == ["tensorflow", "python"]:
        return False  # Most private modules are still there: only their uses are told.
    return full.partition(".")[0] in ("tensorflow", "tf_slim") and (
        tensorflow2.lacks(re.sub("^tensorflow", "tf", full)) is not None
        or full.startswith("tf_slim")
    )


class _Remover(cst.CSTTransformer):
    """Removes the imports and aliases of contrib that nothing uses."""

    def __init__(self, module: cst.Module, resolver: Resolver, work: Work):
        super().__init__()
        self._resolver = resolver
        self._work = work
        # The import statements before the rewriting, in the same order.
        self._originals = iter(work.imports)
        self._dropped: set[cst.CSTNode] = set()
        self._bindings: dict[Any, list[metadata.BaseAssignment]] = {}
        for scope in resolver.list_scopes():
            for binding in scope.assignments:
                key = (getattr(binding, "node", None), binding.name)
                self._bindings.setdefault(key, []).append(binding)
        self._aliases: set[cst.CSTNode] = set()
        self._aliased: set[cst.CSTNode] = set()  # The names in unused aliases.
        self._find_aliases(m.findall(module, _ALIAS))
        self._tensorflow = any(
            self._is_used(node, name)
            for node, name in self._bindings
            if name == "tensorflow"
        )

    def _find_aliases(self, assigned: Sequence[Any]) -> None:
        """Finds the aliases that nothing uses except other unused aliases."""
        before = -1
        while before < len(self._aliases):
            before = len(self._aliases)
            for statement in assigned:
                name = self._resolver.resolve(statement.value)
                target = statement.targets[0].target
                old = name in names.MODULES and _is_contrib(name)
                stand_in = self._resolver.is_stand_in(statement.value)
                if (old or stand_in) and not self._is_used(target, target.value):
                    self._aliases.add(statement)
                    self._aliased.update(m.findall(statement.value, m.Name()))

    def _is_used(self, node: cst.CSTNode, name: str) -> bool:
        if (node, name) not in self._bindings or self._is_shared(name):
            return True
        return self._is_read(node, name)

    def _is_shared(self, name: str) -> bool:
        return name in self._work.taken

    def _is_read(self, node: cst.CSTNode, name: str) -> bool:
        return any(
            get_first(use) not in self._aliased
            for binding in self._bindings.get((node, name), ())
            for use in self._list_uses(binding)
        )

    def _list_uses(self, binding: metadata.BaseAssignment) -> list[cst.CSTNode]:
        # libcst misses uses that come before the binding, as in a loop.
        reads = self._resolver.list_reads(binding.scope, binding.name)
        return [*reads, *(access.node for access in binding.references)]

    def _note(self, original, before: Sequence, kept: Sequence) -> None:
        if list(before) != list(kept):
            self._work.note_change(original, "without unused names")

    def _replace(self, node, original, bound: str, full: str) -> cst.Assign:
        """Returns a stand-in for an import that fails in TensorFlow 2."""
        name = shorten(full)
        if self._is_read(node, bound):
            self._work.leave(original, _STAY, name, fails_at_import=False)
        else:
            self._work.remark(original, SHARED, name)
        call = write_stand_in(self._work.local["unported"], full)
        return cst.Assign([cst.AssignTarget(cst.Name(bound))], call)

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import):
        original = next(self._originals)
        kept, added = [], []
        for alias in original_node.names:
            full = alias.evaluated_name
            bound = alias.evaluated_alias or full
            normal = names.normalize(full)
            used = self._is_used(original_node, bound)
            gone = _is_gone(full)
            if not (_is_old(normal) or gone) or (used and not gone):
                kept.append(alias)
            elif used and "." not in bound:
                added.append(self._replace(original_node, original, bound, full))
            elif alias.asname is None and (
                full.startswith("tensorflow.") and (used or self._tensorflow)
            ):
                kept.append(alias.with_changes(name=cst.Name("tensorflow")))
            elif used:
                kept.append(alias)
                self._work.leave(original, _STAY)
        self._note(original, original_node.names, kept)
        return self._keep(original_node, updated_node, kept, added)

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ):
        original = next(self._originals)
        if isinstance(original_node.names, cst.ImportStar):
            return updated_node
        kept, added, moved = [], [], []
        for alias in original_node.names:
            bound = alias.evaluated_alias or alias.evaluated_name
            full = resolve_import(original_node, bound)
            normal = full and names.normalize(full)
            gone = _is_gone(full)
            if not (_is_old(normal) or gone):
                kept.append(alias)
            elif not self._is_used(original_node, bound):
                continue
            elif not gone:
                kept.append(alias)
            elif is_moved(original_node, alias):
                moved.append(alias.with_changes(comma=cst.MaybeSentinel.DEFAULT))
            else:
                full = full or ""
                added.append(self._replace(original_node, original, bound, full))
        self._note(original, original_node.names, kept)
        if moved:
            module = cst.parse_expression("tensorflow.compat.v1")
            added.insert(0, cst.ImportFrom(module, moved))  # type: ignore[arg-type]
        return self._keep(original_node, updated_node, kept, added)

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign):
        if original_node in self._aliases:
            return self._keep(original_node, updated_node, [], [])
        return updated_node

    def _keep(self, original, updated, kept: list, added: list):
        if kept == list(getattr(original, "names", [None])):
            return updated
        if kept:
            kept[-1] = kept[-1].with_changes(comma=original.names[-1].comma)
            updated = updated.with_changes(names=kept)
            return cst.FlattenSentinel([updated, *added]) if added else updated
        if added:
            added[-1] = added[-1].with_changes(semicolon=updated.semicolon)
            return cst.FlattenSentinel(added)
        line = self._resolver.get_parent(original)
        if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
            self._dropped.add(line)
            return updated
        return cst.RemoveFromParent() if _has_others(line) else cst.Pass()

    def leave_IndentedBlock(self, original_node, updated_node):
        return drop_statements(original_node, updated_node, self._dropped)

    def leave_Module(self, original_node, updated_node):
        return drop_statements(original_node, updated_node, self._dropped)


def is_moved(statement: cst.ImportFrom, alias: cst.ImportAlias) -> bool:
    """Returns whether `from tensorflow import` has to be from tensorflow.compat.v1."""
    name = f"tf.{alias.evaluated_name}"
    return name in renamed.NAMES and m.matches(
        statement, m.ImportFrom(module=m.Name("tensorflow"), relative=[])
    )


def _has_others(line) -> bool:
    return False if line is None else len(getattr(line, "body", ())) > 1


def _add(module: cst.Module, local: dict[str, str]) -> cst.Module:
    collector = _Names()
    module.visit(collector)
    used = collector.used
    imported = {
        resolve_import(part, bound)
        for line in module.body
        if isinstance(line, cst.SimpleStatementLine)
        for part in line.body
        if isinstance(part, cst.Import | cst.ImportFrom)
        for bound in local.values()
    }
    lines = []
    if local["tfreg"] in used and "tfreg" not in imported:
        alias = "" if local["tfreg"] == "tfreg" else f" as {local['tfreg']}"
        lines.append(f"import tfreg{alias}")
    if local["tf1"] in used and "tfreg.tf1" not in imported:
        alias = "" if local["tf1"] == "tf1" else f" as {local['tf1']}"
        lines.append(f"from tfreg import tf1{alias}")
    early = []
    if local["unported"] in used and STAND_IN not in imported:
        alias = "" if local["unported"] == "unported" else f" as {local['unported']}"
        module_name, _, function = STAND_IN.rpartition(".")
        early.append(f"from {module_name} import {function}{alias}")
    module = _insert(module, early, _find_early_place(module))
    return _insert(module, lines, _find_place(module))


def _insert(module: cst.Module, lines: list[str], place: int) -> cst.Module:
    config = module.config_for_parsing
    new = [cst.parse_statement(line, config=config) for line in lines]
    body = [*module.body[:place], *new, *module.body[place:]]
    return module.with_changes(body=body)


class _Names(cst.CSTVisitor):
    """Collects the names used outside imports."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return False

    def visit_Name(self, node: cst.Name) -> None:
        self.used.add(node.value)


def _find_early_place(module: cst.Module) -> int:
    """Returns the index for an import that others need: the first one possible."""
    place = 0
    for index, statement in enumerate(module.body):
        future = m.SimpleStatementLine(
            body=[m.ImportFrom(module=m.Name("__future__")), m.ZeroOrMore()]
        )
        docstring = m.SimpleStatementLine(
            body=[m.Expr(m.SimpleString() | m.ConcatenatedString()), m.ZeroOrMore()]
        )
        if not m.matches(statement, future) and not (
            index == 0 and m.matches(statement, docstring)
        ):
            break
        place = index + 1
    return place


def _find_place(module: cst.Module) -> int:
    """Returns the index for new imports: after the first ones, or the docstring."""
    place = 0
    for index, statement in enumerate(module.body):
        if not isinstance(statement, cst.SimpleStatementLine):
            break
        small = statement.body
        docstring = index == 0 and m.matches(
            small[0], m.Expr(m.SimpleString() | m.ConcatenatedString())
        )
        if not docstring and not all(
            isinstance(part, cst.Import | cst.ImportFrom) for part in small
        ):
            break
        place = index + 1
    return place
