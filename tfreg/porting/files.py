"""Reads the files to port, and writes the ported ones atomically.

    script = pathlib.Path("train_tf1.py")  # or a folder
    links = files.read_project(script)
    for path in files.list_files(script, out=None):
        source, result = files.port(path, links.link(path))

The trap: a declared encoding, or Windows line ends. Both are kept.
"""

import ast
import contextlib
import dataclasses
import os
import pathlib
import re
import stat
import subprocess
import tempfile
import tokenize
import warnings
from collections.abc import Iterator

import libcst as cst

from tfreg.porting import literals, project, python2, rewriting

# What Python 3 says of print x, of except X, e, of 0777, and of tabs beside blanks.
_PYTHON2 = re.compile(
    r"Missing parentheses in call|multiple exception types|leading zeros"
    r"|inconsistent use of tabs"
)


class FileError(Exception):
    """A file can't be ported or written; the message is one sentence."""


def list_files(path: pathlib.Path, out: pathlib.Path | None) -> Iterator[pathlib.Path]:
    """Yields a file, or a folder's Python files in order, without hidden folders.

    Args:
        path: a file or a folder.
        out: the output folder, which is left out if it is inside `path`; or None.

    Raises:
        FileError: a folder without Python files.
    """
    if not path.is_dir():
        yield path
        return
    is_empty = True
    for root, inner, files in os.walk(path):
        folder = pathlib.Path(root)
        inner[:] = sorted(
            name
            for name in inner
            if not name.startswith((".", "__pycache__"))
            and (out is None or out == path or not _is_same(folder / name, out))
        )
        for name in sorted(files):
            if name.endswith(".py"):
                is_empty = False
                yield folder / name
    if is_empty:
        raise FileError(f"{path} must hold .py files, got none: give another folder")


def _is_same(one: pathlib.Path, other: pathlib.Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def read(path: pathlib.Path) -> bytes:
    """Returns a file's content.

    Raises:
        FileError: the file doesn't exist, can't be read, or is a pipe or a device.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # Reading a pipe would wait.
            raise FileError(
                f"{path} must be a regular file, got another kind: leave it out"
            )
        return path.read_bytes()
    except OSError as error:
        raise FileError(
            f"{path} must be a readable file, got {error.strerror}: check the path"
        ) from None


def read_project(path: pathlib.Path, is_python2: bool = False) -> project.Project:
    """Returns the modules that may share names with a file, or with a folder's.

    Args:
        path: a file or a folder.
        is_python2: whether Python 2 is read as Python 3.
    """
    related = [*project.list_related(path), path]
    if path.is_dir():
        related = [*path.rglob("*.py")]
    sources = {}
    for file in sorted(set(related)):
        with contextlib.suppress(FileError):
            source = read(file)
            sources[file] = _convert(file, source) if is_python2 else source
    return project.Project(sources)


def port(
    path: pathlib.Path, links: project.Links, is_python2: bool = False
) -> tuple[bytes, rewriting.Result]:
    """Returns a file's source, and the result of rewriting it.

    Args:
        path: of the file.
        links: what it shares with other files.
        is_python2: whether Python 2 is made Python 3 first.

    Raises:
        FileError: the file doesn't exist, isn't text, or isn't Python 3.
    """
    source = read(path)
    modern = _convert(path, source) if is_python2 else source
    _check(path, modern)
    try:
        short, cut = literals.cut(modern)
        result = rewriting.rewrite(short, links)
        full = literals.restore(result.source, cut)
        return source, dataclasses.replace(result, source=full)
    except (cst.ParserSyntaxError, RecursionError) as error:
        raise FileError(
            f"{path} must be Python that libcst can read, got {type(error).__name__}: "
            "port it by hand"
        ) from None


def _convert(path: pathlib.Path, source: bytes) -> bytes:
    try:
        return python2.convert(source)
    except ModuleNotFoundError as error:
        raise FileError(
            f"{path} must be Python 3 where {error.name} isn't installed: "
            "python -m pip install 'tfreg[python2]'"
        ) from None
    except (SyntaxError, UnicodeDecodeError):
        return source  # The check tells what is wrong.
    except ValueError as error:
        raise FileError(
            f"{path} must be Python 2 or 3, got {error}: correct it first"
        ) from None


def _check(path: pathlib.Path, source: bytes) -> None:
    try:
        encoding, _ = tokenize.detect_encoding(iter(source.splitlines(True)).__next__)
        source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        place = f" at byte {error.start}" if hasattr(error, "start") else ""
        raise FileError(
            f"{path} must be UTF-8 or declare its encoding, got another one{place}: "
            "convert it"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        old = _PYTHON2.search(error.msg) is not None
        raise FileError(
            f"{path} must be Python 3, got {error.msg.split('. ')[0]!r} on line "
            f"{error.lineno}: {'add --python2' if old else 'correct it first'}"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise FileError(
            f"{path} must be Python, got {' '.join(str(error).split())}: correct it"
        ) from None


def is_committed(path: pathlib.Path) -> bool:
    """Returns whether a file is committed to git without changes."""
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
    """Writes a file atomically, with the permissions of another.

    Args:
        path: of the new file.
        source: its content.
        like: the file whose permissions it gets.

    Raises:
        FileError: the file can't be written.
    """
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            raise FileError(
                f"{place} must be a file or a folder, got a link to nothing: remove it"
            )
    path = path.resolve()  # Writes through a link instead of replacing it.
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
