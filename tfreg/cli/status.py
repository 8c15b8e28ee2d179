"""`tfreg status`: prints a table of runs, whether they are alive, and how to go on.

    exit_status = tfreg.cli.status.main(["tfreg status", "--help"])

It never imports TensorFlow, and changes nothing.
"""

import pathlib
from collections.abc import Sequence

from tfreg.cli import commandline, process
from tfreg.runs import status

USAGE = """
Prints the state of runs: what trains, how the others ended, how to go on with them.

  tfreg status              those in runs/
  tfreg status runs/NAME    one, or those of another directory; several are allowed

In a checkout, `python scripts/status.py` is `tfreg status`.
"""


def main(argv: Sequence[str]) -> int:
    """Prints the table of the command line's directories; returns the exit status."""
    if commandline.wants_help(argv):
        print(USAGE.strip())
        return 0
    paths = [pathlib.Path(text) for text in argv[1:] or ["runs"]]
    for path in paths:
        if not path.is_dir():
            raise process.UsageError(
                f"status must be asked of directories, got {str(path)!r}: name that of "
                "a run or of runs"
            )
    print(status.format_table(paths))
    return 0
