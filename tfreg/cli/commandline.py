"""Flags generated from Config's fields, so that they can't drift apart.

    values = flags.FlagValues()
    commandline.define_config(values)
    commandline.parse(values, ["tfreg train", "--reg=l2"])
    settings = commandline.make_config(values, config.Config())

The trap: a flag without effect. It raises instead of being ignored.
"""

import dataclasses
import textwrap
import typing
from collections.abc import Container, Mapping, Sequence

from absl import flags

from tfreg import rules
from tfreg.cli import process
from tfreg.runs import calls, config, fields

_KINDS = {str: "text", int: "a whole number", float: "a number"}
_HELP = ("h", "help", "helpshort", "helpfull")


def define_config(values: flags.FlagValues, others: Container[str] = ()) -> None:
    """Defines a flag for each field of Config except `others`, None by default."""
    for field in dataclasses.fields(config.Config):
        if field.name in others:
            continue
        several = typing.get_origin(fields.get_types(field)[0]) is tuple
        define: typing.Any = flags.DEFINE_list if several else flags.DEFINE_string
        if field.type is bool:
            define = flags.DEFINE_bool
        if field.name in ("metrics", "augment"):
            define = _define_calls
        if field.name == "set":  # A value may have commas.
            define = flags.DEFINE_multi_string
        define(field.name, None, field.metadata["help"], flag_values=values)


def define_changed_data(values: flags.FlagValues) -> None:
    """Defines the flag of a run or sweep that is resumed with other data."""
    text = "resume also with other data; the hashes of both are kept"
    flags.DEFINE_bool("allow_changed_data", False, text, flag_values=values)


class _CallsParser(flags.ArgumentParser):
    """Splits at the commas that aren't in brackets."""

    def parse(self, argument: str) -> list[str]:
        return rules.split_arguments(argument) if argument else []


def _define_calls(name: str, default: None, text: str, flag_values: typing.Any) -> None:
    flags.DEFINE(_CallsParser(), name, default, text, flag_values)


def make_config(
    values: flags.FlagValues, base: config.Config, others: Container[str] = ()
) -> config.Config:
    """Returns `base` with the fields that were given as flags, except `others`.

    `--data=FILE.npz` is `--dataset=npz --data_dir=FILE.npz`.

    Raises:
        ValueError: a field has an invalid value.
        process.UsageError: a flag can't be parsed, or has no effect.
    """
    given: dict[str, typing.Any] = {}
    for field in dataclasses.fields(config.Config):
        if field.name in others:
            continue
        value = values[field.name].value
        if value is None:
            continue
        given[field.name] = _convert(field, value)
    is_archive = (given.get("data") or "").endswith(".npz")
    if is_archive and not {"dataset", "data_dir", *config.OF_FILES} & given.keys():
        given |= {"dataset": "npz", "data_dir": given.pop("data")}
    settings = dataclasses.replace(base, **given)
    _check_effects(values, given, settings)
    return settings


def _convert(field: dataclasses.Field, value: typing.Any) -> typing.Any:
    """Returns the value of a field, of a text or several."""
    kind = fields.get_types(field)[0]
    if typing.get_origin(kind) is tuple:
        member = typing.get_args(kind)[0]
        return tuple(_parse(f"each of {field.name}", v, member) for v in value)
    is_text = str in fields.get_types(field) and "(" in value
    as_is = is_text or isinstance(value, bool)
    return value if as_is else _parse(field.name, value, kind)


def parse_grid(texts: Sequence[str], others: Container[str]) -> dict[str, dict]:
    """Returns the values of several fields, each field of a text `name=value,value`.

    Args:
        texts: of `--grid`; `none` is the default, and + joins several values in one.
        others: fields that can't be in a grid.

    Returns:
        Name of a field -> text of a value -> value.

    Raises:
        process.UsageError: an unknown field, or a value that can't be parsed.
    """
    known = {f.name: f for f in dataclasses.fields(config.Config)}
    known = {k: f for k, f in known.items() if k not in others and f.type is not bool}
    grid: dict[str, dict] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in known or not values or name in grid:
            raise process.UsageError(
                "grid must be a flag of model or training, = and values with commas, "
                f"each flag once, got {text!r}: write --grid learning_rate=1e-4,1e-3"
            )
        field, grid[name] = known[name], {}
        several = typing.get_origin(fields.get_types(field)[0]) is tuple
        for value in rules.split_arguments(values):
            is_none = value == "none" and field.default in (None, ())
            parts = value.split("+") if several else value
            grid[name][value] = field.default if is_none else _convert(field, parts)
    return grid


def _check_effects(
    values: flags.FlagValues, given: Container[str], settings: config.Config
) -> None:
    """Raises if a given flag has no effect."""
    for name in ("scale", "reg_on"):
        if name in given and "reg" not in given and settings.reg == "none":
            raise process.UsageError(
                f"{name} must be used with --reg, got {name}={values[name].value!r} "
                "without it: write --reg=l2 as well, or --reg=none"
            )
    for name in ("activation", "dropout"):
        without = ("linear", "resnet20") if name == "dropout" else ("linear",)
        if name in given and (
            settings.model in without or calls.is_keras(settings.model)
        ):
            raise process.UsageError(
                f"{name} must be used with hidden layers, got "
                f"{values[name].value!r} with --model={settings.model}: leave it out"
            )
    if "hidden" in given and settings.model != "mlp":
        raise process.UsageError(
            f"hidden must be used with --model=mlp, got {values['hidden'].value!r} "
            f"with --model={settings.model}: leave it out"
        )


def _parse(name: str, text: str, kind: type) -> typing.Any:
    try:
        return kind(text)
    except ValueError:
        raise process.UsageError(
            f"{name} must be {_KINDS[kind]}, got {text!r}: see --help"
        ) from None


def parse(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Parses a command line.

    Raises:
        process.UsageError: an unknown flag, a missing value, or an argument that isn't
            a flag.
    """
    # A bool takes no other value.
    words = ["--resume" if word == "--resume=auto" else word for word in argv]
    try:
        rest = values(words)[1:]
    except flags.Error as error:
        reason = " ".join(str(error).split())
        raise process.UsageError(f"{reason}: see --help") from None
    if rest:
        raise process.UsageError(
            f"every argument must be a flag, got {rest[0]!r}: write --name=value"
        )
    for name in values:
        if values[name].value in ("", []):
            raise process.UsageError(
                f"{name} must have a value, got '': leave the flag out"
            )


def require(values: flags.FlagValues, examples: Mapping[str, str]) -> list[str]:
    """Returns the values of flags that must be given.

    Args:
        values: the flags.
        examples: name of a flag -> a value, for the message.

    Raises:
        process.UsageError: one isn't given.
    """
    for name, example in examples.items():
        if values[name].value is None:
            raise process.UsageError(f"{name} must be given: write --{name}={example}")
    return [str(values[name].value) for name in examples]


def wants_help(argv: Sequence[str]) -> bool:
    """Returns whether the command line has one of absl's help flags."""
    return any(arg[:1] == "-" and arg.lstrip("-") in _HELP for arg in argv[1:])


def format_help(usage: str, values: flags.FlagValues) -> str:
    """Returns the usage and all flags, grouped like Config's fields."""
    groups: dict[str, list[str]] = {}
    known = {field.name: field for field in dataclasses.fields(config.Config)}
    for name in values:
        flag = values[name]
        group, text = "this command", flag.help or ""
        if name in known and not isinstance(flag, flags.MultiFlag):
            group = known[name].metadata["group"]
            default = known[name].default
            if isinstance(default, tuple):
                default = ",".join(map(str, default))
            text += "" if default in (None, "") else f" [{default}]"
        head = f"  --{name}" if flag.boolean else f"  --{name}=..."
        first, *others = textwrap.wrap(" ".join(text.split()), 56)
        lines = [f"{head:23} {first}", *(" " * 24 + line for line in others)]
        groups.setdefault(group, []).extend(lines)
    sections = ["\n".join([group, *lines]) for group, lines in groups.items()]
    return "\n\n".join([usage.strip(), *sections]) + "\n"
