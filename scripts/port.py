"""Ports TF1 scripts to tfreg; python scripts/port.py --help tells the flags.

python scripts/port.py train.py --diff
python scripts/port.py src/ --out=ported/
"""

import difflib
import io
import os
import pathlib
import re
import sys

INTERRUPTED = "error: interrupted: files are written whole or not at all"

try:  # They take a moment, in which a Ctrl-C may come.
    from absl import flags
    from porting import files, rewriting
except KeyboardInterrupt:
    print(INTERRUPTED, file=sys.stderr)
    sys.exit(130)
except ModuleNotFoundError as error:
    print(
        f"error: {error.name} must be installed, got no such module: "
        "python -m pip install 'tfreg[port]'",
        file=sys.stderr,
    )
    sys.exit(2)

USAGE = """
Rewrites contrib, slim and collections of TF1 for tfreg, before or after
tf_upgrade_v2. What it can't do is listed by file and line, with what to write.

  python scripts/port.py train.py             the new source
  python scripts/port.py train.py --diff      what would change
  python scripts/port.py src/ --out=ported/   every .py file, ported
  python scripts/port.py src/ --out=src/      in place, where git holds it

  --out=PATH   file or folder to write to; nothing is written without it
  --diff       show the changes in place of the source (a folder's always)
  --force      write over files that git doesn't hold as they are

Exit status: 0 done, 1 something is left to write by hand or a file can't be read or
written, 2 wrong usage, 130 interrupted.
"""


class UsageError(Exception):
    """A command line that can't be read."""


def parse(argv: list[str]) -> tuple[pathlib.Path, flags.FlagValues]:
    """Returns the path to port and the flags.

    Raises:
        UsageError: an unknown flag, no path, or several.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("out", None, "file or folder", flag_values=values)
    flags.DEFINE_bool("diff", False, "show the changes", flag_values=values)
    flags.DEFINE_bool("force", False, "write over the input", flag_values=values)
    values.set_gnu_getopt(True)
    try:
        paths = values(argv)[1:]
    except flags.Error as error:
        raise UsageError(f"{' '.join(str(error).split())}: see --help") from None
    if len(paths) != 1 or not paths[0]:
        raise UsageError(
            f"one file or folder must be given, got {len(paths)}: see --help"
        )
    if values["out"].value == "":
        raise UsageError("out must have a value, got '': leave the flag out")
    if values["out"].value is not None and values["diff"].value:
        raise UsageError("out must be left out with --diff, got both: choose one")
    return pathlib.Path(paths[0]), values


def main(argv: list[str]) -> int:
    """Ports as the command line says; returns the exit status."""
    if any(arg in ("-h", "-help", "--help", "--helpfull") for arg in argv[1:]):
        print(USAGE.strip())
        return 0
    try:
        path, values = parse(argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = None if values["out"].value is None else pathlib.Path(values["out"].value)
    report = Report()
    try:
        for file in files.list_files(path, out):
            try:
                port(file, path, out, values, report)
            except files.FileError as error:
                report.add_error(str(error))
    except files.FileError as error:
        report.add_error(str(error))
    return report.close()


def port(
    file: pathlib.Path,
    path: pathlib.Path,
    out: pathlib.Path | None,
    values: flags.FlagValues,
    report: "Report",
) -> None:
    """Ports one file of a path.

    Raises:
        FileError: it can't be ported or written.
    """
    source, result = files.port(file)
    if out is not None:
        target = out / file.relative_to(path)
        if not path.is_dir():
            target = out / file.name if out.is_dir() else out
        write(file, target, result, bool(values["force"].value))
    elif values["diff"].value or path.is_dir():
        sys.stdout.buffer.writelines(format_diff(file, source, result))
    else:
        sys.stdout.buffer.write(result.source)
    report.add(file, result)


def write(
    file: pathlib.Path,
    target: pathlib.Path,
    result: rewriting.Result,
    force: bool,
) -> None:
    """Writes a ported file, over another only where git holds that, or it is told to.

    Raises:
        FileError: it can't or mustn't be written.
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


def format_diff(
    file: pathlib.Path, source: bytes, result: rewriting.Result
) -> list[bytes]:
    """Returns the lines of a unified diff."""
    # At \n alone, as the tools that apply it.
    before, after = (re.findall(rb".*\n|.+", text) for text in (source, result.source))
    heads = (b"a/" + os.fsencode(file), b"b/" + os.fsencode(file))
    lines = difflib.diff_bytes(difflib.unified_diff, before, after, *heads)
    missing = b"\n\\ No newline at end of file\n"
    return [line if line.endswith(b"\n") else line + missing for line in lines]


class Report:
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


def run(argv: list[str]) -> int:
    """Runs `main`; output that can't be written becomes a sentence."""
    try:
        status = main(argv)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except OSError as error:
        text = f"the output must be written, got {error.strerror}: write it elsewhere"
        print(f"error: {text}", file=sys.stderr)
        sys.stdout = io.StringIO()  # Python flushes it at exit, and complains.
        return 1


if __name__ == "__main__":
    sys.exit(run(sys.argv))
