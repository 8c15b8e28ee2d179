"""Writes a finished run's predictions of new inputs as CSV.

python scripts/predict.py --run=runs/NAME --data=new.npy --output=predictions.csv
"""

import pathlib
import sys

# The checkout's tfreg, whether it is installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfreg.cli import commands

if __name__ == "__main__":
    sys.exit(commands.run("predict", ["python scripts/predict.py", *sys.argv[1:]]))
