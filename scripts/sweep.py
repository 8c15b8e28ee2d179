"""Trains settings x seeds and writes a report; --help shows the flags.

python scripts/sweep.py --reg=l2 --scales=1e-6:1e-2:9
tensorboard --logdir runs/sweep-NAME
"""

import pathlib
import sys

# The checkout's tfreg, whether it is installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfreg.cli import commands

if __name__ == "__main__":
    sys.exit(commands.run("sweep", ["python scripts/sweep.py", *sys.argv[1:]]))
