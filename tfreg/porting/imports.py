"""Removes the imports that nothing uses any more, and adds tfreg's.

    wrapper = cst.MetadataWrapper(cst.parse_module("import tensorflow as tf"))
    local = imports.choose_names(Resolver(wrapper))

The trap: the file may use the name tfreg or tf1 already. `local` has the names to use.
"""

from collections.abc import Collection, Sequence
from typing import Any

import libcst as cst
from libcst import matchers as m
from libcst import metadata

from tfreg.porting import names
from tfreg.porting.resolution import Resolver, get_first, resolve_import
from tfreg.porting.work import Work

_ALIAS = m.Assign(targets=[m.AssignTarget(target=m.Name())])
WANTED = {"tfreg": "tfreg", "tf1": "tfreg.tf1"}


def choose_names(resolver: Resolver) -> dict[str, str]:
    """Returns the names that tfreg and tf1 get in a file."""
    local = {}
    scopes = resolver.list_scopes()
    for name, full in WANTED.items():
        imported = taken = None
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


def finish(module: cst.Module, work: Work) -> cst.Module:
    """Returns a module with the right imports, and notes the changes.

    Args:
        module: rewritten, with its old imports.
        work: notes of the rewriting.
    """
    wrapper = metadata.MetadataWrapper(module)
    remover = _Remover(wrapper.module, Resolver(wrapper), work)
    return _add(wrapper.module.visit(remover), work.local)


def _is_contrib(name: str | None) -> bool:
    return name is not None and name.startswith(("contrib", "tf.contrib"))


def _is_old(name: str | None) -> bool:
    return name in names.TABLE or _is_contrib(name)


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
                if old and not self._is_used(target, target.value):
                    self._aliases.add(statement)
                    self._aliased.update(m.findall(statement.value, m.Name()))

    def _is_used(self, node: cst.CSTNode, name: str) -> bool:
        if (node, name) not in self._bindings:
            return True
        return any(
            get_first(use) not in self._aliased
            for binding in self._bindings[node, name]
            for use in self._list_uses(binding)
        )

    def _list_uses(self, binding: metadata.BaseAssignment) -> list[cst.CSTNode]:
        # libcst misses uses that come before the binding, as in a loop.
        reads = self._resolver.list_reads(binding.scope, binding.name)
        return [*reads, *(access.node for access in binding.references)]

    def _note(self, names_before: Sequence, kept: Sequence, is_left: bool) -> None:
        original = next(self._originals)
        if list(names_before) != list(kept):
            self._work.note_change(original, "without unused names")
        if is_left:
            self._work.leave(original, "remove it once nothing uses it")

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import):
        kept, is_left = [], False
        for alias in original_node.names:
            full = alias.evaluated_name
            old = _is_old(names.normalize(full))
            if not old or self._is_used(original_node, alias.evaluated_alias or full):
                kept.append(alias)
                is_left = is_left or _is_contrib(names.normalize(full))
            elif (
                alias.asname is None
                and full.startswith("tensorflow.")
                and self._tensorflow
            ):
                kept.append(alias.with_changes(name=cst.Name("tensorflow")))
        self._note(original_node.names, kept, is_left)
        return self._keep(original_node, updated_node, kept)

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ):
        if isinstance(original_node.names, cst.ImportStar):
            next(self._originals)
            return updated_node
        kept, is_left = [], False
        for alias in original_node.names:
            bound = alias.evaluated_alias or alias.evaluated_name
            full = resolve_import(original_node, bound)
            normal = full and names.normalize(full)
            if not _is_old(normal) or self._is_used(original_node, bound):
                kept.append(alias)
                is_left = is_left or _is_contrib(normal)
        self._note(original_node.names, kept, is_left)
        return self._keep(original_node, updated_node, kept)

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign):
        if original_node in self._aliases:
            return self._keep(original_node, updated_node, [])
        return updated_node

    def _keep(self, original, updated, kept: list):
        if kept == list(getattr(original, "names", [None])):
            return updated
        if kept:
            kept[-1] = kept[-1].with_changes(comma=original.names[-1].comma)
            return updated.with_changes(names=kept)
        line = self._resolver.get_parent(original)
        if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
            self._dropped.add(line)
            return updated
        return cst.RemoveFromParent() if _has_others(line) else cst.Pass()

    def leave_IndentedBlock(self, original_node, updated_node):
        return drop_statements(original_node, updated_node, self._dropped)

    def leave_Module(self, original_node, updated_node):
        return drop_statements(original_node, updated_node, self._dropped)


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
    if not lines:
        return module
    place = _find_place(module)
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
