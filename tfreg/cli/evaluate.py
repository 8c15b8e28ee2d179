"""`tfreg evaluate`: prints a finished run's loss and metrics on its test set, as JSON.

    status = evaluate.main(["tfreg evaluate", "--help"])

It uses one device, also for a run that was trained on several.
"""

import json
import pathlib
from collections.abc import Sequence

from absl import flags

from tfreg import runs
from tfreg.cli import commandline, process
from tfreg.runs import directories, signals

USAGE = """
Prints loss and metrics of a finished run on its test set, as JSON.

  tfreg evaluate --run=runs/NAME
  tfreg evaluate --run=runs/NAME --data=new.csv --report

In a checkout, `python scripts/evaluate.py` is `tfreg evaluate`.
"""


def main(argv: Sequence[str]) -> int:
    """Evaluates the run of the command line; returns the exit status."""
    values = flags.FlagValues()
    texts = {
        "run": "directory of the run",
        "data": "file to evaluate all rows of, for a run on a file [its test set]",
        "data_dir": "path of the data, if they moved, for other runs",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    text = "also print each class or target, and the confusion matrix"
    flags.DEFINE_bool("report", False, text, flag_values=values)
    if commandline.wants_help(argv):
        print(commandline.format_help(USAGE, values), end="")
        return 0
    commandline.parse(values, argv)
    (run,) = commandline.require(values, {"run": "runs/NAME"})
    data_dir, source = values["data_dir"].value, values["data"].value
    directories.read_config(pathlib.Path(run, directories.CONFIG))  # May raise.
    process.import_tensorflow()
    has_report = bool(values["report"].value)
    losses = runs.evaluate(run, data_dir, source, signals.log, has_report)
    report = losses.pop("report", None)
    print(json.dumps(losses))
    if report is not None:
        from tfreg.runs import scoring

        print(f"\n{scoring.format(report)}")
    return 0
