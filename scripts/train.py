"""Trains a model and writes runs/NAME/; python scripts/train.py --help tells the flags.

python scripts/train.py --reg=l2 --scale=1e-4
tensorboard --logdir runs/
"""

import shlex
import sys

import commandline
from absl import flags

from tfreg import runs
from tfreg.runs import config, directories
from tfreg.training import strategies

USAGE = """
Trains a model with penalties and writes its directory, runs/NAME/.

  python scripts/train.py --reg=l2 --scale=1e-4
  python scripts/train.py --reg='l2(1e-4)@kernel;l1(1e-5)@activity:dense_0'
  python scripts/train.py --config=runs/NAME/config.json --run_name=again
  python scripts/train.py --resume --run=runs/NAME
  tensorboard --logdir runs/
"""


def main(argv: list[str]) -> int:
    """Trains as the command line says; returns the exit status."""
    values = flags.FlagValues()
    commandline.define_config(values)
    flags.DEFINE_string(
        "config", None, "config.json of a run, to repeat it", flag_values=values
    )
    flags.DEFINE_bool(
        "overwrite", False, "replace the run's directory", flag_values=values
    )
    flags.DEFINE_bool(
        "resume", False, "go on with the run if it is there", flag_values=values
    )
    flags.DEFINE_string(
        "run",
        None,
        "directory of the run to resume, with its config",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "dry_run", False, "show variables and losses, write nothing", flag_values=values
    )
    if commandline.wants_help(argv):
        print(commandline.format_help(USAGE, values), end="")
        return 0
    commandline.parse(values, argv)
    is_resumed = bool(values["resume"].value)
    if values["run"].value is not None and not is_resumed:
        raise commandline.UsageError("run must stand with --resume: add it")
    if is_resumed and values["overwrite"].value:
        raise commandline.UsageError("resume must stand without --overwrite: drop one")
    settings = commandline.make_config(values, _read_base(values))
    if values["dry_run"].value:
        runs.show(settings)
        return 0
    return _train(settings, bool(values["overwrite"].value), is_resumed)


def _train(settings: config.Config, overwrite: bool, resume: bool) -> int:
    path = directories.get_path(settings)
    with commandline.stop_training(f"saved in {path}") as is_interrupted:
        result = runs.train(
            settings, overwrite, resume, is_interrupted, commandline.tell
        )
    test = "  ".join(f"{name} {value:.4f}" for name, value in result["test"].items())
    print(f"test {test}")
    # The other workers have written nothing.
    strategy = strategies.make_strategy(settings.strategy, settings.logical_devices)
    if strategies.is_chief(strategy):
        print(f"{path}\ntensorboard --logdir {shlex.quote(settings.logdir)}")
    return 0


def _read_base(values: flags.FlagValues) -> config.Config:
    """Returns the config that the other flags change."""
    if values["run"].value is not None:
        return directories.read_run(values["run"].value)
    if values["config"].value is not None:
        return directories.read_config(values["config"].value)
    return config.Config()


if __name__ == "__main__":
    sys.exit(commandline.run(lambda: main(sys.argv)))
