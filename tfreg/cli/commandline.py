"""Flags made from Config's fields, so that they cannot drift apart.

    values = flags.FlagValues()
    commandline.define_config(values)
    commandline.parse(values, ["tfreg train", "--reg=l2"])
    settings = commandline.make_config(values, config.Config())

The trap: a flag that is read and does nothing. Here it is refused.
"""

import dataclasses
import textwrap
import typing
from collections.abc import Container, Sequence

from absl import flags

from tfreg.cli import process
from tfreg.runs import config

_KINDS = {str: "text", int: "a whole number", float: "a number"}
_HELP = ("h", "help", "helpshort", "helpfull")


def define_config(values: flags.FlagValues, others: Container[str] = ()) -> None:
    """Defines a flag for each field of Config but `others`, None unless it is given."""
    for field in dataclasses.fields(config.Config):
        if field.name in others:
            continue
        several = typing.get_origin(config.get_types(field)[0]) is tuple
        define = flags.DEFINE_list if several else flags.DEFINE_string
        define(field.name, None, field.metadata["help"], flag_values=values)


def make_config(
    values: flags.FlagValues, base: config.Config, others: Container[str] = ()
) -> config.Config:
    """Returns `base` with the fields, but `others`, that were given as flags.

    Raises:
        ValueError: a field has a value that isn't allowed.
        process.UsageError: a flag can't be read, or is given where it does nothing.
    """
    given: dict[str, typing.Any] = {}
    for field in dataclasses.fields(config.Config):
        if field.name in others:
            continue
        value = values[field.name].value
        if value is None:
            continue
        kind = config.get_types(field)[0]
        if typing.get_origin(kind) is tuple:
            member = typing.get_args(kind)[0]
            given[field.name] = tuple(
                _parse(f"each of {field.name}", v, member) for v in value
            )
        else:
            given[field.name] = _parse(field.name, value, kind)
    settings = dataclasses.replace(base, **given)
    _check_effects(values, given, settings)
    return settings


def _check_effects(
    values: flags.FlagValues, given: Container[str], settings: config.Config
) -> None:
    """Raises where a flag is given that the others make void."""
    for name in ("scale", "reg_on"):
        if name in given and "reg" not in given and settings.reg == "none":
            raise process.UsageError(
                f"{name} must stand with --reg, got {name}={values[name].value!r} "
                "without: write --reg=l2 as well, or --reg=none"
            )
    if "hidden" in given and settings.model != "mlp":
        raise process.UsageError(
            f"hidden must stand with --model=mlp, got {values['hidden'].value!r} with "
            f"--model={settings.model}: leave it out"
        )


def _parse(name: str, text: str, kind: type) -> typing.Any:
    try:
        return kind(text)
    except ValueError:
        raise process.UsageError(
            f"{name} must be {_KINDS[kind]}, got {text!r}: see --help"
        ) from None


def parse(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Reads a command line into flags.

    Raises:
        process.UsageError: an unknown flag, no value, or a word that isn't a flag.
    """
    try:
        rest = values(list(argv))[1:]
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


def wants_help(argv: Sequence[str]) -> bool:
    """Returns whether the command line asks for help, in any of absl's ways."""
    return any(arg[:1] == "-" and arg.lstrip("-") in _HELP for arg in argv[1:])


def format_help(usage: str, values: flags.FlagValues) -> str:
    """Returns the usage and all flags in the groups of Config's fields."""
    groups: dict[str, list[str]] = {}
    fields = {field.name: field for field in dataclasses.fields(config.Config)}
    for name in values:
        flag = values[name]
        group, text = "this command", flag.help or ""
        if name in fields and not isinstance(flag, flags.MultiFlag):
            group = fields[name].metadata["group"]
            default = fields[name].default
            if isinstance(default, tuple):
                default = ",".join(map(str, default))
            text += "" if default is None else f" [{default}]"
        head = f"  --{name}" if flag.boolean else f"  --{name}=..."
        first, *others = textwrap.wrap(" ".join(text.split()), 56)
        lines = [f"{head:23} {first}", *(" " * 24 + line for line in others)]
        groups.setdefault(group, []).extend(lines)
    sections = ["\n".join([group, *lines]) for group, lines in groups.items()]
    return "\n\n".join([usage.strip(), *sections]) + "\n"
