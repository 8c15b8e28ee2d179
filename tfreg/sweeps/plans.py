"""The plan of a sweep: settings, each a Config, and their baselines.

    scales = plans.parse_scales("1e-5:1e-2:4")
    compared = plans.make_paths(config.Config(), ["l2"], [("kernel",)], scales)
    compared = plans.make_note(config.Config(dataset="mnist"))
    plan = plans.Plan(compared, num_seeds=5)

The trap: Keras's `l2(s)` and contrib's differ by a factor of two. A setting is
described in both conventions.
"""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfreg import _checks, rules
from tfreg.runs import config


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of a sweep's tables, trained once for each seed.

    Attributes:
        name: unique in the plan.
        config: of its runs, except the seed.
        baseline: name of the setting that it is compared with, None if there is none.
        path: name of the settings that differ only in the scale, None outside a path.
        scale: the scale on the path.
        reported: accuracies published elsewhere.
        grid: names of Config's fields with their values as text, as a grid has them.
    """

    name: str
    config: config.Config
    baseline: str | None = None
    path: str | None = None
    scale: float | None = None
    reported: tuple[float, ...] = ()
    grid: tuple[tuple[str, str], ...] = ()

    @property
    def slug(self) -> str:
        """The name as part of a directory name."""
        return re.sub(r"[^A-Za-z0-9._=+-]+", "_", self.name).strip("_")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings of a sweep, each trained with the seeds from 0 to `num_seeds - 1`.

    Raises:
        ValueError: no seed, no setting, two of the same name, or a missing baseline.
    """

    settings: tuple[Setting, ...]
    num_seeds: int

    def __post_init__(self) -> None:
        _checks.check_int("num_seeds", self.num_seeds)
        names = [setting.name for setting in self.settings]
        slugs = {setting.slug for setting in self.settings}
        missing = {s.baseline for s in self.settings} - {None, *names}
        if not names or len(slugs) < len(names) or missing:
            raise ValueError(
                "settings must have different names and include their baselines, got "
                f"{names!r}: rename or add settings"
            )

    def to_json(self, data_hashes: Sequence[str] = ()) -> str:
        """Returns everything that determines the sweep's results, without paths.

        Args:
            data_hashes: of the data; none where they aren't read yet.
        """
        plan = dataclasses.asdict(self)
        if data_hashes:
            plan["data"] = list(data_hashes)
        for setting in plan["settings"]:
            for name in ("data_dir", "logdir", "run_name"):
                del setting["config"][name]
        return json.dumps(plan, indent=2) + "\n"


def describe(settings: config.Config) -> str:
    """Returns the penalties as `--reg` takes them, and the activation if not ReLU."""
    text = ";".join(map(str, settings.get_rules())) or "none"
    return _add_activation(settings, text)


def describe_keras(settings: config.Config) -> str:
    """Returns the penalties with Keras's scales; its L2 has no half."""
    targets: dict[str, list[str]] = {}
    for rule in settings.get_rules():
        scales = ", ".join(map(_format, _multiply_l2(rule, 0.5).scales))
        penalty = f"{rule.regularizer}({scales})"
        targets.setdefault(penalty, []).append(rule.target)
    parts = [f"{' + '.join(names)} {penalty}" for penalty, names in targets.items()]
    return _add_activation(settings, " + ".join(parts) or "none")


def _format(scale: float | str) -> str:
    return scale if isinstance(scale, str) else f"{scale:.6g}"


def _multiply_l2(rule: rules.Rule, multiplier: float) -> rules.Rule:
    """Returns a rule with the scale of its L2 part, if any, multiplied."""
    *others, l2 = rule.scales
    if rule.regularizer in ("l1", "decay") or isinstance(l2, str):
        return rule
    return dataclasses.replace(rule, scales=(*others, l2 * multiplier))


def _add_activation(settings: config.Config, text: str) -> str:
    if settings.activation == "relu":
        return text
    return f"{settings.activation}, {text}"


def parse_scales(text: str) -> tuple[float, ...]:
    """Returns the scales of a list, or of a logarithmic grid `LOW:HIGH:COUNT`.

    Raises:
        ValueError: no scale, a scale that isn't a finite float > 0, duplicates, or a
            grid that doesn't increase.
    """
    parts = [part.strip() for part in text.split(":")]
    try:
        if len(parts) == 1:
            scales = [float(part) for part in text.split(",") if part.strip()]
        else:
            low, high, count = float(parts[0]), float(parts[1]), int(parts[2])
            if not (0 < low < high < math.inf and count >= 2 and len(parts) == 3):
                raise ValueError
            scales = _space(low, high, count)
    except (ValueError, IndexError):
        raise ValueError(
            f"scales must be LOW:HIGH:COUNT with 0 < LOW < HIGH and COUNT >= 2, or a "
            f"list, got {text!r}: write for example 1e-6:1e-2:9 or 1e-4,1e-3"
        ) from None
    finite = all(0 < scale < math.inf for scale in scales)
    if not scales or not finite or len(set(scales)) < len(scales):
        raise ValueError(
            f"scales must be one or more different finite floats > 0, got {text!r}: "
            "leave out 0, since the baseline is always included"
        )
    return tuple(sorted(scales))


def _space(low: float, high: float, count: int) -> list[float]:
    ratio = math.log10(high / low) / (count - 1)
    # Rounded, so that tables show 0.0001 for 1e-4.
    return [float(f"{low * 10 ** (i * ratio):.3g}") for i in range(count)]


def make_paths(
    base: config.Config,
    regs: Sequence[str],
    targets: Sequence[tuple[str, ...]],
    scales: Sequence[float],
) -> tuple[Setting, ...]:
    """Returns the baseline, and a path of scales for each regularizer and targets.

    Args:
        base: the configuration that all settings share.
        regs: names such as l2.
        targets: the groups of targets to penalize, such as `("kernel", "bias")`.
        scales: of every path, in contrib's convention.

    Raises:
        ValueError: an unknown value, or no path.
    """
    plain = dataclasses.replace(base, reg="none", scale=None, reg_on=("kernel",))
    path_settings = [Setting("none", plain)]
    for reg in dict.fromkeys(regs):
        if reg not in rules.REGULARIZERS:
            raise ValueError(
                f"reg must be one of {', '.join(rules.REGULARIZERS)} in a sweep, got "
                f"{reg!r}: choose one of them"
            )
        for target in dict.fromkeys(targets):
            path = f"{reg} on {' + '.join(target)}"
            for scale in scales:
                settings = dataclasses.replace(
                    base, reg=reg, scale=scale, reg_on=target
                )
                name = f"{reg} {scale:.6g} on {' + '.join(target)}"
                path_settings.append(Setting(name, settings, "none", path, scale))
    if len(path_settings) == 1:
        raise ValueError("reg must name a regularizer, got none: write --reg=l2")
    return tuple(path_settings)


def make_grid(
    base: config.Config, grid: Mapping[str, Mapping[str, Any]]
) -> tuple[Setting, ...]:
    """Returns a setting for each combination of the values of several fields.

    Args:
        base: the configuration that all settings share.
        grid: name of a field -> its values by their texts. The baseline is the value
            that `base` has, or else the first one.

    Raises:
        ValueError: a combination of values isn't allowed.
    """
    listed = []
    for name, values in grid.items():
        own = getattr(base, name)
        first = next((t for t, value in values.items() if value == own), None)
        texts = list(values) if first is None else [first, *values]
        listed.append([(name, text) for text in dict.fromkeys(texts)])
    settings: list[Setting] = []
    for pairs in itertools.product(*listed):
        changes = {name: grid[name][text] for name, text in pairs}
        name = ", ".join(map("=".join, pairs))
        baseline = settings[0].name if settings else None
        changed = dataclasses.replace(base, **changes)
        settings.append(Setting(name, changed, baseline, grid=pairs))
    return tuple(settings)


def cross(
    points: Sequence[Setting],
    regs: Sequence[str],
    targets: Sequence[tuple[str, ...]],
    scales: Sequence[float],
) -> tuple[Setting, ...]:
    """Returns the settings of `make_paths` for each point of a grid.

    Args:
        points: of `make_grid`.
        regs: as for `make_paths`.
        targets: as for `make_paths`.
        scales: as for `make_paths`.

    Raises:
        ValueError: as for `make_paths`.
    """
    crossed: list[Setting] = []
    for point in points:
        for setting in make_paths(point.config, regs, targets, scales):
            is_plain = setting.baseline is None
            named = dataclasses.replace(
                setting,
                name=f"{setting.name}, {point.name}",
                baseline=f"none, {point.baseline if is_plain else point.name}",
                path=setting.path and f"{setting.path}, {point.name}",
                grid=point.grid,
            )
            if is_plain and point.baseline is None:
                named = dataclasses.replace(named, baseline=None)
            crossed.append(named)
    return tuple(crossed)


# Activation, Keras's penalties on the hidden layer, and the note's test accuracies. The
# note's ninth row is ambiguous (alone, or added to the eighth): 0.9783 is in both.
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
    """Returns the settings of the note, whose scales are in Keras's convention.

    Two of its rows are the same setting, and one row can be read in two ways: thirteen
    rows, twelve settings. The baseline is the unregularized setting of the same
    activation. The note's accuracies are included if the data and the training are
    the note's.

    Args:
        base: the configuration that all settings share.
    """
    plain = config.Config()
    is_same = base.dataset == "mnist" and all(
        getattr(base, name) == getattr(plain, name) for name in _SAME
    )
    rows: list[Setting] = []
    baselines: dict[str, str] = {}
    for activation, text, reported in _NOTE:
        converted = [
            dataclasses.replace(_multiply_l2(rule, 2.0), pattern="dense_0")
            for rule in (rules.parse(text) if text else ())
        ]
        settings = dataclasses.replace(
            base,
            reg=";".join(map(str, converted)) or "none",
            scale=None,
            reg_on=("kernel",),
            activation=activation,
        )
        name = describe_keras(settings)
        baseline = baselines.get(activation) or next(iter(baselines.values()), None)
        if not text:
            baselines[activation] = name
        accuracies = reported if is_same else ()
        rows.append(Setting(name, settings, baseline, reported=accuracies))
    return tuple(rows)
