"""Ports a file or a folder, and reports what is left to write by hand.

    status = folders.port_all(pathlib.Path("src"), pathlib.Path("ported"))

The trap: a tool that overwrites your work. An existing file is overwritten only if it
is committed to git without changes.
"""

import difflib
import os
import pathlib
import re
import sys

from tfreg.porting import files, project, rewriting


def port_all(
    path: pathlib.Path,
    out: pathlib.Path | None = None,
    is_diff: bool = False,
    force: bool = False,
) -> int:
    """Ports a file, or a folder's Python files, and reports on stderr.

    Args:
        path: a file or a folder.
        out: file or folder to write to; None: print a file's new source, or a folder's
            changes, to stdout.
        is_diff: whether to print a file's changes, too, instead of its new source.
        force: whether to overwrite files that aren't committed to git.

    Returns:
        The exit status: 1 if something is left to write by hand or a file can't be
        read or written, else 0.

    Raises:
        OSError: stdout can't be written.
    """
    report = _Report()
    try:
        modules = files.read_project(path)
        for file in files.list_files(path, out):
            try:
                links = modules.link(file)
                report.add(file, _port(file, links, path, out, is_diff, force))
            except files.FileError as error:
                report.add_error(str(error))
    except files.FileError as error:
        report.add_error(str(error))
    return report.close()


def _port(
    file: pathlib.Path,
    links: project.Links,
    path: pathlib.Path,
    out: pathlib.Path | None,
    is_diff: bool,
    force: bool,
) -> rewriting.Result:
    """Ports one file of a path.

    Raises:
        files.FileError: the file can't be ported or written.
    """
    source, result = files.port(file, links)
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
    """Writes a ported file; overwrites one only if it is committed to git, or forced.

    Raises:
        files.FileError: the file can't be written, or would be overwritten.
    """
    if target.exists():
        if target.is_file() and target.read_bytes() == result.source:
            return
        # Not only the input: an earlier port may have been finished by hand.
        if not force and not files.is_committed(target):
            raise files.FileError(
                f"{target} must be committed to git to be overwritten, got changes or "
                "no repository: commit it, choose another --out, or add --force"
            )
    files.write(target, result.source, file)


def _format_diff(
    file: pathlib.Path, source: bytes, result: rewriting.Result
) -> list[bytes]:
    """Returns the lines of a unified diff."""
    # Split at \n only, like the tools that apply a patch.
    before, after = (re.findall(rb".*\n|.+", text) for text in (source, result.source))
    heads = (b"a/" + os.fsencode(file), b"b/" + os.fsencode(file))
    lines = difflib.diff_bytes(difflib.unified_diff, before, after, *heads)
    missing = b"\n\\ No newline at end of file\n"
    return [line if line.endswith(b"\n") else line + missing for line in lines]


class _Report:
    """The report on stderr: the notes of each file, and a summary."""

    def __init__(self) -> None:
        self._files = self._changed = self._places = self._left = self._bad = 0

    def add(self, file: pathlib.Path, result: rewriting.Result) -> None:
        """Counts a file's changes, and prints its notes."""
        self._files += 1
        self._changed += bool(result.changes)
        self._places += len(result.changes)
        self._left += len(result.left)
        for note in sorted([*result.remarks, *result.left]):
            print(f"{file}:{note.line}: {note.name}: {note.text}", file=sys.stderr)

    def add_error(self, sentence: str) -> None:
        """Counts a file that wasn't ported, and prints the reason."""
        self._bad += 1
        print(f"error: {sentence}", file=sys.stderr)

    def close(self) -> int:
        """Prints the summary, and returns the exit status."""
        bad = f", {self._bad} not ported" if self._bad else ""
        print(
            f"files: {self._files} read, {self._changed} changed{bad}; "
            f"places: {self._places} rewritten, {self._left} to write by hand",
            file=sys.stderr,
        )
        return 1 if self._left or self._bad else 0
