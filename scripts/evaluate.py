"""Prints loss and accuracy of a finished run on its test set, as JSON.

python scripts/evaluate.py --run=runs/NAME
"""

import json
import sys

import commandline
from absl import flags

from tfreg import runs

USAGE = """
Prints loss and accuracy of a finished run on its test set, as JSON.

  python scripts/evaluate.py --run=runs/NAME
"""


def main(argv: list[str]) -> int:
    """Evaluates the run that the command line names; returns the exit status."""
    values = flags.FlagValues()
    flags.DEFINE_string("run", None, "directory of the run", flag_values=values)
    flags.DEFINE_string(
        "data_dir", None, "where the data are, if they moved", flag_values=values
    )
    if commandline.wants_help(argv):
        print(commandline.format_help(USAGE, values), end="")
        return 0
    commandline.parse(values, argv)
    if values["run"].value is None:
        raise commandline.UsageError("run must be given: write --run=runs/NAME")
    run, data_dir = values["run"].value, values["data_dir"].value
    print(json.dumps(runs.evaluate(run, data_dir, commandline.tell)))
    return 0


if __name__ == "__main__":
    sys.exit(commandline.run(lambda: main(sys.argv)))
