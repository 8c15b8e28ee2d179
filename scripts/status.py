"""Prints which runs train, how the others have ended, and how to go on with them.

python scripts/status.py runs/
"""

import pathlib
import sys

# The checkout's tfreg, whether it is installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfreg.cli import commands

if __name__ == "__main__":
    sys.exit(commands.run("status", ["python scripts/status.py", *sys.argv[1:]]))
