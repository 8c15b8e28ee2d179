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
from tfreg.runs import signals

USAGE = """
Rewrites contrib, slim and collections of TF1 for tfreg, before or after
tf_upgrade_v2. It lists by file and kind what to write by hand, and how,
which files can be imported, and what to write next.

  tfreg port train.py             print the new source
  tfreg port train.py --diff      show the changes
  tfreg port src/ --out=ported/   port every .py file
  tfreg port src/ --out=src/      in place, if committed to git

  --out=PATH   file or folder to write to; nothing is written without it
  --diff       show the changes instead of the source (for a folder by default)
  --force      overwrite files that aren't committed to git
  --python2    make Python 2 files Python 3 first; needs tfreg[python2]
  --json       print the report as JSON on stdout, instead of sources or changes

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
    flags.DEFINE_bool("force", False, "overwrite the input", flag_values=values)
    flags.DEFINE_bool("python2", False, "convert Python 2", flag_values=values)
    flags.DEFINE_bool("json", False, "print the report", flag_values=values)
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
    if values["json"].value and values["diff"].value:
        raise process.UsageError(
            "diff must be left out with --json, got both: choose one"
        )
    return pathlib.Path(paths[0]), values


def main(argv: Sequence[str]) -> int:
    """Ports the files of the command line; returns the exit status."""
    if commandline.wants_help(argv):
        print(USAGE.strip())
        return 0
    try:
        path, values = parse(argv)
    except process.UsageError as error:
        signals.log(f"error: {error}")
        return 2
    try:
        from tfreg.porting import folders
    except ModuleNotFoundError as error:
        signals.log(
            f"error: {error.name} must be installed, got no such module: "
            "python -m pip install 'tfreg[port]'"
        )
        return 2
    out = None if values["out"].value is None else pathlib.Path(values["out"].value)
    return folders.port_all(
        path,
        out,
        is_diff=bool(values["diff"].value),
        force=bool(values["force"].value),
        as_json=bool(values["json"].value),
        is_python2=bool(values["python2"].value),
    )


def run(argv: Sequence[str]) -> int:
    """Runs `main`; an error of writing the output becomes one sentence."""
    try:
        status = main(argv)
        sys.stdout.flush()
        return status
    except OSError as error:
        text = f"the output must be written, got {error.strerror}: write it elsewhere"
        signals.log(f"error: {text}")
        sys.stdout = io.StringIO()  # Python's flush at exit would print an error.
        return 1
