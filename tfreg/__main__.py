"""The program `tfreg`, as `python -m tfreg`.

    status = commands.main(["tfreg", "--help"])

The commands are in `tfreg.cli`.
"""

import sys

from tfreg.cli import commands

if __name__ == "__main__":
    sys.exit(commands.main())
