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

from tfreg.porting import files, project, report, rewriting


def port_all(
    path: pathlib.Path,
    out: pathlib.Path | None = None,
    is_diff: bool = False,
    force: bool = False,
    as_json: bool = False,
    is_python2: bool = False,
) -> int:
    """Ports a file, or a folder's Python files, and reports on stderr.

    Args:
        path: a file or a folder.
        out: file or folder to write to; None: print a file's new source, or a folder's
            changes, to stdout.
        is_diff: whether to print a file's changes, too, instead of its new source.
        force: whether to overwrite files that aren't committed to git.
        as_json: whether the report is JSON on stdout, instead of sources or changes.
        is_python2: whether Python 2 is made Python 3 first.

    Returns:
        The exit status: 1 if something is left to write by hand or a file can't be
        read or written, else 0.

    Raises:
        OSError: stdout can't be written.
    """
    try:
        modules = files.read_project(path, is_python2)
        listed = list(files.list_files(path, out))
    except files.FileError as error:
        modules, listed = project.Project({}), []
        print(f"error: {error}", file=sys.stderr)
    notes = report.Report(modules)
    for file in listed:
        try:
            source, result = files.port(file, modules.link(file), is_python2)
            if out is not None:
                _write(file, _choose_target(file, path, out), result, force)
            elif not as_json:
                _print(file, source, result, is_diff or path.is_dir())
            notes.add(file, result)
        except files.FileError as error:
            notes.add_error(file, str(error))
            print(f"error: {error}", file=sys.stderr)
    if as_json:
        print(notes.to_json())
    else:
        print(notes.format(), file=sys.stderr)
    return 0 if listed and notes.is_done() else 1


def _choose_target(
    file: pathlib.Path, path: pathlib.Path, out: pathlib.Path
) -> pathlib.Path:
    if path.is_dir():
        return out / file.relative_to(path)
    return out / file.name if out.is_dir() else out


def _print(
    file: pathlib.Path, source: bytes, result: rewriting.Result, is_diff: bool
) -> None:
    lines = _format_diff(file, source, result) if is_diff else [result.source]
    sys.stdout.buffer.writelines(lines)


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
