"""What a sweep compares: settings, each a Config, and their baselines.

    scales = plans.parse_scales("1e-5:1e-2:4")
    compared = plans.make_paths(config.Config(), ["l2"], [("kernel",)], scales)
    compared = plans.make_note(config.Config(dataset="mnist"))

The trap: Keras's `l2(s)` and contrib's differ by a factor of two. A setting is told in
both conventions.
"""

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from tfreg import rules
from tfreg.runs import config


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of a sweep's tables; it is trained once for each seed.

    Attributes:
        name: tells it from the others.
        config: of its runs, but for the seed.
        baseline: name of the setting that it is compared with; None: of none.
        path: name of the settings that differ from it in the scale alone.
        scale: its place on the path.
        reported: accuracies that somebody else has found.
    """

    name: str
    config: config.Config
    baseline: str | None = None
    path: str | None = None
    scale: float | None = None
    reported: tuple[float, ...] = ()

    @property
    def slug(self) -> str:
        """The name as a part of a directory's name."""
        return re.sub(r"[^A-Za-z0-9._=+-]+", "_", self.name).strip("_")


def describe(settings: config.Config) -> str:
    """Returns the penalties as `--reg` takes them, and an activation but ReLU."""
    text = ";".join(map(str, settings.get_rules())) or "none"
    return _add_activation(settings, text)


def describe_keras(settings: config.Config) -> str:
    """Returns the penalties with Keras's scales, whose L2 has no half."""
    targets: dict[str, list[str]] = {}
    for rule in settings.get_rules():
        scales = ", ".join(f"{scale:.6g}" for scale in _multiply_l2(rule, 0.5).scales)
        penalty = f"{rule.regularizer}({scales})"
        targets.setdefault(penalty, []).append(rule.target)
    parts = [f"{' + '.join(names)} {penalty}" for penalty, names in targets.items()]
    return _add_activation(settings, " + ".join(parts) or "none")


def _multiply_l2(rule: rules.Rule, by: float) -> rules.Rule:
    """Returns the rule with the scale of its L2 part, if it has one, multiplied."""
    if rule.regularizer == "l1":
        return rule
    *others, l2 = rule.scales
    return dataclasses.replace(rule, scales=(*others, l2 * by))


def _add_activation(settings: config.Config, text: str) -> str:
    if settings.activation == "relu":
        return text
    return f"{settings.activation}, {text}"


def parse_scales(text: str) -> tuple[float, ...]:
    """Returns the scales of `LOW:HIGH:COUNT`, evenly in the logarithm, or of a list.

    Raises:
        ValueError: no scale, one that isn't a finite float > 0, one twice, or a grid
            that doesn't rise.
    """
    parts = [part.strip() for part in text.split(":")]
    try:
        if len(parts) == 1:
            scales = [float(part) for part in text.split(",") if part.strip()]
        else:
            low, high, count = float(parts[0]), float(parts[1]), int(parts[2])
            if not (0 < low < high < math.inf and count >= 2 and len(parts) == 3):
                raise ValueError
            # Rounded, so that 1e-4 is 0.0001 in every table.
            scales = [float(f"{s:.3g}") for s in np.geomspace(low, high, count)]
    except (ValueError, IndexError):
        raise ValueError(
            f"scales must be LOW:HIGH:COUNT with 0 < LOW < HIGH and COUNT >= 2, or a "
            f"list, got {text!r}: write for example 1e-6:1e-2:9 or 1e-4,1e-3"
        ) from None
    good = all(0 < scale < math.inf for scale in scales)
    if not scales or not good or len(set(scales)) < len(scales):
        raise ValueError(
            f"scales must be one or more different finite floats > 0, got {text!r}: "
            "leave 0 out, the baseline is always there"
        )
    return tuple(sorted(scales))


def make_paths(
    base: config.Config,
    regs: Sequence[str],
    targets: Sequence[tuple[str, ...]],
    scales: Sequence[float],
) -> tuple[Setting, ...]:
    """Returns the baseline and a path of scales for each regularizer and targets.

    Args:
        base: what all have in common.
        regs: names such as l2.
        targets: each what is penalized together, such as `("kernel", "bias")`.
        scales: of every path, contrib's convention.

    Raises:
        ValueError: a value that isn't allowed, or no path.
    """
    plain = dataclasses.replace(base, reg="none", scale=None, reg_on=("kernel",))
    made = [Setting("none", plain)]
    for reg in dict.fromkeys(regs):
        if reg not in rules.FACTORIES:
            raise ValueError(
                f"reg must be one of {', '.join(rules.FACTORIES)} in a sweep, got "
                f"{reg!r}: choose one of them"
            )
        for target in dict.fromkeys(targets):
            path = f"{reg} on {' + '.join(target)}"
            for scale in scales:
                settings = dataclasses.replace(
                    base, reg=reg, scale=scale, reg_on=target
                )
                name = f"{reg} {scale:.6g} on {' + '.join(target)}"
                made.append(Setting(name, settings, "none", path, scale))
    if len(made) == 1:
        raise ValueError("reg must name a regularizer, got none: write --reg=l2")
    return tuple(made)


# Activation, Keras's penalties on the hidden layer, and the note's test accuracies. Its
# ninth row may stand alone or continue the eighth: 0.9783 is beside both.
_NOTE: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("relu", "", (0.9770,)),
    ("relu", "l1(1e-3)@kernel", (0.9421,)),
    ("relu", "l2(1e-3)@kernel", (0.9690,)),
    ("relu", "l2(1e-4)@kernel", (0.9785,)),
    ("relu", "l1_l2(1e-4,1e-4)@kernel", (0.9753,)),
    ("relu", "l2(1e-4)@bias", (0.9755,)),
    ("relu", "l2(1e-4)@activity", (0.9764, 0.9783)),
    ("relu", "l2(1e-4)@kernel;l2(1e-4)@bias", (0.9771,)),
    ("relu", "l2(1e-4)@kernel;l2(1e-4)@bias;l2(1e-4)@activity", (0.9783,)),
    ("linear", "", (0.9233,)),
    ("linear", "l2(1e-4)@kernel;l2(1e-4)@bias", (0.9225,)),
    ("linear", "l2(1e-4)@activity", (0.9199,)),
)


_SAME = (
    "train_examples",
    "model",
    "hidden",
    "dropout",
    "optimizer",
    "learning_rate",
    "schedule",
    "batch_size",
    "epochs",
)


def make_note(base: config.Config) -> tuple[Setting, ...]:
    """Returns the settings of the note, whose scales are Keras's, penalties halved.

    Two of its rows are one setting, and one row can be read in two ways: thirteen
    rows, twelve settings. Each is compared with its activation's unregularized one.
    The note's accuracies are beside them where data and training are the note's.
    """
    plain = config.Config()
    is_same = base.dataset == "mnist" and all(
        getattr(base, name) == getattr(plain, name) for name in _SAME
    )
    made: list[Setting] = []
    baselines: dict[str, str] = {}
    for activation, text, reported in _NOTE:
        ours = [
            dataclasses.replace(_multiply_l2(rule, 2.0), pattern="dense_0")
            for rule in (rules.parse(text) if text else ())
        ]
        settings = dataclasses.replace(
            base,
            reg=";".join(map(str, ours)) or "none",
            scale=None,
            reg_on=("kernel",),
            activation=activation,
        )
        name, found = describe_keras(settings), reported if is_same else ()
        baseline = baselines.get(activation) or next(iter(baselines.values()), None)
        if not text:
            baselines[activation] = name
        made.append(Setting(name, settings, baseline, reported=found))
    return tuple(made)
