"""What a sweep tells to do: the setting to take, why, and where to look further.

    decided = decision.decide(plan, outcomes, min_effect=0.002)
    decided.setting  # its name, perhaps "none"
    advice = decision.advise(decided, plan, "runs/sweep-l2", tests, "accuracy")

The trap: the smallest of many noisy losses, taken for an effect. The baseline takes
part: it is chosen where it is within one standard error of the best, or the difference
is smaller than the smallest that matters.
"""

import dataclasses
import os
import pathlib
import shlex
from collections.abc import Sequence

import numpy as np

from tfreg.runs import directories
from tfreg.sweeps import plans, runner, selection, statistics


@dataclasses.dataclass(frozen=True)
class Decision:
    """The setting to take.

    Attributes:
        setting: its name.
        best: name of the setting with the smallest validation loss.
        reason: why it isn't the best one, or is.
        hints: sentences on the edges of paths and grids.
    """

    setting: str
    best: str
    reason: str
    hints: tuple[str, ...] = ()


def decide(
    plan: plans.Plan, outcomes: Sequence[runner.Outcome], min_effect: float = 0.0
) -> Decision:
    """Returns the simplest setting within one standard error of the best.

    The simplest is the baseline, then the largest scale on the path of the best.

    Args:
        plan: of the sweep.
        outcomes: of all its runs.
        min_effect: the smallest difference of the score, to the baseline, that matters;
            see `selection.get_score`.

    Raises:
        ValueError: no run has a finite loss.

    Source: Breiman et al. 1984, the rule of one standard error.
    """
    losses = {
        s.name: selection.collect(outcomes, s.name, "validation_loss")
        for s in plan.settings
    }
    means = {name: float(np.mean(values)) for name, values in losses.items()}
    finite = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    if not finite:
        raise ValueError(
            "losses must be finite for some setting, got none: lower learning_rate"
        )
    best = min(finite, key=finite.__getitem__)
    bound = finite[best] + np.nan_to_num(statistics.compute_error(losses[best]))
    settings = {s.name: s for s in plan.settings}
    baseline = plan.settings[0].name
    hints = tuple(_list_edges(plan, settings[best]))
    if best == baseline:
        return Decision(best, best, "it has the smallest validation loss", hints)
    if finite.get(baseline, np.inf) <= bound:
        reason = f"it is within one standard error of the best, {best}"
        return Decision(baseline, best, reason, hints)
    within = [s for s in plan.settings if finite.get(s.name, np.inf) <= bound]
    on_path = [s for s in within if s.path and s.path == settings[best].path]
    chosen = max(on_path, key=lambda s: s.scale or 0.0).name if on_path else best
    effect = _measure(outcomes, chosen) - _measure(outcomes, baseline)
    if abs(effect) < min_effect:
        reason = f"{chosen} changes {selection.get_score(outcomes)} by {effect:+.4f}, "
        reason += f"less than --min_effect={min_effect:g}"
        return Decision(baseline, best, reason, hints)
    if chosen == best:
        return Decision(best, best, "it has the smallest validation loss", hints)
    reason = f"the largest scale within one standard error of the best, {best}"
    return Decision(chosen, best, reason, hints)


def _measure(outcomes: Sequence[runner.Outcome], name: str) -> float:
    score = f"validation_{selection.get_score(outcomes)}"
    return float(np.mean(selection.collect(outcomes, name, score)))


def _list_edges(plan: plans.Plan, best: plans.Setting) -> list[str]:
    """Returns a sentence for each path or grid at whose end the best setting is."""
    hints = []
    scales = [s.scale for s in plan.settings if s.path == best.path and s.scale]
    if best.scale is not None and best.scale in (min(scales), max(scales)):
        hints.append(f"the best scale, {best.scale:g}, is at the edge: extend --scales")
    for name, text in best.grid:
        texts = {dict(s.grid)[name] for s in plan.settings}
        try:
            values = sorted(map(float, texts))
        except ValueError:
            continue
        if len(values) > 2 and float(text) in (values[0], values[-1]):
            hints.append(f"the best {name}, {text}, is at the edge: extend --grid")
    return hints


def advise(
    decided: Decision,
    plan: plans.Plan,
    directory: str | os.PathLike,
    tests: runner.Tests,
    score: str,
) -> str:
    """Returns the choice, its test result, hints, and the command that trains it.

    Args:
        decided: of `decide`.
        plan: of the sweep.
        directory: of the sweep.
        tests: of `runner.evaluate_test`, with the chosen setting.
        score: of `selection.get_score`.
    """
    setting = next(s for s in plan.settings if s.name == decided.setting)
    name = "no penalty" if setting.name == "none" else setting.name
    results = ", ".join(
        f"{metric} {np.mean([test[metric] for test in tests[setting.name]]):.4f}"
        for metric in dict.fromkeys((score, "loss"))
    )
    run = f"{setting.slug}-seed0"
    path = pathlib.Path(directory, run, directories.CONFIG)
    logdir = pathlib.Path(directory).parent
    words = ["tfreg", "train", f"--config={path}", f"--logdir={logdir}"]
    words.append(f"--run_name={pathlib.Path(directory).name}-chosen")
    lines = [f"choice: {name}: {decided.reason}", f"test: {results}", *decided.hints]
    return "\n".join([*lines, shlex.join(words)])
