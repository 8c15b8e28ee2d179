r"""Finds the names that a project's modules get from one another.

    ops, net = pathlib.Path("ops.py"), pathlib.Path("net.py")
    sources = {ops: b"import tensorflow as tf\n", net: b"from ops import *\n"}
    links = Project(sources).link(net)  # links.origins["tf"] is "tensorflow"

The trap: `from ops import *` brings in tf and slim, so the file that imports them must
keep them.
"""

import ast
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

# What these names mean where an import * comes from a module that can't be read.
_CONVENTIONS = {
    "tf": "tensorflow",
    "tensorflow": "tensorflow",
    "slim": "tensorflow.contrib.slim",
}


@dataclasses.dataclass(frozen=True)
class Links:
    """What a file shares with the other modules of its project.

    Attributes:
        origins: name or dotted name that comes from another module -> its full name.
        taken: names that other modules take from this one.
        names: what this one and all that import it, or that it imports, take from
            packages, by full names.
    """

    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where a name comes from: a module, a name in one, or a dotted local name."""

    module: str = ""
    level: int = 0
    name: str = ""
    local: str = ""


class _Module(ast.NodeVisitor):
    """The imports, aliases and uses of one module."""

    def __init__(self, tree: ast.Module):
        self.bound: dict[str, _Source | None] = {}
        self.dotted: dict[str, _Source] = {}  # import a.b, without as
        self.stars: list[_Source] = []
        self.all: list[str] | None = None
        self.used: set[str] = set()
        self._depth = 0
        self.visit(tree)

    def _bind(self, name: str, source: _Source | None) -> None:
        if self._depth == 0:
            self.bound[name] = source

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            source = _Source(alias.name)
            if alias.asname is None and "." in alias.name:
                self.dotted[alias.name] = source
                source = _Source(alias.name.partition(".")[0])
            self._bind(alias.asname or source.module, source)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            source = _Source(node.module or "", node.level, alias.name)
            if alias.name == "*":
                self.stars.append(source)
            else:
                self._bind(alias.asname or alias.name, source)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        target = node.targets[0]
        if isinstance(target, ast.Name):
            self._bind(target.id, _find_source(node.value))
            if target.id == "__all__":
                self.all = _list_texts(node.value)

    def _visit_inner(self, node) -> None:
        self._bind(getattr(node, "name", ""), None)
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _visit_inner
    visit_Lambda = _visit_inner

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.used.add(node.id)
        else:
            self.bound.setdefault(node.id, None)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if text := _get_dotted(node):
            self.used.add(text)
        self.generic_visit(node)


def _find_source(node: ast.AST) -> _Source | None:
    """Returns where an assigned value comes from: a name, or a stand-in for one."""
    match node:
        case ast.Call(ast.Name("unported"), [ast.Constant(str(text))]):
            return _Source(f"tensorflow{text.removeprefix('tf')}")
    local = _get_dotted(node)
    return _Source(local=local) if local else None


def _get_dotted(node: ast.AST) -> str:
    """Returns the text of a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _get_dotted(node.value)
        return base and f"{base}.{node.attr}"
    return ""


def _list_texts(node: ast.AST) -> list[str] | None:
    try:
        return [str(text) for text in ast.literal_eval(node)]
    except (ValueError, TypeError):
        return None


class Project:
    """The Python files of a folder, read when they are needed.

    Args:
        sources: path -> content.
    """

    def __init__(self, sources: Mapping[pathlib.Path, bytes]):
        self._sources = sources
        self._modules: dict[pathlib.Path, _Module] = {}
        self._by_name: dict[str, list[pathlib.Path]] = {}
        for path in sources:
            stem = path.parent.name if path.name == "__init__.py" else path.stem
            self._by_name.setdefault(stem, []).append(path)
        self._taken: dict[pathlib.Path, set[str]] = {path: set() for path in sources}
        self._names: dict[pathlib.Path, set[str]] = {}
        self._origins = {path: self._trace(path) for path in sources}
        self._join_names()

    def link(self, path: pathlib.Path) -> Links:
        """Returns what a file shares with the others; nothing for an unknown file."""
        taken = frozenset(self._taken.get(path, ()))
        names = frozenset(self._names.get(path, ()))
        return Links(self._origins.get(path, {}), taken, names)

    def list_imported(self, path: pathlib.Path) -> list[pathlib.Path]:
        """Returns the project's modules that a file imports as it is imported."""
        module = self._get(path)
        bound = filter(None, module.bound.values())
        sources = [*module.stars, *module.dotted.values(), *bound]
        found = {self._find_module(path, s) for s in sources if not s.local}
        return sorted(file for file in found if file is not None)

    def _get(self, path: pathlib.Path) -> _Module:
        if path not in self._modules:
            try:
                tree = ast.parse(self._sources[path])
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                tree = ast.Module([], [])  # The port itself reports it.
            self._modules[path] = _Module(tree)
        return self._modules[path]

    def _find(self, path: pathlib.Path, source: _Source) -> pathlib.Path | None:
        """Returns the file of a module, by the nearest folder that has it."""
        parts = [part for part in source.module.split(".") if part]
        if source.name not in ("", "*"):
            whole = _Source(".".join([*parts, source.name]), source.level)
            return self._find(path, whole)
        folders = list(path.parents)
        if source.level:
            folders = folders[source.level - 1 : source.level]
        for folder in folders:
            place = folder.joinpath(*parts)
            for file in (folder.joinpath(f"{place}.py"), place / "__init__.py"):
                if file in self._sources and file != path:
                    return file
        if source.level or not parts:
            return None
        # In another folder of the project, which a script puts on sys.path.
        found = [
            file
            for file in self._by_name.get(parts[-1], ())
            if file != path and _ends(file, parts)
        ]
        return min(found, key=lambda file: (len(file.parts), file), default=None)

    def _trace(self, path: pathlib.Path) -> dict[str, str]:
        """Returns the origins of a file's names, and notes what it takes."""
        module = self._get(path)
        for name in module.all or ():
            self._taken[path].add(name)
        bound = filter(None, module.bound.values())
        imported = (*module.stars, *bound)
        self._names[path] = {f"{s.module}.{s.name}".rstrip(".") for s in imported}
        origins = {}
        for text in module.used:
            name = self._follow(path, text, {path})
            if isinstance(name, str):
                self._names[path].add(name)
            first = module.bound.get(text.partition(".")[0])
            # The file's own imports of TensorFlow need no project.
            own = first and (first.local or self._find_module(path, first) is None)
            if any(text.startswith(f"{dotted}.") for dotted in module.dotted):
                own = False
            if isinstance(name, str) and not own:
                origins[text] = name
        return origins

    def _join_names(self) -> None:
        """Makes the names of files that import one another the same set."""
        for path in self._sources:
            for other in self.list_imported(path):
                mine, others = self._names[path], self._names[other]
                if mine is not others:
                    mine |= others
                    same = (p for p, names in self._names.items() if names is others)
                    self._names.update(dict.fromkeys(list(same), mine))

    def _find_module(self, path: pathlib.Path, source: _Source):
        whole = self._find(path, source)
        return whole or self._find(path, dataclasses.replace(source, name="*"))

    def _follow(self, path: pathlib.Path, text: str, seen: set):
        """Returns what a dotted name means: a full name, a module's path, or None."""
        module = self._get(path)
        for dotted, source in module.dotted.items():
            if text.startswith(f"{dotted}.") and (file := self._find(path, source)):
                return self._walk(file, text[len(dotted) + 1 :].split("."), seen)
        first, *rest = text.split(".")
        start = self._look_up(path, first, seen)
        if isinstance(start, pathlib.Path):
            return self._walk(start, rest, seen)
        return start and ".".join([start, *rest])

    def _walk(self, start: pathlib.Path, parts: Sequence[str], seen: set):
        value: pathlib.Path | str | None = start
        for index, part in enumerate(parts):
            if not isinstance(value, pathlib.Path):
                return value and ".".join([value, *parts[index:]])
            value = self._take(value, part, seen)
        return value

    def _take(self, path: pathlib.Path, name: str, seen: set):
        """Returns what a module's name means to another one, and notes the use."""
        if (path, name) in seen:
            return None
        self._taken[path].add(name)
        return self._look_up(path, name, seen | {(path, name)})

    def _look_up(self, path: pathlib.Path, name: str, seen: set):
        module = self._get(path)
        if name in module.bound:
            source = module.bound[name]
            if source is None:
                return None
            if source.local:
                alias = (path, source.local) in seen
                more = seen | {(path, source.local)}
                return None if alias else self._follow(path, source.local, more)
            if file := self._find(path, source):
                return file
            file = self._find(path, dataclasses.replace(source, name="*"))
            if file is not None:
                return self._take(file, source.name, seen)
            return None if source.level else _join(source)
        return self._look_up_star(path, module, name, seen)

    def _look_up_star(self, path, module: _Module, name: str, seen: set):
        unknown = False
        for source in reversed(module.stars):
            file = self._find(path, source)
            if file is None:
                unknown = True
            elif self._passes(file, name):
                value = self._take(file, name, seen)
                if value is not None:
                    return value
        return _CONVENTIONS.get(name) if unknown else None

    def _passes(self, path: pathlib.Path, name: str) -> bool:
        listed = self._get(path).all
        return not name.startswith("_") if listed is None else name in listed


def _ends(file: pathlib.Path, parts: Sequence[str]) -> bool:
    own = file.parent.parts if file.name == "__init__.py" else file.parts
    return [*own[-len(parts) : -1], own[-1].removesuffix(".py")] == list(parts)


def _join(source: _Source) -> str | None:
    """Returns a full name, None where it is none of TensorFlow's."""
    name = ".".join(filter(None, [source.module, source.name]))
    return name if name.partition(".")[0] in ("tensorflow", "tf_slim") else None


def list_related(path: pathlib.Path) -> Iterable[pathlib.Path]:
    """Yields the Python files that may share names with a single one."""
    folder = path.parent
    if not (folder / "__init__.py").exists():
        yield from folder.glob("*.py")
        return
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
    yield from folder.rglob("*.py")
