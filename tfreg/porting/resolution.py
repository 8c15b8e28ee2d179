r"""Resolves the names in a source file by its imports and scopes.

    source = "import tf_slim as slim\nslim.conv2d(x, 8, 3)\n"
    wrapper = metadata.MetadataWrapper(cst.parse_module(source))
    call = wrapper.module.body[1].body[0].value
    resolution.Resolver(wrapper).resolve(call.func)  # contrib.conv2d

A parameter, or a name with different bindings, resolves to None.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import libcst as cst
from libcst import metadata

from tfreg.porting import names

PROVIDERS = (
    metadata.ExpressionContextProvider,
    metadata.ScopeProvider,
    metadata.PositionProvider,
    metadata.ParentNodeProvider,
)


NONE: Mapping[str, str] = {}
STAND_IN = "tfreg.porting.stand_ins.unported"


class Resolver:
    """Resolves the expressions of one file.

    Args:
        wrapper: of the parsed file.
        origins: names that come from other modules of the project -> their full names.
    """

    def __init__(
        self, wrapper: metadata.MetadataWrapper, origins: Mapping[str, str] = NONE
    ):
        self._origins = origins
        provided: Mapping[Any, Mapping[Any, Any]] = wrapper.resolve_many(PROVIDERS)
        self._scopes = provided[metadata.ScopeProvider]
        self._positions = provided[metadata.PositionProvider]
        self._parents = provided[metadata.ParentNodeProvider]
        contexts = provided[metadata.ExpressionContextProvider]
        load = metadata.ExpressionContext.LOAD
        self._reads: dict[tuple[metadata.Scope, str], list[cst.Name]] = {}
        for node, scope in self._scopes.items():
            if isinstance(node, cst.Name) and contexts.get(node) is load:
                self._reads.setdefault((scope, node.value), []).append(node)
        self._open: set[tuple[int, str]] = set()
        self._cache: dict[cst.CSTNode, str | None] = {}

    def get_line(self, node: cst.CSTNode) -> int:
        """Returns the line on which a node begins."""
        return self._positions[node].start.line

    def get_parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Returns the parent of a node, None for the module."""
        return self._parents.get(node)

    def find_parent(self, node: cst.CSTNode, *kinds: type) -> cst.CSTNode | None:
        """Returns the nearest ancestor of one of the kinds, or None."""
        parent = self.get_parent(node)
        while parent is not None and not isinstance(parent, kinds):
            parent = self.get_parent(parent)
        return parent

    def resolve(self, node: cst.CSTNode) -> str | None:
        """Returns the normal form of the name that an expression refers to, or None."""
        name = self.find_name(node)
        return name and names.normalize(name)

    def find_name(self, node: cst.CSTNode) -> str | None:
        """Returns the imported name, e.g. tensorflow.contrib.slim.conv2d, or None."""
        if node not in self._cache:
            self._cache[node] = self._find_name(node)
        return self._cache[node]

    def _find_name(self, node: cst.CSTNode) -> str | None:
        if isinstance(node, cst.Name):
            return self._resolve_name(node)
        if isinstance(node, cst.Attribute):
            origin = self._origins.get(get_dotted(node)) if self._origins else None
            if origin is not None and self._is_imported(get_first(node)):
                return origin
            base = self.find_name(node.value)
            return base and f"{base}.{node.attr.value}"
        if isinstance(node, cst.Call):
            function = self.find_name(node.func)
            if function == STAND_IN:
                return get_stand_in(node)
            return function and f"{function}()"
        return None

    def _is_imported(self, node: cst.CSTNode) -> bool:
        """Returns whether a name is bound by imports, if at all by an import *."""
        return isinstance(node, cst.Name) and all(
            isinstance(binding, metadata.ImportAssignment)
            for binding in self.find_bindings(node)
        )

    def _resolve_name(self, node: cst.Name) -> str | None:
        scope = self._scopes.get(node)
        if scope is None or (id(scope), node.value) in self._open:
            return None
        key = (id(scope), node.value)
        bindings = self.find_bindings(node)
        if not bindings:  # From an import *.
            return self._origins.get(node.value)
        self._open.add(key)
        try:
            bound = {self._resolve_binding(b) for b in bindings}
        finally:
            self._open.remove(key)
        same = len({name and names.normalize(name) for name in bound}) == 1
        return min(bound, key=str) if same else None

    def find_bindings(self, node: cst.Name) -> Sequence[metadata.BaseAssignment]:
        """Returns the bindings of a name."""
        scope = self._scopes.get(node)
        return list(scope[node.value]) if scope is not None else []

    def find_definitions(self, node: cst.Name) -> list[cst.CSTNode]:
        """Returns the nodes that bind a name, e.g. a FunctionDef."""
        bindings = self.find_bindings(node)
        return [b.node for b in bindings if hasattr(b, "node")]

    def _resolve_binding(self, binding: metadata.BaseAssignment) -> str | None:
        if isinstance(binding, metadata.ImportAssignment):
            origin = self._origins.get(binding.name)
            return origin or resolve_import(binding.node, binding.name)
        value = self.get_value(binding)
        return None if value is None else self.find_name(value)

    def get_value(self, binding: metadata.BaseAssignment) -> cst.CSTNode | None:
        """Returns the expression that a name is bound to, None if there is none."""
        target = getattr(binding, "node", None)
        if not isinstance(target, cst.Name):
            return None
        parent = self.get_parent(target)
        if isinstance(parent, cst.AsName):
            item = self.get_parent(parent)
            return item.item if isinstance(item, cst.WithItem) else None
        if isinstance(parent, cst.AnnAssign):
            return parent.value
        statement = self.get_parent(parent) if parent is not None else None
        plain = isinstance(parent, cst.AssignTarget)
        return statement.value if plain and isinstance(statement, cst.Assign) else None

    def find_value(self, node: cst.CSTNode) -> cst.CSTNode:
        """Returns the value of a name that is bound once, otherwise the node itself."""
        if isinstance(node, cst.Name):
            bindings = self.find_bindings(node)
            if len(bindings) == 1:
                value = self.get_value(bindings[0])
                alias = isinstance(
                    self.get_parent(getattr(bindings[0], "node", node)), cst.AsName
                )
                return node if value is None or alias else value
        return node

    def list_reads(self, scope: metadata.Scope, name: str) -> list[cst.Name]:
        """Returns the uses of a name in a scope, without those in inner scopes."""
        return self._reads.get((scope, name), [])

    def is_stand_in(self, node: cst.CSTNode) -> bool:
        """Returns whether an expression is a stand-in for a name."""
        return isinstance(node, cst.Call) and self.find_name(node.func) == STAND_IN

    def imports(self, *wanted: str) -> bool:
        """Returns whether the file imports any of some full names."""
        return any(name in wanted for _, name in self._list_imports())

    def find_alias(self, module: str) -> str | None:
        """Returns the global name under which the file imports a module, or None."""
        for binding, name in self._list_imports():
            if name == module and isinstance(binding.scope, metadata.GlobalScope):
                return binding.name
        return None

    def _list_imports(self) -> Iterator[tuple[metadata.ImportAssignment, str | None]]:
        """Yields what the imports of all scopes bind, and its full name."""
        for scope in self.list_scopes():
            for binding in scope.assignments:
                if isinstance(binding, metadata.ImportAssignment):
                    yield binding, resolve_import(binding.node, binding.name)

    def uses_v1(self) -> bool:
        """Returns whether a name of tensorflow.compat.v1 has been resolved."""
        return any("tensorflow.compat.v1" in (n or "") for n in self._cache.values())

    def list_names(self) -> Iterator[str]:
        """Yields the imported names in the file, e.g. tensorflow.contrib.slim."""
        for scope in self.list_scopes():
            for binding in scope.assignments:
                if isinstance(binding, metadata.ImportAssignment):
                    yield resolve_import(binding.node, binding.name) or ""
        for node in self._parents:
            if isinstance(node, cst.Attribute):
                yield self.find_name(node) or ""

    def list_uses(self, name: cst.Name) -> list[cst.CSTNode]:
        """Returns where a name that is bound here is read in the file."""
        return [
            use
            for binding in self.find_bindings(name)
            for use in (
                *self.list_reads(binding.scope, binding.name),
                *(access.node for access in binding.references),
            )
        ]

    def list_scopes(self) -> set[metadata.Scope]:
        """Returns the scopes of the file."""
        return {scope for scope in self._scopes.values() if scope is not None}


def resolve_import(node: cst.CSTNode | None, bound: str) -> str | None:
    """Returns the full name that an import binds to a name, or None.

    Args:
        node: an Import or ImportFrom.
        bound: the name, e.g. tf of `import tensorflow as tf`.
    """
    if isinstance(node, cst.Import):
        for alias in node.names:
            if alias.asname is None and f"{alias.evaluated_name}.".startswith(
                f"{bound}."
            ):
                return bound
            if alias.evaluated_alias == bound:
                return alias.evaluated_name
    if isinstance(node, cst.ImportFrom) and isinstance(node.names, Sequence):
        if node.relative or node.module is None:
            return None
        module = get_dotted(node.module)
        for alias in node.names:
            if (alias.evaluated_alias or alias.evaluated_name) == bound:
                return f"{module}.{alias.evaluated_name}"
    return None


def get_stand_in(call: cst.Call) -> str | None:
    """Returns the name that a stand-in is for, None for a call without it."""
    value = call.args[0].value if call.args else None
    return str(value.evaluated_value) if isinstance(value, cst.SimpleString) else None


def get_first(node: cst.CSTNode) -> cst.CSTNode:
    """Returns the first name of a dotted name."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return node


def get_dotted(node: cst.CSTNode) -> str:
    """Returns the text of a dotted name."""
    if isinstance(node, cst.Attribute):
        return f"{get_dotted(node.value)}.{node.attr.value}"
    return node.value if isinstance(node, cst.Name) else ""
