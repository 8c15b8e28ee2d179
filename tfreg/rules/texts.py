"""Rules as text, which name a regularizer, its scales, a target and a pattern.

    found = rules.parse("l2(1e-4)@kernel;decay(1e-2,by=lr)@kernel:block_.*")
    str(found[1])  # decay(0.01,by=lr)@kernel:block_.*

The trap: a schedule written into a rule that Python would run. Only the names of
SCHEDULES, numbers and lists are read.

TensorFlow is imported only when a regularizer is made, so that parsing needs none.
"""

import ast
import contextlib
import dataclasses
import functools
import math
import numbers
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfreg.optimizers import schedules
    from tfreg.regularizers import Regularizer

# Name -> the arguments of `tfreg.NAME_regularizer`, or of `tfreg.decay`.
REGULARIZERS = {
    "l1": ("scale",),
    "l2": ("scale",),
    "l1_l2": ("scale_l1", "scale_l2"),
    "l2_sp": ("scale",),
    "decay": ("rate",),
}
TARGETS = ("kernel", "bias", "activity")
COUPLINGS = ("lr", "schedule", "step")  # Of `tfreg.decay`.

_FORM = "REGULARIZER(SCALE[,SCALE][,by=COUPLING])@TARGET[:PATTERN]"
# Of `tfreg.optimizers.schedules`.
SCHEDULES = (
    "constant",
    "cosine",
    "exponential",
    "join",
    "linear",
    "piecewise",
    "polynomial",
    "warmup",
)
_RULE = re.compile(r"\s*(\w+)\((.*?)\)@(\w+)(?::\s*(\S.*?))?\s*", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One regularizer for one kind of target; `str` returns the text for `parse`.

    Attributes:
        regularizer: a name in REGULARIZERS.
        scales: its scales, finite floats >= 0, or schedules as text, for example
            `linear(0.0, 1e-4, 1000)`.
        target: one of TARGETS; `l2_sp` and `decay` are of kernels and biases only.
        pattern: regular expression that must match a layer's full name or consecutive
            parts of it, or `!` and one that must not, without `;` and without spaces
            at its ends; None matches every layer.
        by: of `decay`: one of COUPLINGS, None for lr.

    Raises:
        ValueError: a field has another value.
        TypeError: `scales` isn't a tuple of numbers, or `pattern` isn't a str.
    """

    regularizer: str
    scales: tuple[float | str, ...]
    target: str
    pattern: str | None = None
    by: str | None = None

    def __post_init__(self) -> None:
        if self.regularizer not in tuple(REGULARIZERS):
            raise ValueError(
                f"a regularizer must be one of {', '.join(REGULARIZERS)}, got "
                f"{self.regularizer!r}: write for example l2"
            )
        if self.target not in TARGETS:
            raise ValueError(
                f"a target must be one of {', '.join(TARGETS)}, got {self.target!r}: "
                "write for example kernel"
            )
        self._check_scales()
        self._check_kind()
        if self.pattern is not None:
            _check_pattern(self.pattern)
        scales = [write_schedule(s) if isinstance(s, str) else s for s in self.scales]
        plain = tuple(s if isinstance(s, str) else float(s) for s in scales)
        object.__setattr__(self, "scales", plain)

    def _check_kind(self) -> None:
        if self.target == "activity" and self.regularizer in ("l2_sp", "decay"):
            raise ValueError(
                f"{self.regularizer} must be of kernel or bias, got {self.target!r}: "
                "write for example l2(1e-4)@activity"
            )
        couplings = (None, *(COUPLINGS if self.regularizer == "decay" else ()))
        if self.by not in couplings:
            raise ValueError(
                f"by must be one of {', '.join(COUPLINGS)}, of decay only, got "
                f"{self.by!r}: write for example decay(1e-2,by=lr)"
            )

    def _check_scales(self) -> None:
        is_tuple = isinstance(self.scales, tuple | list)
        if not is_tuple or not all(map(_is_scale, self.scales)):
            raise TypeError(
                f"scales must be a tuple of floats, got {self.scales!r}: "
                "write for example (1e-4,)"
            )
        names = REGULARIZERS[self.regularizer]
        if len(self.scales) != len(names):
            raise ValueError(
                f"{self.regularizer} must have {len(names)} scale(s), got "
                f"{len(self.scales)}: write {_FORM}"
            )
        for name, scale in zip(names, self.scales, strict=True):
            if not isinstance(scale, str):
                _check_scale(name, scale)

    def make(self) -> "Regularizer":
        """Returns the regularizer; of `l2_sp` see `apply`."""
        return make_regularizer(self.regularizer, self.scales, self.by)

    def __str__(self) -> str:
        scales = [s if isinstance(s, str) else repr(s) for s in self.scales]
        if self.by is not None:
            scales.append(f"by={self.by}")
        pattern = f":{self.pattern}" if self.pattern else ""
        return f"{self.regularizer}({','.join(scales)})@{self.target}{pattern}"


def _is_scale(scale: Any) -> bool:
    """Returns whether it is a number or may be a schedule."""
    is_call = isinstance(scale, str) and "(" in scale
    return is_call or isinstance(scale, numbers.Real)


def make_regularizer(
    name: str, scales: Sequence[Any], by: str | None = None
) -> "Regularizer":
    """Returns the regularizer of a name in REGULARIZERS.

    Args:
        name: a name in REGULARIZERS, for example l2.
        scales: the arguments of its factory, for example `tfreg.l2_regularizer`;
            schedules may be text.
        by: of `decay`, as for `Rule`.

    Returns:
        A regularizer; of `l2_sp` a factory, weights -> regularizer.

    Raises:
        ValueError: as for `tfreg.l2_regularizer`.
        TypeError: as for `tfreg.l2_regularizer`.
    """
    from tfreg import optimizers, regularizers

    scales = [make_schedule(s) if isinstance(s, str) else s for s in scales]
    if name == "decay":
        return optimizers.decay(scales[0], by or "lr")
    if name == "l2_sp":
        return functools.partial(regularizers.l2_sp_regularizer, *scales)
    return getattr(regularizers, f"{name}_regularizer")(*scales)


def make_schedule(text: str) -> "schedules.Schedule":
    """Returns the schedule of a text such as `linear(0.0, 1e-4, 1000)`.

    Raises:
        ValueError: it is no schedule, or an argument is out of range.
    """
    from tfreg.optimizers import schedules

    def make(node: ast.expr) -> Any:
        if isinstance(node, ast.List | ast.Tuple):
            return [make(each) for each in node.elts]
        if isinstance(node, ast.Call):
            args = [make(each) for each in node.args]
            try:
                return getattr(schedules, ast.unparse(node.func))(*args)
            except TypeError as error:  # Too few or too many arguments.
                reason = str(error)
            raise ValueError(
                f"a schedule must have its arguments, got {ast.unparse(node)!r} "
                f"({reason}): write for example linear(0.0, 1e-4, 1000)"
            )
        return ast.literal_eval(node)

    return make(ast.parse(write_schedule(text), mode="eval").body)


def write_schedule(text: str) -> str:
    """Returns the text of a schedule in its only form.

    Args:
        text: a call of one of SCHEDULES with numbers, lists and schedules.

    Raises:
        ValueError: it is none.
    """

    def check(node: ast.expr) -> bool:
        if isinstance(node, ast.Call):
            named = isinstance(node.func, ast.Name) and node.func.id in SCHEDULES
            return named and not node.keywords and all(map(check, node.args))
        if isinstance(node, ast.List | ast.Tuple):
            return all(map(check, node.elts))
        return isinstance(node, ast.Constant) and isinstance(node.value, int | float)

    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Call) and check(node):
            return ast.unparse(node)
    raise ValueError(
        f"a schedule must be one of {', '.join(SCHEDULES)} with numbers, got {text!r}: "
        "write for example linear(0.0, 1e-4, 1000)"
    )


def _check_scale(name: str, scale: float) -> None:
    # The check of tfreg.regularizers, without TensorFlow.
    if isinstance(scale, numbers.Integral):
        raise ValueError(
            f"{name} cannot be an integer, it must be a finite float >= 0, got "
            f"{scale!r}: write 1.0 for 1, and 0.0 for no penalty"
        )
    if not (math.isfinite(scale) and float(scale) >= 0.0):
        raise ValueError(
            f"{name} must be a finite float >= 0, got {scale!r}: "
            "write 0.0 for no penalty"
        )


def _check_pattern(pattern: Any) -> None:
    if not isinstance(pattern, str):
        raise TypeError(
            f"a pattern must be a str or None, got {pattern!r}: write for example "
            "'dense_.*'"
        )
    if not pattern or ";" in pattern or pattern != pattern.strip():
        raise ValueError(
            "a pattern must be text without ; and without spaces at its ends, got "
            f"{pattern!r}: write \\x3b for ; and None for every layer"
        )
    try:
        with warnings.catch_warnings():
            pattern = pattern.removeprefix("!")
            # A warning means that later Python versions may read the pattern otherwise.
            warnings.simplefilter("error")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(
            f"a pattern must be a regular expression, got {pattern!r} "
            f"({error}): write for example dense_.*"
        ) from None


def parse(text: str) -> tuple[Rule, ...]:
    """Returns the rules in a text.

    Args:
        text: rules of the form `REGULARIZER(SCALE[,SCALE])@TARGET[:PATTERN]`, separated
            by `;`.

    Raises:
        ValueError: a rule has another form, or a value that isn't allowed.
    """
    rules = []
    for part in text.split(";"):
        match = _RULE.fullmatch(part)
        if match is None:
            raise ValueError(
                f"a rule must have the form {_FORM}, got {part!r}: "
                "write for example l2(1e-4)@kernel:dense_0"
            )
        name, scales, target, pattern = match.groups()
        parts = split_arguments(scales)
        by = None
        if parts[-1].strip().startswith("by="):
            by = parts.pop().strip().removeprefix("by=")
        rules.append(Rule(name, tuple(map(_parse_scale, parts)), target, pattern, by))
    return tuple(rules)


def split_arguments(text: str) -> list[str]:
    """Returns the parts between the commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _parse_scale(text: str) -> float | str:
    if re.match(r"\s*\w+\(", text):
        return write_schedule(text)
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"a scale must be a finite float >= 0, got {text!r}: write for example 1e-4"
        ) from None


def make_rules(
    regularizer: str, scale: float | str, targets: Sequence[str]
) -> tuple[Rule, ...]:
    """Returns a rule for each target.

    Args:
        regularizer: a name in REGULARIZERS.
        scale: finite float >= 0, or a schedule as text; for l1_l2, the scale of both
            parts.
        targets: names in TARGETS.

    Raises:
        ValueError: a value isn't allowed.
    """
    scale = scale if isinstance(scale, str) else float(scale)
    scales = (scale,) * len(REGULARIZERS.get(regularizer, ("scale",)))
    return tuple(Rule(regularizer, scales, target) for target in targets)
