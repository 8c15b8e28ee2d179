"""What flags name beside a fixed list: `keras:NAME(arguments)` and `module:function`.

    call = calls.parse("optimizer", "keras:Lion(1e-4, beta_1=0.95)")
    call.name, call.args, call.options  # ("Lion", (1e-4,), {"beta_1": 0.95})

The trap: text of a command line that Python would run. Only names and literals are
read. TensorFlow isn't imported.
"""

import ast
import contextlib
import dataclasses
import difflib
import re
from collections.abc import Collection
from typing import Any, NoReturn

KERAS = "keras:"
AUGMENTATIONS = ("brightness", "crop", "cutout", "flip", "mixup")
METRICS = ("accuracy", "mean_absolute_error", "r2", "top_5_accuracy")

_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclasses.dataclass(frozen=True)
class Call:
    """A name with arguments.

    Attributes:
        name: of what is called.
        args: the arguments by position.
        options: the arguments by name.
    """

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]


def is_keras(text: str) -> bool:
    """Returns whether a text names something of Keras."""
    return text.startswith(KERAS)


def is_own(text: str) -> bool:
    """Returns whether a text names a function of a module of one's own."""
    return ":" in text and not is_keras(text)


def names_function(text: str | None) -> bool:
    """Returns whether a text that may be a path is `module:function` instead."""
    return text is not None and _OWN.fullmatch(text) is not None


def check_own(flag: str, text: str) -> None:
    """Checks that a text is a module and a function.

    Args:
        flag: its name, for the message.
        text: its value.

    Raises:
        ValueError: it isn't.
    """
    if not _OWN.fullmatch(text):
        raise ValueError(
            f"{flag} must be module:function, got {text!r}: write for example "
            "nets:build for the function build in nets.py"
        )


def parse(flag: str, text: str) -> Call:
    """Returns the name and the arguments in `NAME`, `NAME(...)` or `keras:NAME(...)`.

    Args:
        flag: its name, for the message.
        text: its value.

    Raises:
        ValueError: it has another form, or an argument isn't a literal.
    """
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        node = ast.parse(text.removeprefix(KERAS).strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        names = [keyword.arg for keyword in call.keywords]
        if isinstance(call.func, ast.Name) and None not in names:
            return Call(
                call.func.id,
                tuple(map(ast.literal_eval, call.args)),
                {str(k.arg): ast.literal_eval(k.value) for k in call.keywords},
            )
    raise ValueError(
        f"{flag} must be a name, or one with numbers and texts as arguments, got "
        f"{text!r}: write for example keras:Huber(delta=0.5)"
    )


def check(
    flag: str, text: str, allowed: Collection[str], has_keras: bool = True
) -> None:
    """Checks the form of a text; what Keras and one's own modules have isn't known yet.

    Args:
        flag: its name, for the message.
        text: its value.
        allowed: the names beside `module:function`.
        has_keras: whether `keras:NAME` is allowed.

    Raises:
        ValueError: it has another form.
    """
    if is_own(text):
        check_own(flag, text)
        return
    call = parse(flag, text)
    if not (has_keras if is_keras(text) else call.name in allowed):
        others = "keras:NAME or module:function" if has_keras else "module:function"
        what = f"{', '.join(allowed)}, {others}"
        refuse(flag, what, call.name, allowed)


def refuse(flag: str, what: str, name: str, known: Collection[str]) -> NoReturn:
    """Raises an error that names what is most alike.

    Args:
        flag: its name.
        what: what it must be, in words.
        name: which isn't known.
        known: the names that are.

    Raises:
        ValueError: always.
    """
    near = difflib.get_close_matches(name, known, 1, 0.0)[0]
    raise ValueError(f"{flag} must be {what}, got {name!r}: write for example {near}")
