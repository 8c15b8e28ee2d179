"""Prints the test results of a sweep on a CSV beside those of scikit-learn, by split.

    python benchmarks/tables.py
    python benchmarks/tables.py --splits=3

A sweep trains a linear model with L1 at several scales on the training rows, and
chooses by the validation rows, as `tfreg sweep --model=linear --reg=l1` does.
scikit-learn's LassoCV and LogisticRegressionCV with L1 have both parts, and choose by
cross-validation. The test rows are the same. Each table ends with the mean difference
and its standard error over the splits: within two of them nothing is shown.
"""

import contextlib
import io
import math
import os
import pathlib
import tempfile
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pandas as pd
from absl import app, flags, logging
from sklearn import datasets, linear_model, pipeline, preprocessing

from tfreg.data import frames, splits
from tfreg.runs import config
from tfreg.sweeps import decision, plans, runner

_SPLITS = flags.DEFINE_integer("splits", 10, "number of splits", lower_bound=2)
FRACTIONS = (0.8, 0.1, 0.1)
SCALES = (1e-3, 1e-2, 3e-2, 1e-1)
FLAGS = {"model": "linear", "learning_rate": 0.01, "epochs": 40, "batch_size": 32}
DATA = {
    "diabetes": (datasets.load_diabetes, "R2", "LassoCV"),
    "cancer": (datasets.load_breast_cancer, "accuracy", "LogisticRegressionCV"),
}


def sweep(path: pathlib.Path, seed: int, metric: str) -> tuple[str, float]:
    """Returns the chosen setting and its test result.

    Args:
        path: of the CSV; the column to learn is `target`.
        seed: of the split.
        metric: of the result.
    """
    base = config.Config(
        data=str(path),
        target=("target",),
        split_seed=seed,
        strategy="one",
        compile="graph",
        **FLAGS,
    )
    settings = plans.make_paths(base, ["l1"], [("kernel",)], SCALES)
    plan = plans.Plan(settings, 1)
    directory = path.with_name(f"{path.stem}-{seed}")
    with contextlib.redirect_stdout(io.StringIO()):
        outcomes = runner.train(plan, directory, num_lanes=2)
        chosen = decision.decide(plan, outcomes).setting
        tests = runner.evaluate_test(plan, directory, [chosen])
    return chosen, tests[chosen][0][metric.lower()]


def fit(path: pathlib.Path, seed: int, name: str) -> float:
    """Returns the test result of scikit-learn on the same rows, of both other parts."""
    frame = frames.read_all(path, keep=["target"])
    rows = splits.draw(len(frame), FRACTIONS, seed)
    both = np.concatenate([rows["train"], rows["validation"]])
    x, y = frame.drop(columns="target").to_numpy(np.float64), frame["target"]
    model = linear_model.LassoCV()
    if name == "LogisticRegressionCV":
        options = {"penalty": "l1", "solver": "liblinear"}
        model = linear_model.LogisticRegressionCV(**options)
    fitted = pipeline.make_pipeline(preprocessing.StandardScaler(), model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # On the names of penalties.
        fitted.fit(x[both], y[both])
    return float(fitted.score(x[rows["test"]], y[rows["test"]]))


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)  # Checkpoints have a line each.
    with tempfile.TemporaryDirectory() as folder:
        for name, (load, metric, peer) in DATA.items():
            path = pathlib.Path(folder, f"{name}.csv")
            load(as_frame=True).frame.to_csv(path, index=False)
            print(f"\n| {name}, {metric}: split | tfreg | chosen | {peer} |")
            print("|---:|---:|---|---:|")
            pairs = []
            for seed in range(_SPLITS.value):
                chosen, ours = sweep(path, seed, metric)
                pairs.append((ours, fit(path, seed, peer)))
                print(f"| {seed} | {ours:.3f} | {chosen} | {pairs[-1][1]:.3f} |")
            table = pd.DataFrame(pairs)
            differences = table[0] - table[1]
            error = differences.std(ddof=1) / math.sqrt(len(differences))
            print(f"| mean | {table[0].mean():.3f} | | {table[1].mean():.3f} |")
            print(f"\ndifference {differences.mean():+.4f}, standard error {error:.4f}")


if __name__ == "__main__":
    app.run(main)
