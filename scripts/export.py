"""Writes a finished run as a SavedModel, or for TFLite, with its preprocessing.

python scripts/export.py --run=runs/NAME --output=exported/NAME
"""

import pathlib
import sys

# The checkout's tfreg, whether it is installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfreg.cli import commands

if __name__ == "__main__":
    sys.exit(commands.run("export", ["python scripts/export.py", *sys.argv[1:]]))
