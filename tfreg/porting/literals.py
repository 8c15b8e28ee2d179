"""Takes large tables of constants out of a source, which take long to parse.

    source = b"table = [%s]" % (b"0, " * 100_000)
    short, cut = literals.cut(source)  # short: a mark; cut: the list
    assert source == literals.restore(short, cut)

The trap: line numbers of what follows. A mark has the line ends of what it stands for.
"""

import ast
from collections.abc import Sequence

_LARGE = 50_000  # bytes; smaller files hold no large table
_PLAIN = (
    *(ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict),
    *(ast.UnaryOp, ast.unaryop, ast.expr_context),
)
_MARK = b"(0x7F0E10C0DE%06X)"


def cut(source: bytes) -> tuple[bytes, list[bytes]]:
    """Returns a source with a mark for each large literal, and these literals.

    Args:
        source: Python in UTF-8; anything else is returned as it is.
    """
    if len(source) < _LARGE or source.startswith(b"\xef\xbb\xbf"):
        return source, []
    try:
        source.decode("utf-8")
        tree = ast.parse(source)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return source, []
    starts = [0]
    for line in source.splitlines(True):
        starts.append(starts[-1] + len(line))
    short: list[bytes] = []
    cut: list[bytes] = []
    end = 0
    for node in _find_large(tree):
        first = starts[node.lineno - 1] + node.col_offset
        last = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        mark = _MARK % len(cut)
        lines = source[first:last].count(b"\n")  # Lines keep their numbers.
        short += [source[end:first], mark[:-1], b"\n" * lines, mark[-1:]]
        cut.append(source[first:last])
        end = last
    return b"".join([*short, source[end:]]), cut


def restore(source: bytes, cut: Sequence[bytes]) -> bytes:
    """Returns a source with its literals back in place of the marks."""
    for index, literal in enumerate(cut):
        mark = _MARK % index
        lines = literal.count(b"\n")
        source = source.replace(mark[:-1] + b"\n" * lines + mark[-1:], literal)
    return source


def _find_large(tree: ast.Module) -> list[ast.expr]:
    """Returns the lists, sets and dicts of many constants, nested or not, in order."""
    large: list[ast.expr] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.List | ast.Set | ast.Dict) and _is_large(node):
            large.append(node)
            continue
        waiting.extend(ast.iter_child_nodes(node))
    return sorted(large, key=lambda node: (node.lineno, node.col_offset))


def _is_large(node: ast.expr) -> bool:
    """Returns whether a literal has many constants, and nothing else."""
    count = 0
    waiting: list[ast.AST] = [node]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, _PLAIN):
            return False
        count += isinstance(part, ast.Constant)
        waiting += ast.iter_child_nodes(part)
    return count > 1000
