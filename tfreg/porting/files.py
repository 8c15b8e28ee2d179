"""Reads the sources to port and writes what became of them, whole or not at all.

    for path in files.list_files(pathlib.Path(__file__), out=None):  # or of a folder
        source, result = files.port(path)

The trap: a file that declares its encoding, or has other line ends. Both stay.
"""

import ast
import os
import pathlib
import subprocess
import tempfile
import tokenize
import warnings
from collections.abc import Iterator

import libcst as cst

from tfreg.porting import rewriting


class FileError(Exception):
    """A file that can't be ported or written, as a sentence."""


def list_files(path: pathlib.Path, out: pathlib.Path | None) -> Iterator[pathlib.Path]:
    """Yields a file, or a folder's Python files in order; hidden folders are left out.

    Args:
        path: of a file or a folder.
        out: a folder that may lie in it and holds what was ported before.

    Raises:
        FileError: there is nothing, or no Python.
    """
    if not path.is_dir():
        yield path
        return
    found = False
    for folder, inner, files in os.walk(path):
        here = pathlib.Path(folder)
        inner[:] = sorted(
            name
            for name in inner
            if not name.startswith((".", "__pycache__"))
            and (out is None or out == path or not _is_same(here / name, out))
        )
        for name in sorted(files):
            if name.endswith(".py"):
                found = True
                yield here / name
    if not found:
        raise FileError(f"{path} must hold .py files, got none: give another folder")


def _is_same(one: pathlib.Path, other: pathlib.Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def port(path: pathlib.Path) -> tuple[bytes, rewriting.Result]:
    """Returns a file's source, and what is to stand in its place.

    Raises:
        FileError: it isn't there, isn't text, or isn't Python 3.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise FileError(
            f"{path} must be a readable file, got {error.strerror}: check the path"
        ) from None
    _check(path, source)
    try:
        return source, rewriting.rewrite(source)
    except (cst.ParserSyntaxError, RecursionError) as error:
        raise FileError(
            f"{path} must be Python that libcst can read, got {type(error).__name__}: "
            "port it by hand"
        ) from None


def _check(path: pathlib.Path, source: bytes) -> None:
    try:
        encoding, _ = tokenize.detect_encoding(iter(source.splitlines(True)).__next__)
        source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        where = f" at byte {error.start}" if hasattr(error, "start") else ""
        raise FileError(
            f"{path} must be UTF-8 or declare its encoding, got another one{where}: "
            "convert it"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        old = "Missing parentheses in call to" in error.msg
        raise FileError(
            f"{path} must be Python 3, got {error.msg.split('. ')[0]!r} on line "
            f"{error.lineno}: {'run 2to3 first' if old else 'correct it first'}"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise FileError(
            f"{path} must be Python, got {' '.join(str(error).split())}: correct it"
        ) from None


def is_committed(path: pathlib.Path) -> bool:
    """Returns whether git holds exactly what a file holds."""
    try:
        folder = path.resolve().parent
        name = f"./{path.resolve().name}"
        for command in (
            ["ls-files", "--error-unmatch", "--", name],
            ["diff", "--quiet", "HEAD", "--", name],
        ):
            subprocess.run(
                ["git", *command], cwd=folder, check=True, capture_output=True
            )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def write(path: pathlib.Path, source: bytes, like: pathlib.Path) -> None:
    """Writes a file with the permissions of another, whole or not at all.

    Raises:
        FileError: it can't be written.
    """
    path = path.resolve()  # Through a link, not in its place.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(source)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, like.stat().st_mode & 0o777)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise FileError(
            f"{path} must be writable, got {error.strerror}: choose another --out"
        ) from None
