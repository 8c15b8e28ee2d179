"""Rewrites Python 2 as Python 3, by fissix, the heir of lib2to3.

    python2.convert(b"print 'a', xrange(3)")  # b"print('a', range(3))"

The trap: `print (a, b)` is valid Python 3, and prints a tuple. A file that Python 3 can
parse is rewritten only where it uses a name that Python 3 lacks.
"""

import ast
import functools
import io
import re
import tokenize
import warnings

_OLD_NAMES = re.compile(
    rb"\b(xrange|iteritems|iterkeys|itervalues|has_key|raw_input|basestring|unicode)\b"
)
# The module of a script's own folder is imported by its name in Python 3, too.
_LEFT = {"fissix.fixes.fix_import"}


def convert(source: bytes) -> bytes:
    """Returns a source as Python 3; Python 3 as it is.

    Args:
        source: Python in the encoding that it declares.

    Raises:
        ModuleNotFoundError: fissix isn't installed.
        ValueError: neither Python 2 nor 3.
    """
    if is_python3(source) and not _OLD_NAMES.search(source):
        return source
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    text = source.decode(encoding).replace("\r\n", "\n")
    # Python 2 took a tab for 8 columns; Python 3 refuses it beside blanks.
    text = re.sub(r"^[ \t]+", lambda m: m[0].expandtabs(), text, flags=re.M)
    return _convert(text if text.endswith("\n") else f"{text}\n").encode(encoding)


def is_python3(source: bytes) -> bool:
    """Returns whether Python 3 can parse a source."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


@functools.cache
def _convert(text: str) -> str:
    from fissix import refactor
    from fissix.pgen2 import parse
    from fissix.pgen2 import tokenize as tokens

    fixers = refactor.get_fixers_from_package("fissix.fixes")
    tool = refactor.RefactoringTool([name for name in fixers if name not in _LEFT])
    try:
        return str(tool.refactor_string(text, "source"))
    except (parse.ParseError, tokens.TokenError, SyntaxError) as error:
        raise ValueError(" ".join(str(error).split())) from None
