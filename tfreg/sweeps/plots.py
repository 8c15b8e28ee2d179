"""A sweep's plot: the paths of scales, or the settings as points with intervals.

    png = plots.draw(plan, outcomes, rows, choices, tests, "accuracy")

matplotlib is imported only when it is needed: `pip install tfreg[sweep]`.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfreg.sweeps import plans, runner, selection, statistics

# Okabe and Ito's colours, distinct also for the colour-blind; the marks differ too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


def draw(
    plan: plans.Plan,
    outcomes: Sequence[runner.Outcome],
    rows: Sequence[selection.Row],
    choices: Sequence[selection.Choice],
    tests: runner.Tests,
    score: str,
) -> bytes:
    """Returns a PNG of the paths if there are any, otherwise of all settings.

    Args:
        plan: of the sweep.
        outcomes: of all its runs.
        rows: of `selection.summarize`.
        choices: of `selection.choose`.
        tests: results on the test set of some settings.
        score: accuracy or loss.
    """
    import matplotlib.figure

    size = (max(6.5, 3.6 * len(choices)), 5.2)
    if not choices:
        size = 9.5, 1.4 + 0.32 * len(rows)
    figure = matplotlib.figure.Figure(size, dpi=150, layout="constrained")
    figure.suptitle(_describe(plan), fontsize=10)
    if choices:
        _draw_paths(figure, outcomes, rows, choices, score)
    else:
        _draw_settings(figure, rows, tests, score)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_paths(
    figure: Any,
    outcomes: Sequence[runner.Outcome],
    rows: Sequence[selection.Row],
    choices: Sequence[selection.Choice],
    score: str,
) -> None:
    """Draws the losses above the norms, a column for each path."""
    axes = figure.subplots(
        2,
        len(choices),
        sharex="col",
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": (3, 2)},
    )
    for i, choice in enumerate(choices):
        _draw_path(axes[:, i], outcomes, rows, choice)
    # Scales so large that nothing is learned would stretch the axis.
    bests = {choice.best for choice in choices}
    least = max(row.loss.mean for row in rows if row.setting.name in bests)
    axes[0, 0].set_ylim(0, min(axes[0, 0].get_ylim()[1], 2.5 * least))
    axes[0, 0].set_ylabel("cross entropy (nats)" if score == "accuracy" else "loss")
    axes[1, 0].set_ylabel("norm of the kernels")
    axes[0, 0].legend(frameon=False, fontsize=8)


def _describe(plan: plans.Plan) -> str:
    settings = plan.settings[0].config
    examples = settings.train_examples
    size = f", {examples:,} training examples" if examples else ""
    return (
        f"{settings.dataset}{size}, {settings.epochs} epochs; means and 95% intervals "
        f"of n = {plan.num_seeds} seeds"
    )


def _get_errors(intervals: Sequence[statistics.Interval]) -> tuple[Any, Any]:
    """Returns the means and the half widths, 0 if there is no interval."""
    means = np.array([interval.mean for interval in intervals])
    halves = np.array([interval.high - interval.mean for interval in intervals])
    return means, np.nan_to_num(halves)


def _draw_path(
    axes: Any,
    outcomes: Sequence[runner.Outcome],
    rows: Sequence[selection.Row],
    choice: selection.Choice,
) -> None:
    on_path = [row for row in rows if row.setting.path == choice.path]
    scales = [row.setting.scale or 0.0 for row in on_path]
    compute = statistics.compute_interval
    curves = {
        "validation": (BLUE, "o-", [row.loss for row in on_path]),
        "train": (
            ORANGE,
            "s--",
            [
                compute(selection.collect(outcomes, row.setting.name, "train_loss"))
                for row in on_path
            ],
        ),
    }
    top, bottom = axes
    for label, (colour, style, intervals) in curves.items():
        means, halves = _get_errors(intervals)
        top.errorbar(
            scales, means, halves, fmt=style, ms=4, capsize=3, color=colour, label=label
        )
    baseline = next(row for row in rows if row.setting.baseline is None)
    top.axhline(baseline.loss.mean, color=GREY, ls=":", label="validation, no penalty")
    norms, halves = _get_errors([row.norm for row in on_path])
    bottom.errorbar(scales, norms, halves, fmt="D-", ms=4, capsize=3, color=GREEN)
    bottom.axhline(baseline.norm.mean, color=GREY, ls=":")
    _mark(axes, on_path, choice)
    top.set_title(choice.path, fontsize=10)
    top.set_xscale("log")
    top.set_xlim(0.7 * min(scales), 1.4 * max(scales))
    bottom.set_xlabel("scale (contrib's convention)")


def _mark(axes: Any, rows: Sequence[selection.Row], choice: selection.Choice) -> None:
    """Draws a star at the best scale, and a ring at the one within a standard error."""
    top, bottom = axes
    chosen = {"best": (choice.best, "k*", 9), "within 1 SE": (choice.within, "ko", 13)}
    for label, (name, style, size) in chosen.items():
        for row in rows:
            if row.setting.name == name:
                mark = {
                    "ms": size,
                    "mfc": "none" if style == "ko" else "k",
                    "zorder": 5,
                }
                top.plot(row.setting.scale, row.loss.mean, style, label=label, **mark)
                bottom.plot(row.setting.scale, row.norm.mean, style, **mark)


def _draw_settings(
    figure: Any, rows: Sequence[selection.Row], tests: runner.Tests, score: str
) -> None:
    """Draws the test scores with the reported ones, and the differences."""
    figure.supylabel("setting, Keras's scales", fontsize=9)
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(rows))
    tested = [
        statistics.compute_interval([t[score] for t in tests[row.setting.name]])
        if row.setting.name in tests
        else statistics.Interval(math.nan, math.nan, math.nan)
        for row in rows
    ]
    means, halves = _get_errors(tested)
    style = {"fmt": "o", "ms": 5, "capsize": 3, "color": BLUE}
    left.errorbar(means, places, xerr=halves, label="ours", **style)
    reported = [(x, i) for i, row in enumerate(rows) for x in row.setting.reported]
    if reported:
        label = "the note, one run"
        left.plot(*zip(*reported, strict=True), "x", color=ORANGE, ms=7, label=label)
        left.legend(frameon=False, fontsize=8)
    left.set_yticks(
        places, [plans.describe_keras(row.setting.config) for row in rows], fontsize=8
    )
    left.invert_yaxis()
    left.set_xlabel(f"test {score}", fontsize=9)
    _draw_differences(right, rows, style | {"color": GREEN})
    right.set_xlabel(f"validation {score}, difference to baseline", fontsize=9)
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=8)


def _draw_differences(
    axes: Any, rows: Sequence[selection.Row], style: dict[str, Any]
) -> None:
    """Draws the paired differences to the baselines."""
    compared = [(i, r.difference) for i, r in enumerate(rows) if r.difference]
    means, halves = _get_errors([difference for _, difference in compared])
    # Wide enough for most; the few outliers are written as numbers.
    limit = 3 * float(np.nanmedian(np.abs(means) + halves)) or 1e-3
    axes.axvline(0, color=GREY, ls=":")
    for (i, _), mean, half in zip(compared, means, halves, strict=True):
        if abs(mean) <= limit:
            axes.errorbar([mean], [i], xerr=[half], **style)
        else:
            text = f"← {mean:+.4f}" if mean < 0 else f"{mean:+.4f} →"
            side = -limit if mean < 0 else limit
            align = "left" if mean < 0 else "right"
            axes.text(side, i, text, va="center", ha=align, fontsize=8, color=GREEN)
    axes.set_xlim(-limit, limit)
