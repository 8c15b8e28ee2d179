"""`tfreg predict`: writes a finished run's predictions of new inputs as CSV.

    status = predict.main(["tfreg predict", "--help"])

It reads and writes a part at a time, so that the memory doesn't grow with the file.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from tfreg.cli import commandline, process
from tfreg.data import files
from tfreg.runs import directories

USAGE = """
Writes a finished run's predictions of new inputs as CSV.

  tfreg predict --run=runs/NAME --data=new.npy --output=predictions.csv
  tfreg predict --run=runs/NAME --data=new.npy --output=predictions.csv --resume

In a checkout, `python scripts/predict.py` is `tfreg predict`.
"""


def main(argv: Sequence[str]) -> int:
    """Predicts the inputs of the command line; returns the exit status."""
    values = flags.FlagValues()
    texts = {
        "run": "directory of the run",
        "data": "inputs: an .npy file, or an .npz file with x",
        "output": "the CSV file to write",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    text = "continue an output that was interrupted"
    flags.DEFINE_bool("resume", False, text, flag_values=values)
    if commandline.wants_help(argv):
        print(commandline.format_help(USAGE, values), end="")
        return 0
    commandline.parse(values, argv)
    run, source, written = commandline.require(values, dict.fromkeys(texts, "..."))
    output, resume = pathlib.Path(written), bool(values["resume"].value)
    if output.exists() and not resume:
        raise directories.DirectoryError(
            f"output must be new, got {str(output)!r}, which exists: write --resume to "
            "continue it, or choose another path"
        )
    directories.read_config(pathlib.Path(run, directories.CONFIG))
    x = read_inputs(source)
    process.import_tensorflow()
    write(run, x, output)
    return 0


def read_inputs(path: str) -> np.ndarray:
    """Returns the inputs in a file, an .npy as a memory map.

    Raises:
        files.DataError: it can't be read.
    """
    try:
        read: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(read, np.ndarray):
            return read
        with read:
            names = [n for n in ("x", "x_test") if n in read.files]
            if not names:
                raise ValueError(f"no x but {', '.join(read.files)}")
            return read[names[0]]
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        if "pickle" in str(error):  # NumPy's advice is to load it unsafely.
            reason = "neither, or with Python objects"
        raise files.DataError(
            f"data must be an .npy file, or an .npz file with x, got {path!r} "
            f"({reason}): check it"
        ) from None


def write(run: str, x: np.ndarray, output: pathlib.Path) -> None:
    """Writes the rows of the inputs that the output doesn't have yet."""
    from tfreg import runs

    loaded = runs.load_run(run)
    header = _make_header(loaded.inputs)
    done = _count_rows(output, header)
    parts = loaded.predict_each(x, done or 0)  # Checked before a file is written.
    with open(output, "a", encoding="utf-8") as file:
        if done is None:
            file.write(header)
        row = done or 0
        for part in parts:
            lines = []
            for i, value in enumerate(part.values):
                cells = [str(row + i)]
                if part.labels is not None:
                    cells.append(str(part.labels[i]))
                cells += [repr(float(v)) for v in np.ravel(value)]
                lines.append(",".join(cells) + "\n")
            file.write("".join(lines))
            file.flush()
            row += len(part.values)
    print(f"{row} predictions in {output}")


def _make_header(inputs: Any) -> str:
    if inputs.num_classes is not None:
        names = ["label", *(f"probability_{k}" for k in range(inputs.num_classes))]
    else:
        count = int(np.prod(inputs.target_shape))
        names = [f"value_{k}" for k in range(count)] if count > 1 else ["value"]
    return ",".join(["row", *names]) + "\n"


def _count_rows(output: pathlib.Path, header: str) -> int | None:
    """Returns the number of complete rows, and cuts what comes after them.

    Raises:
        directories.DirectoryError: the file is another one.
    """
    if not output.exists() or output.stat().st_size == 0:
        return None
    with open(output, "rb+") as file:
        if file.readline() != header.encode():
            raise directories.DirectoryError(
                f"output must be of the same run, got {str(output)!r} with other "
                "columns: choose another path"
            )
        count, end = 0, file.tell()
        for line in file:
            if not line.endswith(b"\n"):
                break
            count, end = count + 1, end + len(line)
        file.truncate(end)
    return count
