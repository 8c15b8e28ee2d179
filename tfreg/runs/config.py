"""Everything that determines a run, as one frozen value.

    settings = config.Config(reg="l2", scale=1e-4, epochs=3)
    settings.to_json()  # config.from_json returns an equal Config

The trap: options that are read all over the code, so that a run can't be repeated.
"""

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from tfreg import rules

# Repeated from the modules that define them, which would import TensorFlow.
DATASETS = ("mnist5k", "mnist", "fashion_mnist", "idx", "npz")
MODELS = ("mlp", "cnn")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad")
SCHEDULES = ("constant", "cosine", "linear", "piecewise")
PRECISIONS = ("float32", "float64", "bfloat16", "float16")
COMPILES = ("auto", "xla", "graph")
STRATEGIES = ("auto", "one", "mirrored", "multi_worker")
ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "gelu", "linear")
DEFAULT_SCALE = 1e-4

_MAX_LENGTH = 150
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._=+-]{{0,{_MAX_LENGTH - 1}}}")
_EVERY = re.compile(r"[1-9][0-9]{0,8}s?")
_PATH = re.compile(r"[^\0\ud800-\udfff]*")  # UTF-8 that is valid in a path.
_WORD = re.compile(r"[A-Za-z0-9_]*")


def _field(default: Any, group: str, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"group": group, "help": text})


@dataclasses.dataclass(frozen=True)
class Config:
    """The penalties, data, model, training and output of a run.

    Raises:
        ValueError: a field has an invalid value; the message names it.
    """

    reg: str = _field(
        "none",
        "penalties",
        "none, l1, l2, l1_l2, l2_sp, decay, or rules: "
        "'l2(1e-4)@kernel;l1(1e-5)@activity:dense_0'",
    )
    scale: float | str | None = _field(
        None,
        "penalties",
        f"scale of --reg, contrib's convention: Keras's L2 doubled "
        f"[{DEFAULT_SCALE:g}]; or a schedule: 'linear(0.0, 1e-4, 1000)'",
    )
    reg_on: tuple[str, ...] = _field(
        ("kernel",), "penalties", "what --reg penalizes: kernel, bias, activity"
    )
    dataset: str = _field("mnist5k", "data", ", ".join(DATASETS))
    data_dir: str | None = _field(
        None, "data", "folder of the IDX files, or the .npz file"
    )
    train_examples: int | None = _field(
        None, "data", "number of training examples, drawn by the seed [all]"
    )
    model: str = _field("mlp", "model", ", ".join(MODELS))
    hidden: tuple[int, ...] = _field(
        (128,), "model", "widths of the mlp's hidden layers"
    )
    activation: str = _field("relu", "model", ", ".join(ACTIVATIONS))
    dropout: float = _field(0.0, "model", "fraction of hidden outputs to drop")
    init_from: str | None = _field(
        None,
        "model",
        "initial weights: a run, .keras, .npz or TensorFlow's checkpoint [random]",
    )
    init_pattern: str = _field(
        ".*", "model", "regular expression on the variables to take from there"
    )
    optimizer: str = _field("adam", "training", ", ".join(OPTIMIZERS))
    learning_rate: float = _field(1e-3, "training", "peak learning rate")
    schedule: str = _field(
        "constant",
        "training",
        f"{', '.join(SCHEDULES)}, or all of it: 'exponential(1e-3, 0.96, 1000)'",
    )
    warmup_steps: int = _field(0, "training", "steps of linear warm-up")
    clip_norm: float | None = _field(
        None, "training", "largest global norm of the gradient [no clipping]"
    )
    batch_size: int = _field(32, "training", "examples per step, of all replicas")
    ema: float | None = _field(
        None, "training", "decay of the weights' average, which is evaluated [none]"
    )
    accumulate: int = _field(1, "training", "number of microbatches in a batch")
    precision: str = _field("float32", "training", ", ".join(PRECISIONS))
    epochs: int = _field(10, "training", "passes over the training set")
    seed: int = _field(0, "training", "seed of weights, order, dropout: 0 to 2**31 - 1")
    strategy: str = _field("auto", "devices", ", ".join(STRATEGIES))
    logical_devices: int = _field(
        0, "devices", "number of logical CPU devices, to try replicas [no split]"
    )
    compile: str = _field("auto", "devices", ", ".join(COMPILES))
    patience: int | None = _field(
        None,
        "training",
        "stop after this many epochs without a better validation loss, and restore the "
        "best weights [never]",
    )
    monitor: str = _field("validation/loss/data", "training", "what --patience goes by")
    checkpoint_every: str = _field(
        "30s", "output", "steps, or seconds with an s, between checkpoints"
    )
    keep_checkpoints: int = _field(2, "output", "checkpoints to keep, 2 or more")
    logdir: str = _field("runs", "output", "parent of the run's directory")
    run_name: str | None = _field(
        None, "output", "name of the run's directory [made from the settings]"
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _convert(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        self._check_numbers()
        self._check_choices()
        if self.run_name is not None and not _NAME.fullmatch(self.run_name):
            raise ValueError(
                "run_name must be up to 150 letters, digits and . _ = + -, and start "
                f"with a letter or digit, got {self.run_name!r}: choose another name"
            )
        if not _PATH.fullmatch(self.logdir):
            raise ValueError(
                f"logdir must be UTF-8, got {self.logdir!r}: choose another directory"
            )
        self.get_rules()

    def _check_choices(self) -> None:
        choices = {
            "dataset": DATASETS,
            "model": MODELS,
            "activation": ACTIVATIONS,
            "optimizer": OPTIMIZERS,
            "schedule": (self.schedule,) if "(" in self.schedule else SCHEDULES,
            "precision": PRECISIONS,
            "strategy": STRATEGIES,
            "compile": COMPILES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got "
                    f"{getattr(self, name)!r}: choose one of them"
                )
        if "(" in self.schedule:
            rules.write_schedule(self.schedule)
            if self.learning_rate != 1e-3 or self.warmup_steps:
                raise ValueError(
                    "learning_rate and warmup_steps must be in the schedule, got "
                    f"{self.learning_rate!r} and {self.warmup_steps!r} beside "
                    f"{self.schedule!r}: leave them out"
                )
        reg_on = set(self.reg_on)
        if not reg_on or reg_on - set(rules.TARGETS) or len(reg_on) < len(self.reg_on):
            raise ValueError(
                f"reg_on must be one or more of {', '.join(rules.TARGETS)}, each once, "
                f"got {self.reg_on!r}: write reg=none for no penalty"
            )

    def _check_numbers(self) -> None:
        finite, few = math.isfinite, self.train_examples
        checks: list[tuple[str, bool, str]] = [
            ("dropout", 0 <= self.dropout < 1, "in [0, 1)"),
            ("ema", 0 <= (self.ema or 0) < 1, "in [0, 1)"),
            (
                "learning_rate",
                finite(self.learning_rate) and self.learning_rate > 0,
                "a finite float > 0",
            ),
            (
                "clip_norm",
                self.clip_norm is None or finite(self.clip_norm) and self.clip_norm > 0,
                "a finite float > 0",
            ),
            ("train_examples", few is None or few >= 1, "an int >= 1"),
            ("warmup_steps", self.warmup_steps >= 0, "an int >= 0"),
            ("batch_size", self.batch_size >= 1, "an int >= 1"),
            ("accumulate", 1 <= self.accumulate <= self.batch_size, "1 to batch_size"),
            ("logical_devices", 0 <= self.logical_devices <= 64, "an int from 0 to 64"),
            ("epochs", self.epochs >= 1, "an int >= 1"),
            ("seed", 0 <= self.seed < 2**31, "an int from 0 to 2147483647"),
            ("patience", self.patience is None or self.patience >= 1, "an int >= 1"),
            (
                "checkpoint_every",
                _EVERY.fullmatch(self.checkpoint_every) is not None,
                "steps such as 1000, or seconds such as 30s",
            ),
            ("keep_checkpoints", self.keep_checkpoints >= 2, "an int >= 2"),
            ("hidden", all(units >= 1 for units in self.hidden), "widths >= 1"),
        ]
        for name, allowed, text in checks:
            if not allowed:
                raise ValueError(
                    f"{name} must be {text}, got {getattr(self, name)!r}: "
                    "choose another value"
                )

    def get_rules(self) -> tuple[rules.Rule, ...]:
        """Returns the penalties as rules, no rules for `reg="none"`.

        Raises:
            ValueError: reg, scale or reg_on is invalid, or they contradict each other.
        """
        if "@" in self.reg or "(" in self.reg:
            if self.scale is not None:
                raise ValueError(
                    f"scale must be in the rules, got {self.scale!r} beside "
                    f"{self.reg!r}: leave scale out"
                )
            if self.reg_on != ("kernel",):
                raise ValueError(
                    f"reg_on must be in the rules, got {self.reg_on!r} beside "
                    f"{self.reg!r}: leave reg_on out, or write its default, kernel"
                )
            return rules.parse(self.reg)
        scale = DEFAULT_SCALE if self.scale is None else self.scale
        if isinstance(scale, str):
            if "(" not in scale:
                raise ValueError(
                    "scale must be float or a schedule as text or null, got "
                    f"{scale!r}: change its type"
                )
            rules.write_schedule(scale)
        elif not (math.isfinite(scale) and scale >= 0):
            raise ValueError(
                f"scale must be a finite float >= 0, got {scale!r}: "
                "write 0.0 for no penalty"
            )
        if self.reg not in ("none", *rules.REGULARIZERS):
            raise ValueError(
                f"reg must be none, {', '.join(rules.REGULARIZERS)} or rules such as "
                f"l2(1e-4)@kernel, got {self.reg!r}: choose one of them"
            )
        name = "l2" if self.reg == "none" else self.reg
        penalties = rules.make_rules(name, scale, self.reg_on)
        return () if self.reg == "none" else penalties

    def get_run_name(self) -> str:
        """Returns the name of the run's directory: `run_name`, or the main settings.

        Two configs have the same name only if they train the same. If the settings are
        too long for a name, or have characters that a name can't have, a hash of them
        is added.
        """
        if self.run_name is not None:
            return self.run_name
        named = ("reg", "scale", "reg_on", "dataset", "data_dir", "model", "hidden")
        hidden = "x".join(map(str, self.hidden)) if self.model == "mlp" else ""
        penalties = self.get_rules()
        reg = "+".join(map(str, penalties)) or "none"
        parts = [self.dataset, self.model + hidden, reg]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            skipped = (
                field.name in (*named, "seed") or field.metadata["group"] == "output"
            )
            if value != field.default and not skipped:
                parts.append(f"{field.name}={value}")
        parts.append(f"seed{self.seed}")
        name = re.sub(r"[^A-Za-z0-9._=+-]+", "_", "-".join(parts))
        texts = [rule.pattern or "" for rule in penalties]
        texts += [s for rule in penalties for s in rule.scales if isinstance(s, str)]
        others = (self.init_from or "", self.init_pattern.replace(".*", ""))
        is_plain = all(map(_WORD.fullmatch, [*texts, *others]))
        is_plain = is_plain and "(" not in self.schedule
        if is_plain and self.data_dir is None and len(name) <= _MAX_LENGTH:
            return name
        digest = hashlib.sha256(repr((parts, self.data_dir)).encode()).hexdigest()[:8]
        return f"{name[: _MAX_LENGTH - 9]}-{digest}"

    def get_differences(self, other: "Config") -> list[str]:
        """Returns the differences of two runs, in words; epochs and output don't count.

        Args:
            other: the Config to compare with.
        """
        names = [f.name for f in dataclasses.fields(self) if _is_decisive(f)]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return [f"{name} {a!r}, not {b!r}" for name, (a, b) in pairs.items() if a != b]

    def get_hash(self) -> str:
        """Returns the sha256 of all that determines a run's results, except epochs."""
        decisive = [f.name for f in dataclasses.fields(self) if _is_decisive(f)]
        text = repr([(name, getattr(self, name)) for name in decisive])
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Returns all fields as JSON, which `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def _is_decisive(field: dataclasses.Field) -> bool:
    return field.name != "epochs" and field.metadata["group"] != "output"


def _convert(field: dataclasses.Field, value: Any) -> Any:
    """Converts a list to a tuple, and an int to a float if the field is a float.

    Raises:
        ValueError: the value, for example from JSON, isn't of its field's type.
    """
    kinds = get_types(field)
    if float in kinds and type(value) is int:
        # An int beyond the largest float becomes infinity, which is refused.
        value = float(value) if abs(value) < 1e300 else math.inf
    if typing.get_origin(kinds[0]) is tuple:
        member = typing.get_args(kinds[0])[0]
        value = tuple(value) if isinstance(value, list) else value
        good = isinstance(value, tuple) and all(type(v) is member for v in value)
        wanted = f"several {member.__name__}"
    else:
        good = type(value) in kinds
        words = {type(None): "null"} | (
            {str: "a schedule as text"} if float in kinds else {}
        )
        wanted = " or ".join(words.get(kind, kind.__name__) for kind in kinds)
    if not good:
        raise ValueError(
            f"{field.name} must be {wanted}, got {value!r}: change its type"
        )
    return value


def get_types(field: dataclasses.Field) -> tuple[Any, ...]:
    """Returns the types of a field of Config."""
    if isinstance(field.type, types.UnionType):
        return typing.get_args(field.type)
    return (field.type,)


def from_json(text: str) -> Config:
    """Returns the Config that `Config.to_json` wrote.

    Raises:
        ValueError: not a JSON object, an unknown field, or an invalid value.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:  # also an int of 5,000 digits
        raise ValueError(
            f"a config must be JSON, got {text[:40]!r} ({error}): "
            "pass the config.json of a run"
        ) from None
    if not isinstance(fields, Mapping):
        raise ValueError(
            f"a config must be a JSON object, got {text[:40]!r}: "
            "pass the config.json of a run"
        )
    if "trainer" in fields:
        raise ValueError(
            "a config must be of train.py, got one of a script's own Trainer: run that "
            "script again"
        )
    known = [field.name for field in dataclasses.fields(Config)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(
            f"a config must have only the fields {', '.join(known)}, got "
            f"{', '.join(unknown)}: remove the unknown ones"
        )
    return Config(**fields)
