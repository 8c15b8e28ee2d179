"""Ports TF1 scripts to tfreg; --help shows the flags.

python scripts/port.py train.py --diff
python scripts/port.py src/ --out=ported/
"""

import pathlib
import sys

# The checkout's tfreg, whether it is installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfreg.cli import commands

if __name__ == "__main__":
    sys.exit(commands.run("port", ["python scripts/port.py", *sys.argv[1:]]))
