"""`tfreg predict`: writes a finished run's predictions of new inputs as CSV.

    status = predict.main(["tfreg predict", "--help"])

It reads and writes a part at a time, so that the memory doesn't grow with the file.
"""

import csv
import io
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from tfreg import _checks
from tfreg.cli import commandline, process
from tfreg.data import files, frames
from tfreg.runs import directories

USAGE = """
Writes a finished run's predictions of new inputs as CSV.

  tfreg predict --run=runs/NAME --data=new.csv --output=predictions.csv
  tfreg predict --run=runs/NAME --data=new.npy --output=predictions.csv --resume

In a checkout, `python scripts/predict.py` is `tfreg predict`.
"""


def main(argv: Sequence[str]) -> int:
    """Predicts the inputs of the command line; returns the exit status."""
    values = flags.FlagValues()
    texts = {
        "run": "directory of the run",
        "data": "inputs: a table as that of the training, the target may be missing; a "
        "folder of images; of arrays an .npy file, or an .npz file with x",
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
    is_own = frames.is_table(source) or os.path.isdir(source)
    x = None if is_own else read_inputs(source)
    process.import_tensorflow()
    write(run, source, x, output)
    return 0


def read_inputs(path: str) -> np.ndarray:
    """Returns the inputs in a file, an .npy as a memory map.

    Raises:
        files.DataError: it can't be read.
    """
    _checks.check_regular(path, files.DataError)
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


def write(run: str, source: str, x: np.ndarray | None, output: pathlib.Path) -> None:
    """Writes the rows of the inputs that the output doesn't have yet.

    Args:
        run: directory of the run.
        source: the file of the inputs.
        x: those of a file of arrays.
        output: the file to write.
    """
    from tfreg import runs

    loaded = runs.load_run(run)
    reader = loaded.inputs.reader
    if (reader is not None) == (x is not None):
        kinds = {"table": "a table", "images": "a folder of images"}
        kind = kinds[reader.describe()["kind"]] if reader else "an .npy or .npz file"
        raise files.DataError(
            f"data must be {kind} as the run was trained on, got {source!r}: convert it"
        )
    header = make_header(loaded.inputs)
    names = reader.list_files(source) if hasattr(reader, "list_files") else None
    done = _count_rows(output, header)
    row = done or 0
    # Checked before a file is written.
    parts = iter(
        loaded.predict_file(source, row) if x is None else loaded.predict_each(x, row)
    )
    first = next(parts, None)
    with open(output, "a", encoding="utf-8", newline="") as file:
        if done is None:
            file.write(header)
        for part in itertools.chain([] if first is None else [first], parts):
            file.write(_format(row, part, names))
            file.flush()
            row += len(part.values)
    print(f"{row} predictions in {output}")


def _format(row: int, part: Any, names: Sequence[str] | None) -> str:
    """Returns the lines of predictions, which begin with a row or a file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, value in enumerate(part.values):
        labels = [] if part.labels is None else np.ravel(part.labels[i]).tolist()
        name = row + i if names is None else names[row + i]
        writer.writerow([name, *labels, *map(repr, np.ravel(value).tolist())])
    return text.getvalue()


def make_header(inputs: Any) -> str:
    """Returns the line of names: labels and probabilities, or values."""
    task = inputs.task
    names = task.get_names(inputs.num_classes)
    if task.kind == "multilabel":
        cells = [*names, *(f"probability_{name}" for name in names)]
    elif task.kind != "regression":
        cells = ["label", *(f"probability_{name}" for name in names)]
    else:
        count = int(np.prod(inputs.target_shape))
        cells = names or [f"value_{k}" for k in range(count)]
        cells = ["value"] if count == 1 and not names else cells
    first = "file" if hasattr(inputs.reader, "list_files") else "row"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([first, *cells])
    return text.getvalue()


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
