"""Numbers of every kind are taken as arguments, bools and what is out of range not."""

import math
import subprocess
import sys

import numpy as np
import pytest

from tfreg import _checks
from tfreg.optimizers import schedules

FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
INTS = [int, np.int8, np.uint16, np.int64]
NO_NUMBERS = [True, np.True_, "0.5", None, 1j, [0.5]]


@pytest.mark.parametrize("kind", [float, *FLOATS])
def test_every_kind_of_float_is_taken_as_a_float(kind):
    for check in (_checks.check_float, _checks.check_fraction):
        got = check("rate", kind(0.3))
        assert type(got) is float and got == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize("kind", INTS)
def test_every_kind_of_int_is_taken_as_an_int_and_as_a_float(kind):
    got = _checks.check_int("units", kind(7)), _checks.check_float("scale", kind(7))
    assert got == (7, 7.0) and list(map(type, got)) == [int, float]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_bools_and_what_is_no_number_are_refused(value):
    for check in (_checks.check_int, _checks.check_float, _checks.check_fraction):
        with pytest.raises(ValueError, match="rate must be an? .*, got "):
            check("rate", value)


REFUSED = [
    (_checks.check_int, (1.0,), "an int >= 1, got 1.0: write for example 10"),
    (_checks.check_int, (3, 20), "an int >= 20, got 3: write for example 20"),
    (_checks.check_int, (9, 0, 4), "an int from 0 to 4, got 9: write for example 4"),
    (_checks.check_float, (0.0,), "a finite float > 0, got 0.0"),
    (_checks.check_float, (-1.0, ">= 0"), "a finite float >= 0, got -1.0"),
    (_checks.check_float, (math.nan,), "a finite float > 0, got nan"),
    (_checks.check_float, (math.inf,), "a finite float > 0, got inf"),
    (_checks.check_float, (10**400,), "a finite float > 0, got 1000"),
    (_checks.check_float, (1e39, "> 0", True), "a finite float > 0, got 1e[+]39"),
    (_checks.check_float, (1e-50, "> 0", True), "a finite float > 0, got 1e-50"),
    (_checks.check_fraction, (1.0,), r"a float in \[0, 1\), got 1.0"),
    (_checks.check_fraction, (1 - 1e-9, True), r"a float in \[0, 1\), got 0.99"),
]


@pytest.mark.parametrize("check, arguments, message", REFUSED)
def test_a_number_out_of_range_is_refused(check, arguments, message):
    with pytest.raises(ValueError, match=f"^x must be {message}"):
        check("x", *arguments)


def test_bounds_are_taken():
    assert _checks.check_float("x", 0.0, _checks.NONNEGATIVE) == 0.0
    assert _checks.check_fraction("x", 0) == 0.0
    assert [_checks.check_int("x", n, 0, 4) for n in (0, 4)] == [0, 4]


def test_the_nearest_float32_is_returned_where_it_is_asked_for():
    for check in (_checks.check_float, _checks.check_fraction):
        assert check("x", 0.1, as_float32=True) == float(np.float32(0.1))
        assert check("x", 0.1) == 0.1


def test_what_is_no_function_is_refused():
    for value in ("relu", 5, int):
        with pytest.raises(TypeError, match="f must be a callable.*example tf.nn.relu"):
            _checks.check_function("f", value, "tf.nn.relu")
    assert _checks.check_function("f", len, "") is len


def test_a_schedule_takes_numpys_numbers():
    numbers = schedules.cosine(np.float32(0.5), np.int64(8), np.int32(2))
    plain = schedules.cosine(0.5, 8, 2)
    assert [float(numbers(i)) for i in range(9)] == [float(plain(i)) for i in range(9)]
    pieces = schedules.piecewise([np.int64(3)], [np.float64(1), 2], np.int8(2))
    assert [float(pieces(i)) for i in (0, 1, 2, 4)] == [0.0, 0.5, 1.0, 2.0]


def test_importing_the_checks_imports_no_tensorflow():
    code = "import sys, tfreg._checks; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
