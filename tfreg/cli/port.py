"""`tfreg port`: rewrites TF1 scripts for tfreg.

    status = port.main(["tfreg port", "--help"])

It never imports TensorFlow.
"""

import io
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from tfreg.cli import commandline, process

USAGE = """
Rewrites contrib, slim and collections of TF1 for tfreg, before or after
tf_upgrade_v2. What it can't do is listed by file and line, with what to write.

  tfreg port train.py             the new source
  tfreg port train.py --diff      what would change
  tfreg port src/ --out=ported/   every .py file, ported
  tfreg port src/ --out=src/      in place, where git holds it

  --out=PATH   file or folder to write to; nothing is written without it
  --diff       show the changes in place of the source (a folder's always)
  --force      write over files that git doesn't hold as they are

In a checkout, `python scripts/port.py` is `tfreg port`.

Exit status: 0 done, 1 something is left to write by hand or a file can't be read or
written, 2 wrong usage, 130 interrupted.
"""


def parse(argv: Sequence[str]) -> tuple[pathlib.Path, flags.FlagValues]:
    """Returns the path to port and the flags.

    Raises:
        process.UsageError: an unknown flag, no path, or several.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("out", None, "file or folder", flag_values=values)
    flags.DEFINE_bool("diff", False, "show the changes", flag_values=values)
    flags.DEFINE_bool("force", False, "write over the input", flag_values=values)
    values.set_gnu_getopt(True)
    try:
        paths = values(list(argv))[1:]
    except flags.Error as error:
        raise process.UsageError(
            f"{' '.join(str(error).split())}: see --help"
        ) from None
    if len(paths) != 1 or not paths[0]:
        raise process.UsageError(
            f"one file or folder must be given, got {len(paths)}: see --help"
        )
    if values["out"].value == "":
        raise process.UsageError("out must have a value, got '': leave the flag out")
    if values["out"].value is not None and values["diff"].value:
        raise process.UsageError(
            "out must be left out with --diff, got both: choose one"
        )
    return pathlib.Path(paths[0]), values


def main(argv: Sequence[str]) -> int:
    """Ports as the command line says; returns the exit status."""
    if commandline.wants_help(argv):
        print(USAGE.strip())
        return 0
    try:
        path, values = parse(argv)
    except process.UsageError as error:
        process.tell(f"error: {error}")
        return 2
    try:
        from tfreg.porting import folders
    except ModuleNotFoundError as error:
        process.tell(
            f"error: {error.name} must be installed, got no such module: "
            "python -m pip install 'tfreg[port]'"
        )
        return 2
    out = None if values["out"].value is None else pathlib.Path(values["out"].value)
    is_diff, force = bool(values["diff"].value), bool(values["force"].value)
    return folders.port_all(path, out, is_diff, force)


def run(argv: Sequence[str]) -> int:
    """Runs `main`; output that can't be written becomes a sentence."""
    try:
        status = main(argv)
        sys.stdout.flush()
        return status
    except OSError as error:
        text = f"the output must be written, got {error.strerror}: write it elsewhere"
        process.tell(f"error: {text}")
        sys.stdout = io.StringIO()  # Python flushes it at exit, and complains.
        return 1
