"""What a number or a function among the arguments must be, in one place.

    units = _checks.check_int("units", np.int64(128))
    rate = _checks.check_fraction("rate", 0.5)

The trap: `isinstance(x, float)` refuses np.float32(1e-3), and `isinstance(x, int)`
takes True. NumPy's numbers are accepted like Python's, and bools are not.
"""

import math
import numbers
import struct
from typing import Any

POSITIVE, NONNEGATIVE = "> 0", ">= 0"


def check_int(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Returns an integer of any kind as an int.

    Raises:
        ValueError: it isn't an integer from `least` to `most`.
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
    """Returns a finite real number of any kind as a float.

    Args:
        name: of the argument, for the error.
        value: the number.
        bounds: what it must be, in words; only NONNEGATIVE allows 0.
        as_float32: whether to return the nearest float32, and to refuse what float32
            takes for infinity or, with POSITIVE, for 0.

    Raises:
        ValueError: it isn't one within the bounds.
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
        name: of the argument, for the error.
        value: the number.
        as_float32: whether to return the nearest float32, which must be below 1 too.

    Raises:
        ValueError: it isn't one.
    """
    number = _convert(value, as_float32)
    if 0 <= number < 1:
        return number
    raise ValueError(
        f"{name} must be a float in [0, 1), got {value!r}: write 0.5 for a half"
    )


def check_function(name: str, value: Any, example: str) -> Any:
    """Returns a function as it is.

    Args:
        name: of the argument, for the error.
        value: the function.
        example: what to write instead of a wrong one.

    Raises:
        TypeError: it isn't callable, or is a class.
    """
    if not callable(value) or isinstance(value, type):
        raise TypeError(
            f"{name} must be a callable, got {value!r}: write for example {example}"
        )
    return value


def _convert(value: Any, as_float32: bool) -> float:
    """Returns a real number as a float, NaN for anything else."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        number = float(value)
        return struct.unpack("f", struct.pack("f", number))[0] if as_float32 else number
    except OverflowError:
        return math.inf
