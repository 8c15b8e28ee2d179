"""What a model gets right, class by class: the report in result.json.

    task = tasks.Task("classification", classes=("a", "b", "c"))
    probabilities = tf.nn.softmax(logits).numpy()  # [examples, classes]
    report = scoring.score(task, y.numpy(), probabilities)
    print(scoring.format(report))

The trap: an accuracy of 0.98 where 98 of 100 examples are of one class. Recall and the
confusion matrix show what was missed. All values are of the model's own predictions of
every example, none an average over batches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfreg.data import tasks

MOST_CLASSES = 100  # Of a confusion matrix in a file.
_SHOWN = 8  # On a terminal of 80 columns.


def score(
    task: tasks.Task, y: np.ndarray, values: np.ndarray, num_classes: int | None = None
) -> dict[str, Any] | None:
    """Returns the report of predictions, in JSON values.

    Args:
        task: what was learnt.
        y: targets as they are trained on.
        values: probabilities `[examples, classes or labels]`, or predicted numbers in
            the shape of y.
        num_classes: number of classes of a classification.

    Returns:
        Of classes `classes`: name -> precision, recall, f1, auc (against the rest) and
        support; `confusion`: rows of true classes, columns of predicted ones; and
        `macro_f1`. Of labels `classes` alone. Of numbers `targets`: name -> r2,
        mean_absolute_error and root_mean_squared_error. What isn't defined is None.
        None for more than MOST_CLASSES classes.

    Source: `sklearn.metrics.classification_report`, `roc_auc_score`,
    `confusion_matrix`, `r2_score`.
    """
    if task.kind == "regression":
        return _score_numbers(task.targets, y, values)
    names = task.get_names(num_classes)
    if len(names) > MOST_CLASSES:
        return None
    if task.kind == "multilabel":
        truths, chosen = y > 0.5, values > 0.5
    else:
        classes = y.astype(np.int64).ravel()
        truths = classes[:, np.newaxis] == np.arange(len(names))
        chosen = values.argmax(1)[:, np.newaxis] == np.arange(len(names))
    each = {
        name: _score_class(truths[:, k], chosen[:, k], values[:, k])
        for k, name in enumerate(names)
    }
    report: dict[str, Any] = {"classes": each}
    if task.kind != "multilabel":
        report["macro_f1"] = float(np.mean([row["f1"] for row in each.values()]))
        pairs = truths.astype(np.int64).T @ chosen.astype(np.int64)
        report["confusion"] = pairs.tolist()
    return report


def _score_class(truth: np.ndarray, chosen: np.ndarray, values: np.ndarray) -> dict:
    right = int(np.sum(truth & chosen))
    positive, support = int(chosen.sum()), int(truth.sum())
    return {
        "precision": right / positive if positive else 0.0,
        "recall": right / support if support else 0.0,
        "f1": 2 * right / (positive + support) if positive + support else 0.0,
        "auc": compute_auc(truth, values),
        "support": support,
    }


def compute_auc(truth: np.ndarray, values: np.ndarray) -> float | None:
    """Returns the probability that a true example has the larger value, ties half.

    Args:
        truth: `[examples]` bools.
        values: `[examples]` numbers.

    Returns:
        None where all examples are true, or none is.

    Source: `sklearn.metrics.roc_auc_score`; Mann and Whitney 1947.
    """
    num_true = int(truth.sum())
    num_false = len(truth) - num_true
    if not num_true or not num_false:
        return None
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # Of equal values the mean.
    total = float(ranks[places.ravel()[truth]].sum())
    return (total - num_true * (num_true + 1) / 2) / (num_true * num_false)


def _score_numbers(
    names: Sequence[str], y: np.ndarray, values: np.ndarray
) -> dict[str, Any]:
    y = y.reshape(len(y), -1).astype(np.float64)
    errors = values.reshape(len(y), -1) - y
    shown = names or [f"value_{k}" for k in range(y.shape[1])]
    spread = ((y - y.mean(0)) ** 2).sum(0)
    rows = {}
    for k, name in enumerate(shown[:MOST_CLASSES]):
        squares = float((errors[:, k] ** 2).sum())
        rows[name] = {
            "r2": 1 - squares / float(spread[k]) if spread[k] else None,
            "mean_absolute_error": float(np.abs(errors[:, k]).mean()),
            "root_mean_squared_error": float(np.sqrt(squares / len(y))),
        }
    return {"targets": rows}


def format(report: Mapping[str, Any]) -> str:
    """Returns the report as tables for a terminal of 80 columns."""
    rows = report.get("classes") or report["targets"]
    columns = list(next(iter(rows.values())))
    width = max(16, min(24, max(map(len, rows))))
    heads = [_HEADS.get(name, name) for name in columns]
    lines = [" " * width + "".join(f"{head:>11}" for head in heads)]
    for name, row in rows.items():
        cells = [_format_cell(row[column]) for column in columns]
        lines.append(f"{_cut(name, width)}" + "".join(f"{cell:>11}" for cell in cells))
    confusion = report.get("confusion")
    if confusion is None:
        return "\n".join(lines)
    lines += ["", f"macro f1 {report['macro_f1']:.4f}", ""]
    names = list(rows)
    if len(names) <= _SHOWN:
        head = "".join(f"{_cut(name, 6).strip():>7}" for name in names)
        lines.append("true \\ predicted".ljust(width) + head)
        for name, row in zip(names, confusion, strict=True):
            counts = "".join(f"{count:>7,}" for count in row)
            lines.append(_cut(name, width) + counts)
        return "\n".join(lines)
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    for place in np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN]:
        true, predicted = divmod(int(place), len(names))
        if wrong[true, predicted]:
            lines.append(
                f"{wrong[true, predicted]:,} of {_cut(names[true], 28).strip()} taken "
                f"for {_cut(names[predicted], 28).strip()}"
            )
    return "\n".join(lines)


_HEADS = {"mean_absolute_error": "mae", "root_mean_squared_error": "rmse"}


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"


def _format_cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def draw(confusion: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns a confusion matrix as uint8 `[height, width, 1]`, dark where many are.

    Every row is divided by its sum: each true class is as dark in all.
    """
    counts = np.array(confusion, np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = max(2, 320 // len(counts))
    image = np.uint8(np.round(255 * (1 - shares)))
    return image.repeat(size, 0).repeat(size, 1)[..., np.newaxis]
