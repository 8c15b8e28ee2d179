"""The packages that import their names when they are first used (PEP 562)."""

import ast
import importlib
import pathlib

import pytest

import tfreg
from tfreg import runs

LAZY = pytest.mark.parametrize("package", [tfreg, runs], ids=lambda p: p.__name__)


def list_typed_names(package):
    """Returns name -> module, of what type checkers are shown."""
    tree = ast.parse(pathlib.Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    assert all(isinstance(node, ast.ImportFrom) for node in block.body)
    return {alias.name: node.module for node in block.body for alias in node.names}


@LAZY
def test_type_checkers_are_shown_the_names_that_there_are(package):
    shown = list_typed_names(package)
    assert sorted({*shown, "__version__"}) == sorted({*dir(package), "__version__"})
    for name, module in shown.items():
        value = getattr(package, name)
        there = importlib.import_module(module)
        assert getattr(there, name, None) is value or value.__name__.endswith(name)


@LAZY
def test_every_name_of_a_lazy_package_is_there(package):
    assert len(dir(package)) == len(set(dir(package))) > 10
    for name in dir(package):
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=f"'{package.__name__}' .* 'nosuch'"):
        package.nosuch  # noqa: B018


def test_the_table_of_places_is_what_type_checkers_are_shown():
    for name, module in list_typed_names(tfreg).items():
        assert tfreg._PLACES[name] in (module, f"{module}.{name}")
