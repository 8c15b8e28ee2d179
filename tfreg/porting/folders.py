"""Ports a file, or all of a folder, and tells what is left to write by hand.

    status = folders.port_all(pathlib.Path("src"), pathlib.Path("ported"))

The trap: a tool that writes over work. Here a file that is there is written over only
where git holds it as it is.
"""

import difflib
import os
import pathlib
import re
import sys

from tfreg.porting import files, rewriting


def port_all(
    path: pathlib.Path,
    out: pathlib.Path | None = None,
    is_diff: bool = False,
    force: bool = False,
) -> int:
    """Ports a file, or a folder's Python files; tells of each on stderr.

    Args:
        path: of the file or the folder.
        out: file or folder to write to; None: a file's new source, or a folder's
            changes, go to stdout.
        is_diff: whether a file's changes go there, too.
        force: whether a file is written over that git doesn't hold as it is.

    Returns:
        The exit status: 1 where something is left to write by hand or a file can't be
        read or written, else 0.

    Raises:
        OSError: stdout can't be written.
    """
    report = _Report()
    try:
        for file in files.list_files(path, out):
            try:
                report.add(file, _port(file, path, out, is_diff, force))
            except files.FileError as error:
                report.add_error(str(error))
    except files.FileError as error:
        report.add_error(str(error))
    return report.close()


def _port(
    file: pathlib.Path,
    path: pathlib.Path,
    out: pathlib.Path | None,
    is_diff: bool,
    force: bool,
) -> rewriting.Result:
    """Ports one file of a path.

    Raises:
        files.FileError: it can't be ported or written.
    """
    source, result = files.port(file)
    if out is not None:
        target = out / file.relative_to(path)
        if not path.is_dir():
            target = out / file.name if out.is_dir() else out
        _write(file, target, result, force)
    elif is_diff or path.is_dir():
        sys.stdout.buffer.writelines(_format_diff(file, source, result))
    else:
        sys.stdout.buffer.write(result.source)
    return result


def _write(
    file: pathlib.Path,
    target: pathlib.Path,
    result: rewriting.Result,
    force: bool,
) -> None:
    """Writes a ported file, over another only where git holds that, or it is told to.

    Raises:
        files.FileError: it can't or mustn't be written.
    """
    if target.exists():
        if target.is_file() and target.read_bytes() == result.source:
            return
        # Not only an input: what was ported before may have been finished by hand.
        if not force and not files.is_committed(target):
            raise files.FileError(
                f"{target} must be committed to git to be written over, got changes "
                "or no repository: commit it, choose another --out, or add --force"
            )
    files.write(target, result.source, file)


def _format_diff(
    file: pathlib.Path, source: bytes, result: rewriting.Result
) -> list[bytes]:
    """Returns the lines of a unified diff."""
    # At \n alone, as the tools that apply it.
    before, after = (re.findall(rb".*\n|.+", text) for text in (source, result.source))
    heads = (b"a/" + os.fsencode(file), b"b/" + os.fsencode(file))
    lines = difflib.diff_bytes(difflib.unified_diff, before, after, *heads)
    missing = b"\n\\ No newline at end of file\n"
    return [line if line.endswith(b"\n") else line + missing for line in lines]


class _Report:
    """What is told of each file, on stderr, and at the end."""

    def __init__(self) -> None:
        self._files = self._changed = self._places = self._left = self._bad = 0

    def add(self, file: pathlib.Path, result: rewriting.Result) -> None:
        """Counts a file's changes, and tells what is to be written by hand."""
        self._files += 1
        self._changed += bool(result.changes)
        self._places += len(result.changes)
        self._left += len(result.left)
        for note in sorted([*result.told, *result.left]):
            print(f"{file}:{note.line}: {note.name}: {note.text}", file=sys.stderr)

    def add_error(self, sentence: str) -> None:
        """Tells of a file that wasn't ported."""
        self._bad += 1
        print(f"error: {sentence}", file=sys.stderr)

    def close(self) -> int:
        """Tells the sums, and returns the exit status."""
        bad = f", {self._bad} not ported" if self._bad else ""
        print(
            f"files: {self._files} read, {self._changed} changed{bad}; "
            f"places: {self._places} rewritten, {self._left} to write by hand",
            file=sys.stderr,
        )
        return 1 if self._left or self._bad else 0
