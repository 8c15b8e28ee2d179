"""Checks of arguments that are numbers or functions.

    units = _checks.check_int("units", np.int64(128))
    rate = _checks.check_fraction("rate", 0.5)

The trap: `isinstance(x, float)` rejects np.float32(1e-3), and `isinstance(x, int)`
accepts True. These functions accept NumPy's numbers as well as Python's, but no bools.
"""

import math
import numbers
import os
import re
import stat
import struct
from typing import TYPE_CHECKING, Any

_KERAS = {
    "fit": "write tfreg.Loop(step, tfreg.data.Split(x, y)).train(epoch)",
    "predict": "call the model, model(x), or tfreg.load_run(path).predict(x)",
    "evaluate": "write loop.evaluate(tfreg.data.Split(x, y))",
    "compile": "pass the loss and the optimizer to tfreg.Step(model, loss, optimizer)",
}

POSITIVE, NONNEGATIVE = "> 0", ">= 0"

SPLIT = "0.8,0.1,0.1"  # Fractions of training, validation and test.


def check_int(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Returns an integer of any type as an int.

    Args:
        name: name of the argument, for the error message.
        value: the number.
        least: smallest value allowed.
        most: largest value allowed; None: any.

    Raises:
        ValueError: `value` isn't an integer from `least` to `most`.
    """
    allowed = f">= {least}" if most is None else f"from {least} to {most}"
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < least or (most is not None and value > most):
        example = max(least, 10) if most is None else min(max(least, 10), most)
        raise ValueError(
            f"{name} must be an int {allowed}, got {value!r}: write for example "
            f"{example}"
        )
    return int(value)


def check_float(
    name: str, value: Any, bounds: str = POSITIVE, as_float32: bool = False
) -> float:
    """Returns a finite real number of any type as a float.

    Args:
        name: name of the argument, for the error message.
        value: the number.
        bounds: the values allowed, in words; only NONNEGATIVE allows 0.
        as_float32: whether to round to float32. A number that is infinite after that,
            or out of bounds, is an error.

    Raises:
        ValueError: `value` isn't a finite number within the bounds.
    """
    number = _convert(value, as_float32)
    if math.isfinite(number) and (
        number > 0 or (number == 0 and bounds == NONNEGATIVE)
    ):
        return number
    raise ValueError(
        f"{name} must be a finite float {bounds}, got {value!r}: write e.g. 0.1"
    )


def check_fraction(name: str, value: Any, as_float32: bool = False) -> float:
    """Returns a real number in [0, 1) as a float.

    Args:
        name: name of the argument, for the error message.
        value: the number.
        as_float32: whether to round to float32; the result must be below 1 too.

    Raises:
        ValueError: `value` isn't a number in [0, 1).
    """
    number = _convert(value, as_float32)
    if 0 <= number < 1:
        return number
    raise ValueError(
        f"{name} must be a float in [0, 1), got {value!r}: write 0.5 for a half"
    )


def check_function(name: str, value: Any, example: str) -> Any:
    """Returns a function, unchanged.

    Args:
        name: name of the argument, for the error message.
        value: the function.
        example: a correct argument, for the error message.

    Raises:
        TypeError: `value` isn't callable, or is a class.
    """
    if not callable(value) or isinstance(value, type):
        raise TypeError(
            f"{name} must be a callable, got {value!r}: write for example {example}"
        )
    return value


def check_pattern(pattern: Any, example: str) -> str:
    """Returns a regular expression, unchanged.

    Args:
        pattern: the regular expression.
        example: a correct one, for the error message.

    Raises:
        ValueError: it isn't one.
    """
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"a pattern must be a regular expression, got {pattern!r} ({error}): write "
            f"for example {example!r}"
        ) from None
    return pattern


def check_regular(path: str | os.PathLike, error: type[Exception]) -> None:
    """Checks that a path, if it exists, is a regular file or a folder.

    Reading a pipe would wait, and a device may have no end.

    Args:
        path: of the file.
        error: the class to raise.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # Whoever reads it says why.
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a pipe"
        raise error(
            f"{os.fsdecode(path)!r} must be a regular file, got {kind}: copy it into a "
            "file"
        )


def _convert(value: Any, as_float32: bool) -> float:
    """Returns a real number as a float, NaN for anything else."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        number = float(value)
        return struct.unpack("f", struct.pack("f", number))[0] if as_float32 else number
    except OverflowError:
        return math.inf


def parse_split(text: str) -> tuple[float, float, float] | str:
    """Returns three fractions, or the name of the column that holds the names.

    Raises:
        ValueError: fractions that aren't three, aren't > 0 or don't sum to 1.
    """
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    good = len(fractions) == 3 and all(0 < f < 1 for f in fractions)
    if not good or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            "split must be three fractions > 0 of training, validation and test that "
            f"sum to 1, or the name of a column, got {text!r}: write {SPLIT}"
        )
    return fractions[0], fractions[1], fractions[2]


class Guide:
    """Says what to call in place of those methods of Keras that a class hasn't."""

    if not TYPE_CHECKING:  # Else no attribute would be unknown to mypy.

        def __getattr__(self, name: str) -> Any:
            if name not in _KERAS:
                return object.__getattribute__(self, name)  # Raises as usual.
            kind = type(self).__name__
            raise AttributeError(f"a {kind} has no {name}: {_KERAS[name]}")
