"""The commands by name, for the console, `python -m tfreg` and scripts/.

    status = commands.main(["tfreg", "--version"])
    status = commands.run("train", ["python scripts/train.py", "--help"])

A command's module is imported when the command is called, and TensorFlow after the
command line has been checked.
"""

import importlib
import sys
from collections.abc import Sequence

import tfreg
from tfreg.cli import process

COMMANDS = {
    "train": "trains a model with penalties and writes its directory, runs/NAME/",
    "evaluate": "prints loss and metrics of a finished run on its test set",
    "predict": "writes a finished run's predictions of new inputs as CSV",
    "export": "writes a finished run as a SavedModel, or for TFLite",
    "sweep": "trains settings x seeds and writes a report",
    "status": "prints which runs train, how others ended, and how to go on",
    "port": "rewrites TF1 scripts that use contrib, slim and collections",
}
_HELP = ("-h", "-help", "--help", "--helpshort", "--helpfull")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command of a command line; returns the exit status.

    Args:
        argv: the program's name, a command and its flags; None: `sys.argv`.
    """
    argv = sys.argv if argv is None else argv
    if argv[1:] and argv[1] in COMMANDS:
        return run(argv[1], [f"tfreg {argv[1]}", *argv[2:]])
    return process.run(lambda: _answer(argv[1:]))


def _answer(words: Sequence[str]) -> int:
    if words and words[0] in _HELP:
        lines = [f"  tfreg {name:9} {text}" for name, text in COMMANDS.items()]
        print("\n".join([tfreg.__doc__.partition("\n")[0], "", *lines]))
        print("\n`tfreg COMMAND --help` shows a command's flags.")
        return 0
    if words and words[0] == "--version":
        print(f"tfreg {tfreg.__version__}")
        return 0
    got = repr(words[0]) if words else "none"
    raise process.UsageError(
        f"a command must be one of {', '.join(COMMANDS)}, got {got}: see tfreg --help"
    )


def run(name: str, argv: Sequence[str]) -> int:
    """Runs a command; returns the exit status.

    Args:
        name: one of COMMANDS.
        argv: the name that the command is called by, and its flags.
    """
    if name != "port":
        return process.run(
            lambda: importlib.import_module(f"tfreg.cli.{name}").main(argv)
        )
    # It stops between two files, and has its own exit statuses.
    process.open_streams()
    try:
        from tfreg.cli import port

        return port.run(argv)
    except KeyboardInterrupt:
        text = "error: interrupted: no file is written in part"
        print(text, file=sys.stderr)
        return 130
