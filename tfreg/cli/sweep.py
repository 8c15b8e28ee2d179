"""`tfreg sweep`: trains settings x seeds and writes a report.

    status = sweep.main(["tfreg sweep", "--help"])

The plan and the directory are checked before TensorFlow is imported.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence

from absl import flags

from tfreg.cli import commandline, process
from tfreg.runs import config, directories, names, signals
from tfreg.sweeps import plans

USAGE = """
Trains settings x seeds, several runs at once, and writes a report.

  tfreg sweep --reg=l2 --scales=1e-6:1e-2:9
  tfreg sweep --reg=l1 --reg=l2 --reg_on=kernel --reg_on=kernel,bias
  tfreg sweep --data=houses.csv --target=price --grid learning_rate=1e-4,1e-3
  tfreg sweep --preset=note --dataset=mnist --data_dir=DIR
  tensorboard --logdir runs/sweep-NAME

In a checkout, `python scripts/sweep.py` is `tfreg sweep`.
"""
OWN = ("reg", "scale", "reg_on", "seed", "run_name")
SCALES = "1e-6:1e-2:9"


def _define(values: flags.FlagValues) -> None:
    commandline.define_config(values, OWN)
    several = {
        "reg": "l1, l2 or l1_l2; may be given several times",
        "reg_on": "kernel, bias, activity, with commas to penalize them together; "
        "may be given several times [kernel]",
        "grid": "values of a flag, such as learning_rate=1e-4,1e-3; several times: all "
        "their combinations",
    }
    for name, text in several.items():
        flags.DEFINE_multi_string(name, None, text, flag_values=values)
    texts = {
        "preset": "note: the twelve settings of the note, instead of --reg",
        "scales": "a logarithmic grid LOW:HIGH:COUNT, or a list; contrib's "
        f"convention: Keras's L2 doubled [{SCALES}]",
        "seeds": "number of seeds for each setting [5]",
        "min_effect": "smallest difference of the accuracy, R2 or loss to the baseline "
        "that matters [0]",
        "lanes": "number of runs at once, each on a core [the number of cores]",
        "name": "the directory is sweep-NAME in --logdir [made from the settings]",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_bool(
        "resume", False, "resume a sweep, keep its finished runs", flag_values=values
    )
    flags.DEFINE_bool("overwrite", False, "replace a sweep", flag_values=values)
    commandline.define_changed_data(values)


def _parse_int(values: flags.FlagValues, name: str, default: int) -> int:
    text = values[name].value
    try:
        number = default if text is None else int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise process.UsageError(
            f"{name} must be an int >= 1, got {text!r}: see --help"
        )
    return number


def _parse_effect(values: flags.FlagValues) -> float:
    text = values["min_effect"].value or "0"
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) < math.inf:
            return number
    raise process.UsageError(
        f"min_effect must be a finite float >= 0, got {text!r}: write for example 0.002"
    )


def _make_plan(values: flags.FlagValues) -> plans.Plan:
    base = commandline.make_config(values, config.Config(), OWN)
    num_seeds = _parse_int(values, "seeds", 5)
    preset, regs = values["preset"].value, values["reg"].value
    grid = commandline.parse_grid(values["grid"].value or [], _list_fixed())
    if preset is not None:
        names = ("reg", "reg_on", "scales", "activation", "grid")
        given = [n for n in names if values[n].value]
        if preset != "note" or given:
            raise process.UsageError(
                "preset must be note, without reg, reg_on, scales, activation and "
                f"grid, got {preset!r} with {', '.join(given) or 'nothing'}: choose one"
            )
        return plans.Plan(plans.make_note(base), num_seeds)
    if regs is None and not grid:
        raise process.UsageError(
            "a sweep must have settings, got neither preset nor reg nor grid: write "
            "--preset=note, --reg=l2 or --grid learning_rate=1e-4,1e-3"
        )
    points = plans.make_grid(base, grid) if grid else ()
    if regs is None:
        return plans.Plan(points, num_seeds)
    scales = plans.parse_scales(values["scales"].value or SCALES)
    targets = [tuple(text.split(",")) for text in values["reg_on"].value or ["kernel"]]
    if "none" not in regs:
        print("none, the unregularized baseline, is added")
    regs = [reg for reg in regs if reg != "none"]
    if points:
        return plans.Plan(plans.cross(points, regs, targets, scales), num_seeds)
    return plans.Plan(plans.make_paths(base, regs, targets, scales), num_seeds)


def _list_fixed() -> list[str]:
    """Returns the fields that all settings of a sweep share, or that it sets itself."""
    groups = ("output", "devices", "data")
    known = dataclasses.fields(config.Config)
    fixed = [f.name for f in known if f.metadata["group"] in groups]
    return [*OWN, *(name for name in fixed if name != "train_examples")]


def _get_directory(values: flags.FlagValues, plan: plans.Plan) -> pathlib.Path:
    settings = plan.settings[0].config
    name = values["name"].value
    if name is None:
        names_of = (s.path.partition(", ")[0] for s in plan.settings if s.path)
        paths = dict.fromkeys(names_of)
        regs = "+".join(paths).replace(" on ", "_").replace(" + ", "+")
        grid = "+".join(name for name, _ in plan.settings[0].grid)
        regs = "+".join(filter(None, (regs, grid)))
        source = re.sub(r"[^A-Za-z0-9._=+-]+", "_", names.get_source(settings))
        name = f"{regs or 'note'}-{source}"
        name += f"-{settings.train_examples}" if settings.train_examples else ""
    # Config checks the name.
    named = dataclasses.replace(settings, run_name=f"sweep-{name}")
    return directories.get_path(named)


def _check_packages() -> None:
    """Checks that the packages for the report are installed.

    Raises:
        ValueError: SciPy or matplotlib isn't installed.
    """
    for name in ("scipy", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                f"a report must have the package {name}, got no such package: run "
                "python -m pip install 'tfreg[sweep]' (or -e '.[sweep]')"
            )


def main(argv: Sequence[str]) -> int:
    """Runs the sweep of the command line; returns the exit status."""
    values = flags.FlagValues()
    _define(values)
    if commandline.wants_help(argv):
        print(commandline.format_help(USAGE, values), end="")
        return 0
    commandline.parse(values, argv)
    _check_packages()
    plan = _make_plan(values)
    directory = _get_directory(values, plan)
    num_lanes = _parse_int(values, "lanes", len(os.sched_getaffinity(0)))
    names = "resume", "overwrite", "allow_changed_data"
    how = {name: bool(values[name].value) for name in names}
    effect = _parse_effect(values)
    args = directory, plan.to_json(), how["resume"], how["overwrite"]
    with directories.claim_sweep(*args):
        pass  # Fails early: runner.train claims it again, seconds later.
    words = [arg for arg in argv[1:] if arg not in ("--resume", "--overwrite")]
    command = f"{argv[0]} {shlex.join(words)}"
    return _sweep(plan, directory, num_lanes, how, command, effect)


def _sweep(
    plan: plans.Plan,
    directory: pathlib.Path,
    num_lanes: int,
    how: Mapping[str, bool],
    command: str,
    min_effect: float,
) -> int:
    process.import_tensorflow(any(s.config.divides for s in plan.settings))
    import tensorflow as tf

    from tfreg.sweeps import report, runner

    if num_lanes > 1:
        # One core per lane; in a test TensorFlow may have started already.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.get_logger().setLevel("ERROR")  # Many programs would look like retracing.
    kept = f"finished runs are kept in {directory}, resume with --resume"
    with signals.stop_in_order(kept, signals.log, False) as is_interrupted:
        outcomes = runner.train(
            plan,
            directory,
            num_lanes,
            how["resume"],
            how["overwrite"],
            is_interrupted,
            how["allow_changed_data"],
        )
    summary = report.write(plan, directory, outcomes, command, min_effect)
    print(f"\n{summary}\n{directory}/report.md")
    print(f"tensorboard --logdir {shlex.quote(str(directory))}")
    return 0
