"""`tfreg export`: writes a finished run as a SavedModel or for TFLite.

    status = export.main(["tfreg export", "--help"])

What it writes is loaded without tfreg, and takes raw inputs.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from tfreg.cli import commandline, process
from tfreg.runs import directories

USAGE = """
Writes a finished run as a SavedModel, or for TFLite, with its preprocessing.

  tfreg export --run=runs/NAME --output=exported/NAME
  tfreg export --run=runs/NAME --output=NAME.tflite --format=tflite

In a checkout, `python scripts/export.py` is `tfreg export`.
"""


def main(argv: Sequence[str]) -> int:
    """Exports the run of the command line; returns the exit status."""
    values = flags.FlagValues()
    texts = {
        "run": "directory of the run",
        "output": "directory of the SavedModel, or the .tflite file",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    text = "savedmodel, tflite"
    flags.DEFINE_string("format", "savedmodel", text, flag_values=values)
    if commandline.wants_help(argv):
        print(commandline.format_help(USAGE, values), end="")
        return 0
    commandline.parse(values, argv)
    run, output = commandline.require(values, dict.fromkeys(texts, "..."))
    directories.read_config(pathlib.Path(run, directories.CONFIG))  # May raise.
    process.import_tensorflow()
    from tfreg import runs

    runs.load_run(run).export(output, str(values["format"].value))
    print(output)
    return 0
