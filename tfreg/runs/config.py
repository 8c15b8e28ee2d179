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
from collections.abc import Container, Mapping
from typing import Any

from tfreg import _checks, rules
from tfreg.runs import calls, fields, names, own

# Repeated from the modules that define them, which would import TensorFlow.
DATASETS = ("mnist5k", "mnist", "fashion_mnist", "idx", "npz")
MODELS = ("mlp", "cnn", "linear", "resnet20")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad")
SCHEDULES = ("constant", "cosine", "linear", "piecewise")
PRECISIONS = ("float32", "tf32", "float64", "bfloat16", "float16")
COMPILES = ("auto", "xla", "graph")
STRATEGIES = ("auto", "one", "mirrored", "multi_worker")
ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "gelu", "linear")
TASKS = ("auto", "classification", "binary", "multilabel", "regression")
WEIGHTS = ("none", "balanced")
DEFAULT_SCALE = 1e-4

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._=+-]{{0,{names.MAX_LENGTH - 1}}}")
_PATH = re.compile(r"[^\0\ud800-\udfff]*")  # UTF-8 that is valid in a path.
# Fields of files and folders of one's own, and all that came after the others' hashes.
OF_FILES = (
    *("target", "drop", "text", "features", "group", "split", "split_seed"),
    "image_size",
)
_CHOSEN = ("loss", "metrics", "augment", "deterministic")
_NEW = ("data", *OF_FILES, "task", "class_weights", "set", *_CHOSEN)


@dataclasses.dataclass(frozen=True)
class Config:
    """The penalties, data, model, training and output of a run.

    Raises:
        ValueError: a field has an invalid value; the message names it.
    """

    reg: str = fields.define(
        "none",
        "penalties",
        "none, l1, l2, l1_l2, l2_sp, decay, or rules: "
        "'l2(1e-4)@kernel;l1(1e-5)@activity:dense_0'",
    )
    scale: float | str | None = fields.define(
        None,
        "penalties",
        f"scale of --reg, contrib's convention: Keras's L2 doubled "
        f"[{DEFAULT_SCALE:g}]; or a schedule: 'linear(0.0, 1e-4, 1000)'",
    )
    reg_on: tuple[str, ...] = fields.define(
        ("kernel",), "penalties", "what --reg penalizes: kernel, bias, activity"
    )
    dataset: str = fields.define("mnist5k", "data", ", ".join(DATASETS))
    data_dir: str | None = fields.define(
        None, "data", "folder of the IDX files, or the .npz file"
    )
    data: str | None = fields.define(
        None,
        "data",
        "a CSV, Parquet, TFRecord or .npz file, a folder of images, or module:function "
        "of the working directory, instead of --dataset",
    )
    target: tuple[str, ...] = fields.define(
        (), "data", "column of --data to learn, several with commas"
    )
    drop: tuple[str, ...] = fields.define((), "data", "columns of --data to ignore")
    text: tuple[str, ...] = fields.define(
        (), "data", "columns of --data that are sentences, used as bags of words"
    )
    features: tuple[str, ...] = fields.define(
        (), "data", "what TFRecords hold, such as age:float32,x:int64[4],city:string"
    )
    group: str | None = fields.define(
        None, "data", "column whose equal values stay in one part of the data"
    )
    split: str = fields.define(
        _checks.SPLIT,
        "data",
        "fractions of training, validation and test, or the column that names them",
    )
    split_seed: int = fields.define(0, "data", "seed of the drawn parts")
    image_size: str | None = fields.define(
        None, "data", "HEIGHTxWIDTH of the images [they have one size]"
    )
    task: str = fields.define("auto", "data", ", ".join(TASKS))
    class_weights: str = fields.define("none", "data", ", ".join(WEIGHTS))
    train_examples: int | None = fields.define(
        None, "data", "number of training examples, drawn by the seed [all]"
    )
    model: str = fields.define(
        "mlp",
        "model",
        f"{', '.join(MODELS)}, keras:NAME of keras.applications, or module:function of "
        "the working directory",
    )
    set: tuple[str, ...] = fields.define(
        (), "model", "option of a model or data of your own, as depth=4; several times"
    )
    hidden: tuple[int, ...] = fields.define(
        (128,), "model", "widths of the mlp's hidden layers"
    )
    activation: str = fields.define("relu", "model", ", ".join(ACTIVATIONS))
    dropout: float = fields.define(0.0, "model", "fraction of hidden outputs to drop")
    init_from: str | None = fields.define(
        None,
        "model",
        "initial weights: a run, .keras, .npz or TensorFlow's checkpoint [random]",
    )
    init_pattern: str = fields.define(
        ".*", "model", "regular expression on the variables to take from there"
    )
    loss: str = fields.define(
        "auto", "training", "auto for the task's, keras:NAME, or module:function"
    )
    metrics: tuple[str, ...] = fields.define(
        (),
        "training",
        f"metrics beside the task's, with commas: {', '.join(calls.METRICS)}, "
        "keras:NAME, or module:function",
    )
    augment: tuple[str, ...] = fields.define(
        (),
        "training",
        f"changes of the training images, such as flip,crop(4): "
        f"{', '.join(calls.AUGMENTATIONS)}, or module:function",
    )
    optimizer: str = fields.define(
        "adam", "training", f"{', '.join(OPTIMIZERS)}, or keras:NAME"
    )
    learning_rate: float = fields.define(1e-3, "training", "peak learning rate")
    schedule: str = fields.define(
        "constant",
        "training",
        f"{', '.join(SCHEDULES)}, or all of it: 'exponential(1e-3, 0.96, 1000)'",
    )
    warmup_steps: int = fields.define(0, "training", "steps of linear warm-up")
    clip_norm: float | None = fields.define(
        None, "training", "largest global norm of the gradient [no clipping]"
    )
    batch_size: int = fields.define(
        32, "training", "examples per step, of all replicas"
    )
    ema: float | None = fields.define(
        None, "training", "decay of the weights' average, which is evaluated [none]"
    )
    accumulate: int = fields.define(1, "training", "number of microbatches in a batch")
    precision: str = fields.define("float32", "training", ", ".join(PRECISIONS))
    epochs: int = fields.define(10, "training", "passes over the training set")
    seed: int = fields.define(
        0, "training", "seed of weights, order, dropout: 0 to 2**31 - 1"
    )
    strategy: str = fields.define("auto", "devices", ", ".join(STRATEGIES))
    logical_devices: int = fields.define(
        0, "devices", "number of logical CPU devices, to try replicas [no split]"
    )
    compile: str = fields.define("auto", "devices", ", ".join(COMPILES))
    deterministic: bool = fields.define(
        False, "devices", "the same bits twice on a GPU too, more slowly"
    )
    patience: int | None = fields.define(
        None,
        "training",
        "stop after this many epochs without a better validation loss, and restore the "
        "best weights [never]",
    )
    monitor: str = fields.define(
        "validation/loss/data", "training", "what --patience goes by"
    )
    checkpoint_every: str = fields.define(
        "30s", "output", "steps, or seconds with an s, between checkpoints"
    )
    keep_checkpoints: int = fields.define(2, "output", "checkpoints to keep, 2 or more")
    logdir: str = fields.define("runs", "output", "parent of the run's directory")
    run_name: str | None = fields.define(
        None, "output", "name of the run's directory [made from the settings]"
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = fields.convert(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        fields.check_numbers(self)
        self._check_choices()
        fields.check_named(self, OPTIMIZERS)
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
        fields.check_data(self, OF_FILES)
        _checks.parse_split(self.split)

    def get_image_size(self) -> tuple[int, int] | None:
        """Returns (height, width) of the images, or None."""
        return fields.parse_size(self.image_size)

    def _check_choices(self) -> None:
        choices = {
            "dataset": DATASETS,
            "model": (self.model,) if ":" in self.model else MODELS,
            "optimizer": (self.optimizer,) if ":" in self.optimizer else OPTIMIZERS,
            "activation": ACTIVATIONS,
            "schedule": (self.schedule,) if "(" in self.schedule else SCHEDULES,
            "precision": PRECISIONS,
            "strategy": STRATEGIES,
            "compile": COMPILES,
            "task": TASKS,
            "class_weights": WEIGHTS,
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
        reg_on = frozenset(self.reg_on)
        if (
            not reg_on
            or reg_on - frozenset(rules.TARGETS)
            or len(reg_on) < len(self.reg_on)
        ):
            raise ValueError(
                f"reg_on must be one or more of {', '.join(rules.TARGETS)}, each once, "
                f"got {self.reg_on!r}: write reg=none for no penalty"
            )

    @property
    def options(self) -> dict[str, Any]:
        """The options of `set` by name."""
        return own.parse_options(self.set)

    @property
    def divides(self) -> bool:
        """Whether batches are divided, so that a part may have no example."""
        is_replicated = self.logical_devices > 0 or self.strategy == "multi_worker"
        return is_replicated or self.accumulate > 1

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
        return self.run_name or names.make_run_name(self)

    def get_differences(
        self, other: "Config", ignored: Container[str] = ()
    ) -> list[str]:
        """Returns the differences of two runs, in words; epochs and output don't count.

        Args:
            other: the Config to compare with.
            ignored: names of fields that don't count either.
        """
        decisive = [f.name for f in dataclasses.fields(self) if fields.is_decisive(f)]
        kept = [name for name in decisive if name not in ignored]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in kept}
        return [f"{name} {a!r}, not {b!r}" for name, (a, b) in pairs.items() if a != b]

    def get_hash(self) -> str:
        """Returns the sha256 of all that determines a run's results, except epochs.

        Fields that an earlier version didn't have count where they are used.
        """
        decisive = [
            field.name
            for field in dataclasses.fields(self)
            if fields.is_decisive(field)
            and (field.name not in _NEW or getattr(self, field.name) != field.default)
        ]
        text = repr([(name, getattr(self, name)) for name in decisive])
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Returns all fields as JSON, which `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Returns the Config that `Config.to_json` wrote.

    Raises:
        ValueError: not a JSON object, an unknown field, or an invalid value.
    """
    try:
        values = fields.parse_json(text)
    except (ValueError, RecursionError) as error:  # also an int of 5,000 digits
        raise ValueError(
            f"a config must be JSON, got {text[:40]!r} ({error}): "
            "pass the config.json of a run"
        ) from None
    if not isinstance(values, Mapping):
        raise ValueError(
            f"a config must be a JSON object, got {text[:40]!r}: "
            "pass the config.json of a run"
        )
    if "trainer" in values:
        raise ValueError(
            "a config must be of train.py, got one of a script's own Trainer: run that "
            "script again"
        )
    known = [field.name for field in dataclasses.fields(Config)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"a config must have only the fields {', '.join(known)}, got "
            f"{', '.join(unknown)}: remove the unknown ones"
        )
    return Config(**values)
