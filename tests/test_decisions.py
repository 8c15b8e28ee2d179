"""What a sweep tells to do: the rule of one standard error, effects, edges, grids."""

import math

import numpy as np
import pytest
from absl import flags

from tfreg.cli import commandline, process
from tfreg.cli import sweep as command
from tfreg.runs import config
from tfreg.sweeps import decision, plans, runner, selection

SCALES = (1e-4, 1e-3, 1e-2)


def make_plan(num_seeds=4):
    made = plans.make_paths(config.Config(), ["l2"], [("kernel",)], SCALES)
    return plans.Plan(made, num_seeds)


def make_outcomes(plan, losses, scores=None, spread=0.1):
    """Returns outcomes with these means; the standard error is `spread` / sqrt(3)."""
    noise = spread * np.array([-1, 1, -1, 1.0])[: plan.num_seeds]
    values = []
    for i, setting in enumerate(plan.settings):
        for seed in range(plan.num_seeds):
            known = dict.fromkeys(runner.METRICS, 0.0)
            del known["validation_r2"]
            known["validation_loss"] = losses[i] + noise[seed]
            known["validation_accuracy"] = (scores or [0] * len(losses))[i]
            values.append(runner.Outcome(setting.name, seed, known))
    return values


ERROR = 0.1 / math.sqrt(3)  # std(ddof=1) of the noise is 0.2 / sqrt(3), over sqrt(4).
CASES = [
    ([1.0, 1.2, 1.3, 1.4], "none", "smallest validation loss"),
    ([1.0, 1 - 0.9 * ERROR, 1.3, 1.4], "none", "within one standard error of the best"),
    ([1.0, 1 - 1.1 * ERROR, 1.3, 1.4], "l2 0.0001 on kernel", "smallest validation"),
    ([1.0, 0.8, 0.8 + 0.9 * ERROR, 1.4], "l2 0.001 on kernel", "the largest scale"),
    ([1.0, 0.8, 0.8 + 1.1 * ERROR, 1.4], "l2 0.0001 on kernel", "smallest validation"),
    ([math.nan, 0.8, 1.3, 1.4], "l2 0.0001 on kernel", "smallest validation loss"),
]


@pytest.mark.parametrize(("losses", "wanted", "reason"), CASES)
def test_the_baseline_takes_part_in_the_rule_of_one_error(losses, wanted, reason):
    plan = make_plan()
    decided = decision.decide(plan, make_outcomes(plan, losses))
    assert decided.setting == wanted and reason in decided.reason


def test_an_effect_that_does_not_matter_is_no_reason_for_a_penalty():
    plan = make_plan()
    outcomes = make_outcomes(plan, [1.0, 0.5, 1.3, 1.4], [0.9, 0.904, 0.8, 0.8])
    assert decision.decide(plan, outcomes, 0.003).setting == "l2 0.0001 on kernel"
    decided = decision.decide(plan, outcomes, 0.005)
    assert decided.setting == "none" and decided.best == "l2 0.0001 on kernel"
    assert "changes accuracy by +0.0040, less than --min_effect" in decided.reason
    assert decided.hints == ("the best scale, 0.0001, is at the edge: extend --scales",)
    with pytest.raises(ValueError, match="losses must be finite for some setting"):
        decision.decide(plan, make_outcomes(plan, [math.nan] * 4))


def make(*argv):
    values = flags.FlagValues()
    command._define(values)
    commandline.parse(values, ["tfreg sweep", *argv])
    return command._make_plan(values)


def test_a_grid_has_all_combinations_of_the_values_of_any_flags():
    grid = ["--grid", "learning_rate=1e-4,1e-3", "--grid", "augment=none,flip+crop(4)"]
    settings = make(*grid, "--grid", "hidden=8+8,4").settings
    assert len(settings) == 8
    first, last = settings[0], settings[-1]
    # The baseline has the default rate, if it is among the values.
    assert first.name == "learning_rate=1e-3, augment=none, hidden=8+8"
    assert first.baseline is None and {s.baseline for s in settings[1:]} == {first.name}
    assert last.config.learning_rate == 1e-4 and last.config.hidden == (4,)
    assert last.config.augment == ("flip", "crop(4)")


def test_a_grid_is_crossed_with_penalties_and_their_baselines():
    settings = make("--reg=l2", "--scales=1e-3", "--grid", "epochs=2,10").settings
    pairs = [(s.name, s.baseline, s.config.epochs) for s in settings]
    assert pairs == [
        ("none, epochs=10", None, 10),
        ("l2 0.001 on kernel, epochs=10", "none, epochs=10", 10),
        ("none, epochs=2", "none, epochs=10", 2),
        ("l2 0.001 on kernel, epochs=2", "none, epochs=2", 2),
    ]
    assert settings[3].config.reg == "l2" and settings[3].scale == 1e-3


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--grid", "rate=1,2"], "grid must be a flag of model or training"),
        (["--grid", "seed=1,2"], "grid must be a flag of model or training"),
        (["--grid", "data=a,b"], "grid must be a flag of model or training"),
        (["--grid", "deterministic=true"], "grid must be a flag of model or training"),
        (["--grid", "epochs=1", "--grid", "epochs=2"], "each flag once"),
        (["--grid", "epochs=1,x"], "epochs must be a whole number, got 'x'"),
        (["--grid", "dropout=0,1"], "dropout must be in "),
        (["--preset=note", "--grid", "epochs=1,2"], "with grid: choose one"),
    ],
)
def test_what_is_no_grid_is_one_sentence(argv, message):
    with pytest.raises((process.UsageError, ValueError), match=message):
        make(*argv)


def test_the_advice_names_result_edge_and_command():
    points = plans.make_grid(config.Config(), {"epochs": {"2": 2, "4": 4, "10": 10}})
    plan = plans.Plan(points, 4)
    outcomes = make_outcomes(plan, [1.0, 2.0, 3.0])
    decided = decision.decide(plan, outcomes)
    assert decided.setting == "epochs=10"
    tests = {"epochs=10": [{"accuracy": 0.5, "loss": 1.0}] * 4}
    text = decision.advise(decided, plan, "runs/sweep-a", tests, "accuracy")
    assert text.splitlines() == [
        "choice: epochs=10: it has the smallest validation loss",
        "test: accuracy 0.5000, loss 1.0000",
        "the best epochs, 10, is at the edge: extend --grid",
        "tfreg train --config=runs/sweep-a/epochs=10-seed0/config.json --logdir=runs "
        "--run_name=sweep-a-chosen",
    ]


def test_a_regression_is_compared_by_r2():
    plan = make_plan()
    outcomes = make_outcomes(plan, [1.0, 2.0, 3.0, 4.0])
    assert selection.get_score(outcomes) == "accuracy"
    for outcome in outcomes:
        del outcome.values["validation_accuracy"]
        outcome.values["validation_r2"] = outcome.values["validation_loss"] / 10
    assert selection.get_score(outcomes) == "r2"
    rows = selection.summarize(plan, outcomes)
    assert rows[1].difference.mean == pytest.approx(0.1)
    # Training minus validation: more is better.
    assert rows[1].gap.mean == pytest.approx(-0.2)
