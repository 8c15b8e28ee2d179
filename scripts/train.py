"""Trains a model and writes runs/NAME/; --help shows the flags.

python scripts/train.py --reg=l2 --scale=1e-4
tensorboard --logdir runs/
"""

import pathlib
import sys

# The checkout's tfreg, whether it is installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfreg.cli import commands

if __name__ == "__main__":
    sys.exit(commands.run("train", ["python scripts/train.py", *sys.argv[1:]]))
