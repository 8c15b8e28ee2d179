"""`tfreg train`: trains a model and writes runs/NAME/.

    status = train.main(["tfreg train", "--help"])

Flags, rules and the directory are checked before TensorFlow is imported.
"""

import contextlib
import os
import shlex
from collections.abc import Callable, Sequence

from absl import flags

from tfreg import runs
from tfreg.cli import commandline, process
from tfreg.runs import config, directories, signals, status

USAGE = """
Trains a model with penalties and writes its directory, runs/NAME/.

  tfreg train --reg=l2 --scale=1e-4
  tfreg train --data=houses.csv --target=price
  tfreg train --reg='l2(1e-4)@kernel;l1(1e-5)@activity:dense_0'
  tfreg train --config=runs/NAME/config.json --run_name=again
  tfreg train --resume --run=runs/NAME
  tensorboard --logdir runs/

In a checkout, `python scripts/train.py` is `tfreg train`.
"""


def define(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    commandline.define_config(values)
    texts = {
        "config": "config.json of a run, to repeat it",
        "run": "directory of the run to resume, with its config",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    switches = {
        "resume": "resume the run if it exists, else begin it; also --resume=auto",
        "overwrite": "replace the run's directory",
        "dry_run": "show variables and losses, write nothing",
    }
    text = "seconds to wait for all workers"
    flags.DEFINE_float(
        "wait_for_workers", 300.0, text, lower_bound=0.0, flag_values=values
    )
    commandline.define_changed_data(values)
    for name, text in switches.items():
        flags.DEFINE_bool(name, False, text, flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Trains the run of the command line; returns the exit status."""
    values = flags.FlagValues()
    define(values)
    if commandline.wants_help(argv):
        print(commandline.format_help(USAGE, values), end="")
        return 0
    commandline.parse(values, argv)
    overwrite, resume = bool(values["overwrite"].value), bool(values["resume"].value)
    if values["run"].value is not None and not resume:
        raise process.UsageError("run must be used with --resume: add it")
    if resume and overwrite:
        raise process.UsageError("resume must be used without --overwrite: drop one")
    settings = commandline.make_config(values, _read_base(values))
    if values["dry_run"].value:
        process.import_tensorflow(settings.divides)
        runs.show(settings, signals.log)
        return 0
    if not _may_have_workers(settings):
        # Fails early: runs.train claims it again, seconds later.
        path = directories.get_path(settings)
        with directories.claim(path, overwrite, resume):
            if resume:
                directories.read_finished(path, settings)
    wait = float(values["wait_for_workers"].value or 0.0)
    allowed = bool(values["allow_changed_data"].value)
    return _train(settings, overwrite, resume, argv[0], wait, allowed)


def _may_have_workers(settings: config.Config) -> bool:
    """Returns whether another process may have created the run's directory."""
    is_listed = "TF_CONFIG" in os.environ or "SLURM_STEP_NUM_TASKS" in os.environ
    auto = settings.strategy == "auto"
    return settings.strategy == "multi_worker" or (auto and is_listed)


def _train(
    settings: config.Config,
    overwrite: bool,
    resume: bool,
    program: str,
    wait: float,
    allowed: bool,
) -> int:
    process.import_tensorflow(settings.divides or _may_have_workers(settings))
    from tfreg.training import strategies

    path = directories.get_path(settings)
    run = f"--run={shlex.quote(str(path))}"
    kept = f"saved in {path}\n{program} --resume {run}"
    with signals.stop_in_order(kept, signals.log, False) as is_interrupted:
        with contextlib.ExitStack() as stack:
            tell: Callable[[str], None] = strategies.tell
            if resume and _may_have_workers(settings) and strategies.is_first():
                tell = stack.enter_context(status.waiting(path))
            devices = settings.logical_devices
            strategy = strategies.make_strategy(settings.strategy, devices, wait, tell)
        args = is_interrupted, signals.log, allowed
        result = runs.train(settings, overwrite, resume, *args)
    test = "  ".join(f"{name} {value:.4f}" for name, value in result["test"].items())
    print(f"test {test}")
    if strategies.is_chief(strategy):  # The other workers write no files.
        predict = program.replace("train", "predict")
        print(f"{path}\n{predict} {run} --data=NEW --output=predictions.csv")
        print(f"tensorboard --logdir {shlex.quote(settings.logdir)}")
    return 0


def _read_base(values: flags.FlagValues) -> config.Config:
    """Returns the Config that the flags change."""
    if values["run"].value is not None:
        return directories.read_run(values["run"].value)
    if values["config"].value is not None:
        return directories.read_config(values["config"].value)
    return config.Config()
