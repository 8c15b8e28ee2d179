"""Gives the regularizers of rules to the variables and outputs of layers.

    rules.apply("l2(1e-4)@kernel;l1(1e-5)@activity:dense_0", model)

The trap: a pattern that matches nothing, and so penalizes nothing. It is an error that
lists the names of the layers.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfreg.rules import texts

if TYPE_CHECKING:
    import tensorflow as tf

    from tfreg.layers import base
    from tfreg.regularizers import Regularizer

_BIAS_NAMES = ("b", "bias", "biases")


def apply(
    rules: str | Sequence[texts.Rule],
    model: Any,
    regularizers: "Sequence[Regularizer] | None" = None,
) -> None:
    """Gives the regularizers of rules to the layers and variables of a model.

    Variables outside `tfreg.layers` must exist already. The layer of such a variable is
    the attribute path to it, for example `blocks/0`; in Keras, its `path` without the
    last part. A bias is a floating trainable variable named `b`, `bias` or `biases`; a
    kernel is any other of rank 2 or more. Activities can be penalized only in
    `tfreg.layers`. A rule applied twice penalizes twice. `l2_sp` penalizes the distance
    from the current values, so all variables must exist already.

    Args:
        rules: Rules, or a text for `parse`.
        model: a tf.Module, a Keras or Sonnet model, or a list of these.
        regularizers: one for each rule; None uses those of the rules.

    Raises:
        ValueError: a rule matches nothing, or the variables of `l2_sp` don't exist. No
            rule is applied then.
        TypeError: `rules` is one Rule, or `model` can't hold variables.
    """
    from tfreg.collections import store

    if isinstance(rules, texts.Rule):
        raise TypeError(f"rules must be several Rules, got {rules!r}: write [rule]")
    rules = texts.parse(rules) if isinstance(rules, str) else rules
    layers, others = _list_targets(model)
    matches = [(rule, _match(rule, layers, others)) for rule in rules]
    for rule, (chosen, variables) in matches:
        if not chosen and not variables:
            raise ValueError(_describe_mismatch(rule, layers, others))
    if regularizers is None:
        regularizers = [rule.make() for rule in rules]
    pairs = zip(matches, regularizers, strict=True)
    for (rule, (chosen, variables)), regularizer in pairs:
        if rule.regularizer == "l2_sp":
            variables += _list_built(chosen, rule)
            chosen = []
        for layer in chosen:
            layer.regularize(rule.target, regularizer)
        for other in variables:
            variable, given = other.variable, regularizer
            if rule.regularizer == "l2_sp":
                given = regularizer(_copy_value(variable))  # type: ignore[assignment]
            store.get_default_store().add_term(other.path, given, [variable])


def _copy_value(variable: Any) -> "tf.Variable":
    """Returns a copy of a variable's value, which isn't trained."""
    import tensorflow as tf

    return tf.Variable(variable.numpy(), trainable=False, name="reference")


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


def _list_built(chosen: "list[base.Layer]", rule: texts.Rule) -> list[_Other]:
    """Returns the variables of layers that a rule targets."""
    others = []
    for layer in chosen:
        for name, target in layer.parameters.items():
            if target != rule.target:
                continue
            variable = getattr(layer, name, None)
            if variable is None:
                raise ValueError(
                    f"variables of {rule} must exist, got {layer.name} without its "
                    f"{name}: call the model once before"
                )
            path = f"{layer.name}/{name}"
            others.append(_Other(path, layer.name, rule.target, variable))
    return others


def _get_target(path: str, variable: Any) -> str:
    if path.rsplit("/", 1)[-1] in _BIAS_NAMES:
        return "bias"
    return "kernel" if len(variable.shape) >= 2 else ""


def _match(
    rule: texts.Rule, layers: "list[base.Layer]", others: list[_Other]
) -> "tuple[list[base.Layer], list[_Other]]":
    from tfreg.collections import parts

    pattern = rule.pattern or ".*"
    wanted = not pattern.startswith("!")

    def matches(name: str) -> bool:
        return parts.matches_path(pattern.removeprefix("!"), name) == wanted

    chosen = [
        layer
        for layer in layers
        if rule.target in layer.targets and matches(layer.name)
    ]
    variables: dict[int, _Other] = {}
    for other in others:
        if other.target == rule.target and matches(other.layer):
            # Once, also if several attributes refer to it.
            variables.setdefault(id(other.variable), other)
    return chosen, list(variables.values())


def _describe_mismatch(
    rule: texts.Rule, layers: "list[base.Layer]", others: list[_Other]
) -> str:
    names = [layer.name for layer in layers if rule.target in layer.targets]
    names += [variable.layer for variable in others if variable.target == rule.target]
    why = "only tfreg.layers have any" if rule.target == "activity" else "not made yet?"
    listed = ", ".join(dict.fromkeys(names)) or f"none ({why})"
    return (
        f"a rule must match a layer, got {str(rule)!r}, and the layers with "
        f"{rule.target} are {listed}: change the pattern"
    )
