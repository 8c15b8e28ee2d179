"""Prints the time from a CSV to the first step, and its memory, beside pandas.read_csv.

    python benchmarks/reading.py
    python benchmarks/reading.py --rows=100000

The file has 19 columns of numbers and a target. Each turn reads it by pandas, or loads
and encodes it, builds a run and trains one step, in a process of its own, TensorFlow
imported before. A ratio is of the smallest of three; memory is the peak beyond that
before.
"""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from absl import app, flags

_ROWS = flags.DEFINE_integer("rows", 1_000_000, "rows of the file", lower_bound=1000)
_WAY = flags.DEFINE_string("way", None, "pandas or tfreg: one turn, for itself")
_PATH = flags.DEFINE_string("path", None, "its file")
COLUMNS, TURNS = 19, 3


def read_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def take_turn(way: str, path: str) -> None:
    """Prints the seconds, and the bytes of memory that were needed."""
    from tfreg.collections import store
    from tfreg.runs import builder, config

    settings = config.Config(
        data=path, target=("y",), strategy="one", compile="graph", checkpoint_every="1"
    )
    before, began = read_peak(), time.perf_counter()
    if way == "pandas":
        pd.read_csv(path)
    else:
        with store.Store().as_default():
            loop = builder.build(settings).loop
            next(iter(loop.iterate(0, steps=0)))
    print(time.perf_counter() - began, read_peak() - before)


def main(argv: list[str]) -> None:
    if _WAY.value is not None:
        take_turn(_WAY.value, str(_PATH.value))
        return
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_ROWS.value, COLUMNS)).astype(np.float32)
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(COLUMNS)])
    frame["y"] = x[:, 0] + rng.normal(size=len(x))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rows.csv")
        frame.to_csv(path, index=False, float_format="%.6g")
        best = dict.fromkeys(("pandas", "tfreg"), (float("inf"), 0))
        for way in TURNS * list(best):
            words = [sys.executable, argv[0], f"--way={way}", f"--path={path}"]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            seconds, needed = done.stdout.split()[-2:]
            best[way] = min(best[way], (float(seconds), int(needed)))
    print("| | seconds | of pandas's | MiB | of the array's |")
    print("|---|---:|---:|---:|---:|")
    for way, (seconds, needed) in best.items():
        ratio, memory = seconds / best["pandas"][0], needed / x.nbytes
        text = f"{seconds:.2f} | {ratio:.2f} | {needed / 2**20:.0f} | {memory:.2f}"
        print(f"| {way} | {text} |")


if __name__ == "__main__":
    app.run(main)
