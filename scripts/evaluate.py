"""Prints loss and accuracy of a finished run on its test set, as JSON.

python scripts/evaluate.py --run=runs/NAME
"""

import pathlib
import sys

# The checkout's tfreg, whether it is installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfreg.cli import commands

if __name__ == "__main__":
    sys.exit(commands.run("evaluate", ["python scripts/evaluate.py", *sys.argv[1:]]))
