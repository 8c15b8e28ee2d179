"""The report of a sweep: tables, conclusions, choices and a plot.

    text = report.write(plan, "runs/sweep-l2", outcomes, "sweep.py --reg=l2")

The trap: a choice that was influenced by the test set. The choice is written first,
from outcomes of the training and validation sets only.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import tensorflow as tf

from tfreg.runs import names, results, status
from tfreg.sweeps import decision, plans, plots, runner, selection, statistics
from tfreg.sweeps.selection import Choice, Row
from tfreg.sweeps.statistics import Interval
from tfreg.training import files

ALPHA = 0.05


def write(
    plan: plans.Plan,
    directory: str | os.PathLike,
    outcomes: Sequence[runner.Outcome],
    command: str,
    min_effect: float = 0.0,
) -> str:
    """Writes choice.json, test.json, report.md and report.png into the directory.

    Args:
        plan: of the sweep.
        directory: of the sweep.
        outcomes: of all its runs.
        command: the command line of the sweep, to print in the report.
        min_effect: the smallest difference of the score that matters.

    Returns:
        The table, the conclusions and what to do next, for a terminal.

    Raises:
        OSError: a file can't be written.
        manifests.CheckpointError: a run's checkpoint is missing or damaged.
        ValueError: no run of a path has a finite loss.
    """
    directory = pathlib.Path(directory)
    rows = selection.summarize(plan, outcomes)
    choices = selection.choose(plan, outcomes)
    decided = decision.decide(plan, outcomes, min_effect)
    chosen = list(map(dataclasses.asdict, choices))
    kept = {"paths": chosen, "decision": dataclasses.asdict(decided)}
    files.write(directory / "choice.json", results.to_json(kept))
    # The choice is final now, and the test set may be read.
    tested = _list_tested(rows, choices, decided)
    tests = runner.evaluate_test(plan, directory, tested)
    files.write(directory / "test.json", results.to_json(tests))
    score = selection.get_score(outcomes)
    columns = _list_columns(rows, score)
    summary = _describe_differences(rows, score, min_effect)
    advice = decision.advise(decided, plan, directory, tests, score)
    compared = rows[0].setting, choices, tests, score
    parts = [
        f"# {directory.name}",
        f"`{command}`",
        _describe_plan(plan),
        "![The sweep's picture](report.png)",
        f"## Validation\n\n{summary}",
        _format_markdown(columns),
        _explain(plan, score),
        *_format_choices(*compared, decided),
        *_format_all_tests(rows, choices, tests, score),
    ]
    files.write(directory / "report.md", "\n\n".join(parts) + "\n")
    picture = plots.draw(plan, outcomes, rows, choices, tests, score)
    files.write(directory / "report.png", picture)
    names = [row.setting.name for row in rows]
    table = _format_plain([("setting", names), *columns[2:6]])
    return f"{table}\n\n{summary}\n\n{advice}"


def _list_tested(
    rows: Sequence[Row], choices: Sequence[Choice], decided: decision.Decision
) -> list[str]:
    """Returns the settings to test: the chosen ones and the baseline.

    Without a path or grid all settings are tested.
    """
    finite = [row.setting.name for row in rows if not math.isnan(row.loss.mean)]
    if not choices and not any(row.setting.grid for row in rows):
        return finite
    chosen = [name for choice in choices for name in (choice.best, choice.within)]
    chosen += [decided.best, decided.setting]
    wanted = dict.fromkeys([rows[0].setting.name, *chosen])
    return [name for name in wanted if name in finite]


def format_interval(interval: Interval, digits: int = 4, sign: str = "") -> str:
    """Returns `mean ± half width`, or the mean if there is no interval."""
    if math.isnan(interval.mean):
        return "diverged"
    text = f"{interval.mean:{sign}.{digits}f}"
    if math.isnan(interval.low):
        return text
    return f"{text} ± {interval.high - interval.mean:.{digits}f}"


def format_p(p: float) -> str:
    """Returns a p-value with three decimals, or `< 0.001`."""
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 1e-3 else f"{p:.3f}"


def _list_columns(rows: Sequence[Row], score: str) -> list[tuple[str, list[str]]]:
    def show(interval: Interval | None, digits: int = 4, sign: str = "") -> str:
        return "" if interval is None else format_interval(interval, digits, sign)

    settings = [row.setting.config for row in rows]
    columns = {
        "Keras's": list(map(plans.describe_keras, settings)),
        "tfreg's": list(map(plans.describe, settings)),
        f"validation {score}": [show(row.score) for row in rows],
        "difference": [show(row.difference, 4, "+") for row in rows],
        "p": [format_p(row.p) for row in rows],
        "validation loss": [show(row.loss) for row in rows],
        "gap": [show(row.gap) for row in rows],
        "norm": [show(row.norm, 1) for row in rows],
        f"below {runner.SMALL:g}": [show(row.small, 3) for row in rows],
    }
    return list(columns.items())


def _format_markdown(columns: Sequence[tuple[str, list[str]]]) -> str:
    names = [name for name, _ in columns]
    lines = [names, ["---"] * 2 + ["---:"] * (len(names) - 2)]
    lines += map(list, zip(*(cells for _, cells in columns), strict=True))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _format_plain(columns: Sequence[tuple[str, list[str]]]) -> str:
    heads, cells = zip(*columns, strict=True)
    return status.align([heads, *zip(*cells, strict=True)])


def _describe_plan(plan: plans.Plan) -> str:
    settings = plan.settings[0].config
    hidden = "-".join(map(str, settings.hidden)) if settings.model == "mlp" else ""
    model = f"{settings.model} {hidden}".strip()
    examples = settings.train_examples
    data = names.get_source(settings) + (
        f", {examples:,} training examples drawn by the seed" if examples else ""
    )
    return (
        f"{data}; {model}, {settings.optimizer} at {settings.learning_rate:g}, batch "
        f"{settings.batch_size}, {settings.epochs} epochs; {len(plan.settings)} "
        f"settings, {plan.num_seeds} seeds each, which share initial weights and "
        f"batches; TensorFlow {tf.__version__}."
    )


def _describe_differences(rows: Sequence[Row], score: str, min_effect: float) -> str:
    """Returns sentences that say which settings differ from their baselines."""
    compared = [row for row in rows if row.difference is not None]
    if not compared or all(math.isnan(row.p) for row in compared):
        return "With one seed the significance of differences is unknown."
    sign = -1 if score == "loss" else 1
    groups: dict[str, list[str]] = {"better": [], "worse": [], "same": []}
    for row in compared:
        if row.difference is None or math.isnan(row.p):
            continue
        better = sign * row.difference.mean > 0
        is_effect = row.p < ALPHA and abs(row.difference.mean) >= min_effect
        group = ("better" if better else "worse") if is_effect else "same"
        groups[group].append(row.setting.name)
    texts = {
        "better": "Better than the baseline",
        "worse": "Worse than the baseline",
        "same": "No significant difference from the baseline",
    }
    lines = [
        f"- {texts[group]}: {'; '.join(names)}."
        for group, names in groups.items()
        if names
    ]
    head = (
        f"By validation {score}, paired by seed, p corrected for {len(compared)} "
        f"comparisons (Holm), at {ALPHA:g}"
        f"{f', and by {min_effect:g} or more' * bool(min_effect)}:"
    )
    return "\n".join([head, "", *lines])


def _explain(plan: plans.Plan, score: str) -> str:
    gap = "training minus validation"
    gap = "validation minus training" if score == "loss" else gap
    baselines = dict.fromkeys(s.baseline for s in plan.settings if s.baseline)
    return (
        f"± is half of a 95% t interval over {plan.num_seeds} seeds. difference: to "
        f"the baseline ({' or '.join(baselines)}: the unregularized one of the same "
        f"activation). gap: {score}, {gap}. norm: of all kernels together. below "
        f"{runner.SMALL:g}: fraction of their weights. Keras's L2 has no half: its "
        "scale is half of tfreg's."
    )


def _format_tests(tests: runner.Tests, name: str | None, metric: str) -> str:
    if name not in tests:
        return ""
    values = [test[metric] for test in tests[name]]
    return format_interval(statistics.compute_interval(values))


def _format_choices(
    baseline: plans.Setting,
    choices: Sequence[Choice],
    tests: runner.Tests,
    score: str,
    decided: decision.Decision,
) -> list[str]:
    if not choices and not baseline.grid:
        return []
    head = (
        f"## Choice\n\n**{decided.setting}**: {decided.reason}. By validation loss: "
        "the best scale, and the largest one within one standard error of it. The test "
        "set was read once, after the choice, for these settings and the baseline."
    )
    head = "\n\n".join([head, *(f"- {hint}" for hint in decided.hints)])
    chosen = {"the choice": decided.setting, "the baseline": baseline.name}
    for choice in choices:
        chosen[f"{choice.path}, best"] = choice.best
        if choice.within is not None:
            chosen[f"{choice.path}, within one standard error"] = choice.within
    columns = [
        ("", list(chosen)),
        ("setting", list(chosen.values())),
        *[
            (f"test {m}", [_format_tests(tests, name, m) for name in chosen.values()])
            for m in dict.fromkeys((score, "loss"))
        ],
    ]
    return [head, _format_markdown(columns)]


def _format_all_tests(
    rows: Sequence[Row], choices: Sequence[Choice], tests: runner.Tests, score: str
) -> list[str]:
    """Returns the table of test results and reported ones, if nothing is chosen."""
    tested = [row.setting for row in rows if row.setting.name in tests]
    if choices or not tested or tested[0].grid:
        return []
    scores = [[test[score] for test in tests[s.name]] for s in tested]
    ranges = [statistics.predict(values) for values in scores]
    columns = {
        "Keras's": [plans.describe_keras(s.config) for s in tested],
        "tfreg's": [plans.describe(s.config) for s in tested],
        f"test {score}": [_format_tests(tests, s.name, score) for s in tested],
        "one run": [
            "" if math.isnan(low) else f"{low:.4f} to {high:.4f}"
            for low, high in ranges
        ],
    }
    if any(s.reported for s in tested):
        columns["the note"] = [
            ", ".join(f"{x:.4f}" for x in s.reported) for s in tested
        ]
        columns["inside"] = [
            ", ".join("yes" if low <= x <= high else "no" for x in s.reported)
            for s, (low, high) in zip(tested, ranges, strict=True)
        ]
    head = (
        "## Test\n\nRead once, and not used to choose. one run: 95% prediction "
        "interval of a single run, from these seeds; the note's numbers, if listed, "
        "are of one run each."
    )
    return [head, _format_markdown(list(columns.items()))]
