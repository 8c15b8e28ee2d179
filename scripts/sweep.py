"""Trains settings x seeds and writes a report; --help tells the flags.

python scripts/sweep.py --reg=l2 --scales=1e-6:1e-2:9
tensorboard --logdir runs/sweep-NAME
"""

import contextlib
import dataclasses
import os
import pathlib
import shlex
import sys

import commandline
import tensorflow as tf
from absl import flags

from tfreg.runs import config, directories
from tfreg.sweeps import plans, report, runner

USAGE = """
Trains settings x seeds, several runs at once, and writes a report on them.

  python scripts/sweep.py --reg=l2 --scales=1e-6:1e-2:9
  python scripts/sweep.py --reg=l1 --reg=l2 --reg_on=kernel --reg_on=kernel,bias
  python scripts/sweep.py --preset=note --dataset=mnist --data_dir=DIR
  tensorboard --logdir runs/sweep-NAME
"""
OWN = ("reg", "scale", "reg_on", "seed", "run_name")
SCALES = "1e-6:1e-2:9"


def _define(values: flags.FlagValues) -> None:
    commandline.define_config(values, OWN)
    several = {
        "reg": "l1, l2 or l1_l2; may be given several times",
        "reg_on": "kernel, bias, activity, with commas those penalized together; "
        "may be given several times [kernel]",
    }
    for name, text in several.items():
        flags.DEFINE_multi_string(name, None, text, flag_values=values)
    texts = {
        "preset": "note: the twelve settings of the note, instead of --reg",
        "scales": "LOW:HIGH:COUNT, evenly in the logarithm, or a list; contrib's "
        f"convention: Keras's L2 doubled [{SCALES}]",
        "seeds": "number of seeds that each setting is trained with [5]",
        "lanes": "runs at once, each on a core [the number of cores]",
        "name": "the directory is sweep-NAME in --logdir [says what is run]",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_bool(
        "resume", False, "go on with a sweep, keep its runs", flag_values=values
    )
    flags.DEFINE_bool("overwrite", False, "replace a sweep", flag_values=values)


def _parse_int(values: flags.FlagValues, name: str, default: int) -> int:
    text = values[name].value
    try:
        number = default if text is None else int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise commandline.UsageError(
            f"{name} must be an int >= 1, got {text!r}: see --help"
        )
    return number


def _make_plan(values: flags.FlagValues) -> runner.Plan:
    base = commandline.make_config(values, config.Config(), OWN)
    num_seeds = _parse_int(values, "seeds", 5)
    preset, regs = values["preset"].value, values["reg"].value
    if preset is not None:
        given = [
            n for n in ("reg", "reg_on", "scales", "activation") if values[n].value
        ]
        if preset != "note" or given:
            raise commandline.UsageError(
                "preset must be note, and reg, reg_on, scales and activation left to "
                f"it, got {preset!r} with {', '.join(given) or 'nothing'}: choose one"
            )
        return runner.Plan(plans.make_note(base), num_seeds)
    if regs is None:
        raise commandline.UsageError(
            "a sweep must know what is compared, got neither preset nor reg: write "
            "--preset=note or --reg=l2"
        )
    scales = plans.parse_scales(values["scales"].value or SCALES)
    targets = [tuple(text.split(",")) for text in values["reg_on"].value or ["kernel"]]
    if "none" not in regs:
        print("none, the unregularized baseline, is added")
    regs = [reg for reg in regs if reg != "none"]
    return runner.Plan(plans.make_paths(base, regs, targets, scales), num_seeds)


def _get_directory(values: flags.FlagValues, plan: runner.Plan) -> pathlib.Path:
    settings = plan.settings[0].config
    name = values["name"].value
    if name is None:
        paths = dict.fromkeys(s.path for s in plan.settings if s.path)
        told = "+".join(paths).replace(" on ", "_").replace(" + ", "+")
        name = f"{told or 'note'}-{settings.dataset}"
        name += f"-{settings.train_examples}" if settings.train_examples else ""
    # Config knows what a directory may be called.
    named = dataclasses.replace(settings, run_name=f"sweep-{name}")
    return directories.get_path(named)


def main(argv: list[str]) -> int:
    """Sweeps as the command line says; returns the exit status."""
    values = flags.FlagValues()
    _define(values)
    if commandline.wants_help(argv):
        print(commandline.format_help(USAGE, values), end="")
        return 0
    commandline.parse(values, argv)
    report.check_packages()
    plan = _make_plan(values)
    directory = _get_directory(values, plan)
    num_lanes = _parse_int(values, "lanes", len(os.sched_getaffinity(0)))
    if num_lanes > 1:
        # A lane keeps to its core; TensorFlow may have started already in a test.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.get_logger().setLevel("ERROR")  # Many programs look like one traced again.
    command = ["python", *(a for a in argv if a not in ("--resume", "--overwrite"))]
    resume, overwrite = bool(values["resume"].value), bool(values["overwrite"].value)
    kept = f"finished runs are kept in {directory}, go on by --resume"
    with commandline.stop_training(kept) as is_interrupted:
        outcomes = runner.train(
            plan, directory, num_lanes, resume, overwrite, is_interrupted
        )
    written = report.write(plan, directory, outcomes, shlex.join(command))
    print(f"\n{written}\n{directory}/report.md")
    print(f"tensorboard --logdir {shlex.quote(str(directory))}")
    return 0


if __name__ == "__main__":
    sys.exit(commandline.run(lambda: main(sys.argv)))
