"""Summarizes a sweep over its seeds, and chooses scales by the validation set.

    rows = selection.summarize(plan, outcomes)
    choices = selection.choose(plan, outcomes)

The trap: a choice by the test set. Outcomes don't include it.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tfreg.sweeps import plans, runner, statistics
from tfreg.sweeps.statistics import Interval


@dataclasses.dataclass(frozen=True)
class Row:
    """A setting's means over its seeds, all NaN if the loss of a run wasn't finite.

    Attributes:
        setting: the setting.
        score: validation accuracy, R2 or loss, see `get_score`.
        loss: validation loss.
        gap: by how much the score is better in training than in validation.
        norm: global norm of the kernels.
        small: fraction of the kernels' weights below `runner.SMALL`.
        difference: of the score, to the baseline; None for a baseline.
        p: p-value of the difference, corrected for the number of comparisons.
    """

    setting: plans.Setting
    score: Interval
    loss: Interval
    gap: Interval
    norm: Interval
    small: Interval
    difference: statistics.Difference | None
    p: float


@dataclasses.dataclass(frozen=True)
class Choice:
    """The settings chosen on a path by the validation loss.

    Attributes:
        path: name of the path.
        best: the setting with the smallest mean loss.
        within: the setting of the largest scale within one standard error of the best;
            None with a single seed.
    """

    path: str
    best: str
    within: str | None


def get_score(outcomes: Sequence[runner.Outcome]) -> str:
    """Returns the task's metric to compare settings by: accuracy, r2 or loss."""
    # A diverged run has NaN for each of them.
    for name in ("accuracy", "r2"):
        if all(f"validation_{name}" in o.values for o in outcomes):
            return name
    return "loss"


def collect(
    outcomes: Sequence[runner.Outcome], setting: str, metric: str
) -> npt.NDArray[np.float64]:
    """Returns a metric of a setting's runs, float64 `[seeds]`."""
    return np.array([o.values[metric] for o in outcomes if o.setting == setting])


def summarize(plan: plans.Plan, outcomes: Sequence[runner.Outcome]) -> list[Row]:
    """Returns a row for each setting; p-values are corrected for their number."""
    score = get_score(outcomes)
    sign = -1 if score == "loss" else 1
    names = [s.name for s in plan.settings]

    def take(metric: str) -> dict[str, npt.NDArray]:
        return {name: collect(outcomes, name, metric) for name in names}

    scores, train_scores = take(f"validation_{score}"), take(f"train_{score}")
    losses, norms, small = map(take, ("validation_loss", "weight_norm", "share_small"))
    differences = {
        s.name: statistics.compare(scores[s.name], scores[s.baseline])
        for s in plan.settings
        if s.baseline is not None
    }
    corrected = statistics.correct_holm([d.p for d in differences.values()])
    p_values = dict(zip(differences, corrected, strict=True))
    compute = statistics.compute_interval
    return [
        Row(
            setting=setting,
            score=compute(scores[name]),
            loss=compute(losses[name]),
            gap=compute(sign * (train_scores[name] - scores[name])),
            norm=compute(norms[name]),
            small=compute(small[name]),
            difference=differences.get(name),
            p=p_values.get(name, math.nan),
        )
        for name, setting in zip(names, plan.settings, strict=True)
    ]


def choose(plan: plans.Plan, outcomes: Sequence[runner.Outcome]) -> list[Choice]:
    """Chooses scales on each path by the validation loss.

    Raises:
        ValueError: no run of a path has a finite loss.
    """
    choices = []
    for path in dict.fromkeys(s.path for s in plan.settings if s.path is not None):
        on_path = {s.scale: s.name for s in plan.settings if s.path == path}
        losses = [
            collect(outcomes, name, "validation_loss") for name in on_path.values()
        ]
        best, within = statistics.choose_scales(
            [scale for scale in on_path if scale is not None], losses
        )
        choices.append(Choice(path, on_path[best], on_path[within] if within else None))
    return choices
