"""Rules that give regularizers to the variables and outputs of layers.

    found = rules.parse("l2(1e-4)@kernel;l1(1e-5)@activity:dense_0")
    rules.apply(found, model)  # of our layers, built or not; or any built tf.Module

The trap: a pattern that matches nothing, and so penalizes nothing. It is an error that
lists the names of the layers.

TensorFlow is imported only when a rule is applied, so that parsing needs none.
"""

import dataclasses
import math
import numbers
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfreg.layers import base
    from tfreg.regularizers import Regularizer

# Name -> the arguments of `tfreg.NAME_regularizer`.
REGULARIZERS = {
    "l1": ("scale",),
    "l2": ("scale",),
    "l1_l2": ("scale_l1", "scale_l2"),
}
TARGETS = ("kernel", "bias", "activity")

_FORM = "REGULARIZER(SCALE[,SCALE])@TARGET[:PATTERN]"
_RULE = re.compile(r"\s*(\w+)\(([^()]*)\)@(\w+)(?::\s*(\S.*?))?\s*", re.DOTALL)
_BIAS_NAMES = ("b", "bias", "biases")


@dataclasses.dataclass(frozen=True)
class Rule:
    """One regularizer for one kind of target; `str` returns the text for `parse`.

    Attributes:
        regularizer: a name in REGULARIZERS.
        scales: its scales, finite floats >= 0.
        target: one of TARGETS.
        pattern: regular expression that must match a layer's full name, without `;` and
            without spaces at its ends; None matches every layer.

    Raises:
        ValueError: a field has another value.
        TypeError: `scales` isn't a tuple of numbers, or `pattern` isn't a str.
    """

    regularizer: str
    scales: tuple[float, ...]
    target: str
    pattern: str | None = None

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
        if self.pattern is not None:
            _check_pattern(self.pattern)
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))

    def _check_scales(self) -> None:
        is_tuple = isinstance(self.scales, tuple | list)
        if not is_tuple or not all(isinstance(s, numbers.Real) for s in self.scales):
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
            _check_scale(name, scale)

    def make(self) -> "Regularizer":
        """Returns the regularizer."""
        return make_regularizer(self.regularizer, self.scales)

    def __str__(self) -> str:
        scales = ",".join(map(repr, self.scales))
        pattern = f":{self.pattern}" if self.pattern else ""
        return f"{self.regularizer}({scales})@{self.target}{pattern}"


def make_regularizer(name: str, scales: Sequence[Any]) -> "Regularizer":
    """Returns the regularizer of a name in REGULARIZERS.

    Args:
        name: a name in REGULARIZERS, for example l2.
        scales: the arguments of its factory, for example `tfreg.l2_regularizer`.

    Raises:
        ValueError: as for `tfreg.l2_regularizer`.
        TypeError: as for `tfreg.l2_regularizer`.
    """
    from tfreg import regularizers

    return getattr(regularizers, f"{name}_regularizer")(*scales)


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
        rules.append(
            Rule(name, tuple(map(_parse_scale, scales.split(","))), target, pattern)
        )
    return tuple(rules)


def _parse_scale(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"a scale must be a finite float >= 0, got {text!r}: write for example 1e-4"
        ) from None


def make_rules(
    regularizer: str, scale: float, targets: Sequence[str]
) -> tuple[Rule, ...]:
    """Returns a rule for each target.

    Args:
        regularizer: a name in REGULARIZERS.
        scale: finite float >= 0; for l1_l2, the scale of both parts.
        targets: names in TARGETS.

    Raises:
        ValueError: a value isn't allowed.
    """
    scales = (float(scale),) * len(REGULARIZERS.get(regularizer, ("scale",)))
    return tuple(Rule(regularizer, scales, target) for target in targets)


def apply(
    rules: str | Sequence[Rule],
    model: Any,
    regularizers: "Sequence[Regularizer] | None" = None,
) -> None:
    """Gives the regularizers of rules to the layers and variables of a model.

    Variables outside `tfreg.layers` must exist already. The layer of such a variable is
    the attribute path to it, for example `blocks/0`; in Keras, its `path` without the
    last part. A bias is a floating trainable variable named `b`, `bias` or `biases`; a
    kernel is any other of rank 2 or more. Activities can be penalized only in
    `tfreg.layers`. A rule applied twice penalizes twice.

    Args:
        rules: Rules, or a text for `parse`.
        model: a tf.Module, a Keras or Sonnet model, or a list of these.
        regularizers: one for each rule; None uses those of the rules.

    Raises:
        ValueError: a rule matches nothing. No rule is applied then.
        TypeError: `rules` is one Rule, or `model` can't hold variables.
    """
    from tfreg.collections import store

    if isinstance(rules, Rule):
        raise TypeError(f"rules must be several Rules, got {rules!r}: write [rule]")
    rules = parse(rules) if isinstance(rules, str) else rules
    layers, others = _list_targets(model)
    matches = [(rule, _match(rule, layers, others)) for rule in rules]
    for rule, (chosen, variables) in matches:
        if not chosen and not variables:
            raise ValueError(_describe_mismatch(rule, layers, others))
    if regularizers is None:
        regularizers = [rule.make() for rule in rules]
    pairs = zip(matches, regularizers, strict=True)
    for (rule, (chosen, variables)), regularizer in pairs:
        for layer in chosen:
            layer.regularize(rule.target, regularizer)
        for other in variables:
            variable = other.variable
            store.get_default_store().add_term(other.path, regularizer, [variable])


@dataclasses.dataclass(frozen=True)
class _Other:
    """A variable outside tfreg's layers, with its path, layer and target."""

    path: str
    layer: str
    target: str
    variable: Any


def _list_targets(model: Any) -> "tuple[list[base.Layer], list[_Other]]":
    """Returns tfreg's layers in a model, and the variables outside them."""
    import tensorflow as tf

    from tfreg.collections import parts, terms
    from tfreg.layers import base

    named = parts.name_parts(model)
    unique = {id(part): part for _, part in named}.values()
    layers = [part for part in unique if isinstance(part, base.Layer)]
    own = {
        id(getattr(layer, name, None)) for layer in layers for name in layer.parameters
    }
    keras = [part for part in unique if parts.is_keras_variable(part)]
    held = {id(parts.unwrap(variable)) for variable in keras}
    others = []
    for path, part in named:
        if not terms.is_variable(part) or not part.trainable:
            continue
        if id(parts.unwrap(part)) in own or id(part) in held:
            continue  # The latter is listed with the Keras variable that holds it.
        if tf.as_dtype(part.dtype).is_floating:
            path = getattr(part, "path", path)  # A Keras variable has a path.
            layer = path.rpartition("/")[0] or getattr(model, "name", "")
            others.append(_Other(path, layer, _get_target(path, part), part))
    return layers, others


def _get_target(path: str, variable: Any) -> str:
    if path.rsplit("/", 1)[-1] in _BIAS_NAMES:
        return "bias"
    return "kernel" if len(variable.shape) >= 2 else ""


def _match(
    rule: Rule, layers: "list[base.Layer]", others: list[_Other]
) -> "tuple[list[base.Layer], list[_Other]]":
    pattern = re.compile(rule.pattern or ".*")
    chosen = [
        layer
        for layer in layers
        if rule.target in layer.targets and pattern.fullmatch(layer.name)
    ]
    variables: dict[int, _Other] = {}
    for other in others:
        if other.target == rule.target and pattern.fullmatch(other.layer):
            # Once, also if several attributes refer to it.
            variables.setdefault(id(other.variable), other)
    return chosen, list(variables.values())


def _describe_mismatch(
    rule: Rule, layers: "list[base.Layer]", others: list[_Other]
) -> str:
    names = [layer.name for layer in layers if rule.target in layer.targets]
    names += [variable.layer for variable in others if variable.target == rule.target]
    why = "only tfreg.layers have any" if rule.target == "activity" else "not made yet?"
    listed = ", ".join(dict.fromkeys(names)) or f"none ({why})"
    return (
        f"a rule must match a layer, got {str(rule)!r}, and the layers with "
        f"{rule.target} are {listed}: change the pattern"
    )
