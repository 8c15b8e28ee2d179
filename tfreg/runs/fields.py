"""The fields of Config: their types, and values that come from JSON or flags.

    known = {field.name: field for field in dataclasses.fields(settings)}
    fields.get_types(known["patience"])  # (int, NoneType)
    fields.convert(known["hidden"], [128])  # (128,)

The trap: JSON has no tuples, and writes 1.0 as 1 if asked to.
"""

import collections
import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from tfreg.runs import calls, own

_EVERY = re.compile(r"[1-9][0-9]{0,8}s?")


def define(default: Any, group: str, text: str) -> Any:
    """Returns a field with its group and text in `--help`."""
    return dataclasses.field(default=default, metadata={"group": group, "help": text})


def is_decisive(field: dataclasses.Field) -> bool:
    """Returns whether a run's results depend on a field, except epochs."""
    return field.name != "epochs" and field.metadata["group"] != "output"


def get_types(field: dataclasses.Field) -> tuple[Any, ...]:
    """Returns the types of a field of Config."""
    if isinstance(field.type, types.UnionType):
        return typing.get_args(field.type)
    return (field.type,)


def convert(field: dataclasses.Field, value: Any) -> Any:
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


def check_numbers(settings: Any) -> None:
    """Checks the range of every number of a Config.

    Raises:
        ValueError: one is outside.
    """
    finite, positive, count = "a finite float > 0", "an int >= 1", "an int >= 0"
    seed = "an int from 0 to 2147483647"
    allowed: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "dropout": ("in [0, 1)", lambda v: 0 <= v < 1),
        "ema": ("in [0, 1)", lambda v: 0 <= v < 1),
        "learning_rate": (finite, lambda v: math.isfinite(v) and v > 0),
        "clip_norm": (finite, lambda v: math.isfinite(v) and v > 0),
        "train_examples": (positive, lambda v: v >= 1),
        "warmup_steps": (count, lambda v: v >= 0),
        "batch_size": (positive, lambda v: v >= 1),
        "accumulate": ("1 to batch_size", lambda v: 1 <= v <= settings.batch_size),
        "logical_devices": ("an int from 0 to 64", lambda v: 0 <= v <= 64),
        "epochs": (positive, lambda v: v >= 1),
        "split_seed": (seed, lambda v: 0 <= v < 2**31),
        "seed": (seed, lambda v: 0 <= v < 2**31),
        "patience": (positive, lambda v: v >= 1),
        "checkpoint_every": (
            "steps such as 1000, or seconds such as 30s",
            lambda v: _EVERY.fullmatch(v) is not None,
        ),
        "keep_checkpoints": ("an int >= 2", lambda v: v >= 2),
        "hidden": ("widths >= 1", lambda v: all(units >= 1 for units in v)),
    }
    for name, (text, is_allowed) in allowed.items():
        value = getattr(settings, name)
        if value is not None and not is_allowed(value):
            raise ValueError(
                f"{name} must be {text}, got {value!r}: choose another value"
            )


def check_data(settings: Any, own: Sequence[str]) -> None:
    """Checks that fields of data of one's own are used with them, and no others.

    Args:
        settings: the Config.
        own: names of the fields.

    Raises:
        ValueError: a field is used without `data`, or one of data sets by name with it.
    """
    plain = {field.name: field.default for field in dataclasses.fields(settings)}
    has_data = settings.data is not None
    for name in ("dataset", "data_dir") if has_data else own:
        if (value := getattr(settings, name)) != plain[name]:
            must = "be left out beside data" if has_data else "be used with data"
            advice = "leave one of them out" if has_data else "write --data=FILE"
            raise ValueError(f"{name} must {must}, got {value!r}: {advice}")
    if has_data and not re.fullmatch(r"[^\0\ud800-\udfff]+", settings.data):
        raise ValueError(
            f"data must be the name of a file, got {settings.data!r}: choose another"
        )
    parse_size(settings.image_size)
    if settings.features:
        from tfreg.data import features  # Imports NumPy, which --help does without.

        features.parse(settings.features)


def check_named(settings: Any, optimizers: Sequence[str]) -> None:
    """Checks the form of what is named: model, loss, metrics, optimizer and the like.

    Args:
        settings: the Config.
        optimizers: names of those that aren't Keras's.

    Raises:
        ValueError: a name has another form, or doesn't go with another field.
    """
    if calls.is_own(settings.model):
        calls.check_own("model", settings.model)
    elif settings.set and not calls.names_function(settings.data):
        raise ValueError(
            f"set must be used with a model or data of your own, got {settings.set!r} "
            f"with {settings.model!r}: write --model=module:function"
        )
    own.parse_options(settings.set)
    calls.check("loss", settings.loss, ("auto",))
    for text in settings.metrics:
        calls.check("metrics", text, calls.METRICS)
    for text in settings.augment:
        calls.check("augment", text, calls.AUGMENTATIONS, has_keras=False)
    for name in ("model", "optimizer"):
        if calls.is_keras(text := getattr(settings, name)):
            calls.parse(name, text)
    if ":" in settings.optimizer and not calls.is_keras(settings.optimizer):
        raise ValueError(
            f"optimizer must be one of {', '.join(optimizers)} or keras:NAME, got "
            f"{settings.optimizer!r}: write for example keras:Lion(1e-4)"
        )
    if calls.is_keras(settings.optimizer) and (
        settings.schedule != "constant" or settings.warmup_steps
    ):
        raise ValueError(
            "schedule must be constant, without warmup_steps, with an optimizer of "
            f"Keras, got {settings.schedule!r} with {settings.optimizer!r}: leave it "
            "out"
        )


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Returns the height and width of `HEIGHTxWIDTH`, None of None.

    Raises:
        ValueError: the text isn't two numbers.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not found:
        raise ValueError(
            f"image_size must be HEIGHTxWIDTH, got {text!r}: write for example 32x32"
        )
    return int(found[1]), int(found[2])


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text, in which no object has a name twice.

    Raises:
        ValueError: it is no JSON, or has one.
        RecursionError: it is too deep.
    """

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = collections.Counter(name for name, _ in pairs)
        twice = next((name for name, count in counts.items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} twice")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=make)
