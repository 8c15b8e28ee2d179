"""Groups of variables, each with an optimizer of its own, or none.

    optimizer = tfreg.optimizers.groups([
        ("embed|block_[0-3]", None),  # not trained
        ("bias|gamma|beta", tfreg.optimizers.adamw(1e-3, weight_decay=0.0)),
        (".*", tfreg.optimizers.adamw(1e-3, weight_decay=0.01), 2),  # from epoch 2 on
    ])

A pattern is a regular expression that matches the path of a variable or consecutive
parts of it, such as a layer's name. The first pattern that matches counts. The traps: a
pattern that matches nothing, a variable that nobody updates, and a frozen variable
whose penalty counts. A group that isn't trained is frozen in the model, as by
`layer.trainable = False`, so that its penalties don't count.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfreg import _checks
from tfreg.collections import parts, scopes
from tfreg.optimizers import foreign
from tfreg.optimizers import gradients as sums
from tfreg.optimizers import optimizer as kernel


class Group(NamedTuple):
    """One group.

    Attributes:
        pattern: regular expression on the variables' paths.
        optimizer: None: not trained.
        is_trained: epoch -> whether it is trained in it.
    """

    pattern: str
    optimizer: Any
    is_trained: Callable[[int], bool]

    def matches(self, path: str) -> bool:
        """Returns whether the pattern matches a variable's path, or parts of it."""
        return parts.matches_path(self.pattern, path)


def groups(groups: Sequence[tuple]) -> "Groups":
    """Returns an optimizer of groups of variables.

    Args:
        groups: tuples of a pattern, and an optimizer of tfreg or Keras, or None for
            variables that aren't trained; and, if the group isn't trained in every
            epoch, the first epoch in which it is, or a function epoch -> bool.

    Raises:
        ValueError: no group, a pattern that isn't a regular expression, or an optimizer
            that is in two groups.
        TypeError: a group isn't such a tuple.
    """
    return Groups([_make_group(group) for group in groups])


def layerwise(
    patterns: Sequence[str],
    make: Callable[[float], Any],
    learning_rate: float,
    decay: float = 0.65,
    epochs: int = 0,
) -> list[tuple]:
    """Returns groups whose learning rates fall from layer to layer, for `groups`.

    The rate of the k-th pattern is `learning_rate * decay ** k`. With `epochs` it is
    trained from epoch `k * epochs` on: gradual unfreezing.

    Args:
        patterns: of the groups, the head of the model first.
        make: learning rate -> optimizer, for example `tfreg.optimizers.adam`.
        learning_rate: finite float > 0, of the first group.
        decay: finite float > 0.
        epochs: int >= 0, number of epochs between two groups; 0: all from the start.

    Raises:
        ValueError: a number is out of range.

    Source: Howard & Ruder 2018, whose decay is 1 / 2.6; Bao et al. 2022, 0.65.
    """
    rate = _checks.check_float("learning_rate", learning_rate)
    decay = _checks.check_float("decay", decay)
    epochs = _checks.check_int("epochs", epochs, 0)
    return [
        (pattern, make(rate * decay**k), k * epochs)
        for k, pattern in enumerate(patterns)
    ]


def _make_group(group: Any) -> Group:
    if not isinstance(group, tuple | list) or len(group) not in (2, 3):
        raise TypeError(
            f"a group must be (pattern, optimizer) or (pattern, optimizer, epoch), got "
            f"{group!r}: write for example ('.*', tfreg.optimizers.adam(1e-3))"
        )
    pattern, updater, *epochs = group
    _checks.check_pattern(pattern, "block_[0-3]")
    start = epochs[0] if epochs else 0
    if not callable(start):
        first = _checks.check_int("the first epoch of a group", start, 0)

        def start(epoch: int) -> bool:
            return epoch >= first

    return Group(pattern, None if updater is None else adapt(updater), start)


class Groups(tf.Module):
    """The optimizer of `groups`, with the methods of `Optimizer`.

    Attributes:
        step: int64 scalar variable, the number of updates applied. The learning rates
            of tfreg's optimizers are functions of it, also in groups that were frozen
            in the meantime; a Keras optimizer counts its own updates.
        takes_rows: whether IndexedSlices update only the rows looked up, in all groups.
        sums_over_replicas: whether a group's update sums over the replicas itself.
        members: the optimizers.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__("groups")
        self._groups = tuple(groups)
        trained = [g.optimizer for g in groups if g.optimizer is not None]
        if not trained or len({id(each) for each in trained}) < len(trained):
            raise ValueError(
                f"groups must have an optimizer each, got {len(trained)} in "
                f"{len(groups)}, of which some are the same: make one for each group"
            )
        self.members = trained
        self.takes_rows = all(member.takes_rows for member in trained)
        self.sums_over_replicas = any(m.sums_over_replicas for m in trained)
        self.step = kernel.make_step()
        for member in trained:
            member.follow(self.step)
        # Of each variable by its reference, its group's number.
        self._places: dict[Any, int] = {}

    def __repr__(self) -> str:
        return f"groups({', '.join(map(repr, self.members))})"

    def assign(self, names: Mapping[str, tf.Variable]) -> None:
        """Finds the group of each variable.

        Args:
            names: path -> variable, of all that are ever trained.

        Raises:
            ValueError: a pattern matches nothing, or nothing that no earlier one does;
                or a variable is in no group.
        """
        places: dict[Any, int] = {}
        lost = []
        for path, variable in names.items():
            fits = (i for i, g in enumerate(self._groups) if g.matches(path))
            place = next(fits, None)
            if place is None:
                lost.append(path)
            else:
                places[variable.ref()] = place
        listed = ", ".join(names)
        for i, group in enumerate(self._groups):
            if i in places.values():
                continue
            taken = any(map(group.matches, names))
            why = "only variables of earlier groups" if taken else "nothing"
            raise ValueError(
                f"a group must match a variable, got {group.pattern!r}, which matches "
                f"{why}, and the variables are {listed}: change the pattern or the "
                "order"
            )
        if lost:
            raise ValueError(
                f"every variable must be in a group, got none for {', '.join(lost)}: "
                "add a last group ('.*', optimizer), or ('.*', None) to freeze them"
            )
        self._places = places

    def is_trained(self, variable: tf.Variable, epoch: int) -> bool:
        """Returns whether a variable's group is trained in an epoch."""
        group = self._groups[self._find(variable)]
        return group.optimizer is not None and group.is_trained(epoch)

    def list_groups(self) -> list[Group]:
        """Returns the groups."""
        return list(self._groups)

    def describe(self, variable: tf.Variable) -> str:
        """Returns the optimizer of a variable in words, "" for none."""
        group = self._groups[self._places.get(variable.ref(), -1)]
        if variable.ref() not in self._places or group.optimizer is None:
            return ""
        first = next((e for e in range(10_000) if group.is_trained(e)), None)
        since = f", from epoch {first}" if first else ""
        return f"{group.optimizer.name}({group.optimizer.rate!r}){since}"

    def _find(self, variable: tf.Variable) -> int:
        if variable.ref() not in self._places:
            raise ValueError(
                f"{variable.name} must be in a group, got none: call step.build(batch) "
                "or assign({path: variable}) with all variables before the first update"
            )
        return self._places[variable.ref()]

    def find(self, variable: tf.Variable) -> Any:
        """Returns the optimizer that updates a variable, None if none does."""
        return self._groups[self._find(variable)].optimizer

    def list_slots(self) -> list[tf.Variable]:
        """Returns the variables that have slots, in the order of these."""
        return [v for member in self.members for v in member.list_slots()]

    def learning_rate(self) -> tf.Tensor:
        """Returns the largest learning rate of the next update, a float32 scalar."""
        return tf.reduce_max([member.learning_rate() for member in self.members])

    @scopes.do_not_convert
    def build(self, variables: Sequence[tf.Variable]) -> None:
        """Creates the slots of all groups.

        Args:
            variables: with those of groups that aren't trained yet.

        Raises:
            ValueError: a variable is in no group.
        """
        known = [reference.deref() for reference in self._places]
        for member in self.members:
            own = [v for v in known if self.find(v) is member]
            member.build(own)
        for variable in variables:
            self._find(variable)

    @scopes.do_not_convert
    def apply(
        self,
        gradients: Sequence[sums.Gradient],
        variables: Sequence[tf.Variable],
        summed: bool = False,
    ) -> None:
        """Applies one update of each group, and increments `step`.

        Args:
            gradients: one per variable; None leaves a variable unchanged.
            variables: those of the groups, or a part of them.
            summed: whether the gradients are sums over all replicas already.
        """
        self.build(variables)
        if not summed:
            gradients = sums.sum_over_replicas(gradients)
        pairs = list(zip(gradients, variables, strict=True))
        for member in self.members:
            own = [(g, v) for g, v in pairs if self.find(v) is member]
            if any(g is not None for g, _ in own):
                member.apply([g for g, _ in own], [v for _, v in own], summed=True)
        kernel.count_update(self.step)


def adapt(optimizer: Any) -> Any:
    """Returns an optimizer for a training step.

    Args:
        optimizer: of `tfreg.optimizers`, also `groups`, or a Keras optimizer.

    Raises:
        TypeError: it is neither.
        ValueError: as for `foreign.KerasOptimizer`.
    """
    if isinstance(optimizer, kernel.Optimizer | foreign.KerasOptimizer | Groups):
        return optimizer
    if isinstance(optimizer, tf.keras.optimizers.Optimizer):
        return foreign.KerasOptimizer(optimizer)
    raise TypeError(
        "optimizer must be of tfreg.optimizers or a Keras optimizer, got a "
        f"{type(optimizer).__name__}: write for example tfreg.optimizers.adam(1e-3)"
    )
