"""The update of a step: unscale, clip, decay, the optimizer, and what follows it.

    made = updates.Updater(tfreg.models.adapt(model), optimizers.adam(1e-3))
    made.build()
    made.apply(tape.gradient(loss, model.trainable_variables), {})

The trap: an order that changes the result. A gradient is clipped after all replicas'
gradients and the penalties' are in it, weights decay before the optimizer's kernel, and
constraints and averages see the updated weights.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfreg import _tensorflow, optimizers
from tfreg.collections import ownership, parts, scopes, terms
from tfreg.models import freezing
from tfreg.optimizers import after as hooks
from tfreg.optimizers import decays, gradients
from tfreg.training import precision, reports


class Updater:
    """Updates a model's variables by gradients.

    Args:
        adapted: the model.
        optimizer: of `optimizers.adapt`.
        clip_norm: largest global norm of the gradient; None: no clipping.
        loss_scale: of the gradients; None: they aren't scaled.
        after: hooks, as for `optimizers.after`.
        seed: of regularizers that draw random numbers.
    """

    def __init__(
        self,
        adapted: Any,
        optimizer: Any,
        clip_norm: float | None = None,
        loss_scale: precision.LossScale | None = None,
        after: Sequence[hooks.Hook] = (),
        seed: int = 0,
    ) -> None:
        self.adapted, self.optimizer, self.seed = adapted, optimizer, seed
        self.clip_norm, self.loss_scale, self.after = clip_norm, loss_scale, after
        self._named: tuple[list[tf.Variable], dict[str, tf.Variable]] = ([], {})

    def build(self) -> None:
        """Creates the slots of the optimizer and of the hooks.

        Raises:
            ValueError: a pattern of the hooks matches nothing.
        """
        # Keras can't add any later, and hooks are saved in one order.
        known = freezing.list_parameters(self.adapted)
        is_plain = isinstance(self.optimizer, optimizers.Optimizer)
        kept = self.adapted.trainable_variables if is_plain else known
        self.optimizer.build(kept)
        hooks_to_build = [hook for hook in self.after if hasattr(hook, "build")]
        named = self.adapted.by_path(known) if hooks_to_build else {}
        for hook in hooks_to_build:
            hook.build(named)

    def name_variables(self) -> dict[str, tf.Variable]:
        """Returns the trained variables by their paths."""
        trained = self.adapted.trainable_variables
        if [id(v) for v in trained] != [id(v) for v in self._named[0]]:
            self._named = trained, self.adapted.by_path(trained)
        return self._named[1]

    def __str__(self) -> str:
        count = len(self.get_model().get_terms())
        return f"{self.optimizer.name}, {count} penalt{'y' if count == 1 else 'ies'}"

    def get_model(self) -> ownership.Model:
        """Returns the model's parts and terms."""
        return ownership.Model(self.adapted.model, keras=True)

    def list_penalties(self) -> dict[str, list[Any]]:
        """Returns the regularizers and decays of each variable by its path."""
        names = self.adapted.names
        listed: dict[str, list[Any]] = {}
        for term in self.get_model().get_terms():
            for variable in map(parts.unwrap, term.variables):
                if id(variable) in names:
                    listed.setdefault(names[id(variable)], []).append(term.regularizer)
        return listed

    def describe_decay(self, variable: tf.Variable) -> str:
        """Returns the decay that the optimizer itself applies to a variable, or ""."""
        member = self.optimizer.find(variable)
        rate = member.weight_decay if member is not None else 0.0
        return f"{member.name}(weight_decay={rate:g})" if rate else ""

    def warn_doubled(self) -> None:
        """Warns of variables with both L2 and decay, or two decays."""
        listed = self.list_penalties()
        doubled = []
        for path, variable in self.name_variables().items():
            shrinking = [r for r in listed.get(path, []) if _shrinks(r)]
            decay = self.describe_decay(variable)
            if any(isinstance(r, decays.Decay) for r in shrinking) or decay:
                found = [*map(repr, shrinking), *filter(None, [decay])]
                if len(found) > 1:
                    doubled.append(f"{path}: {' + '.join(found)}")
        if doubled:
            warnings.warn(
                f"weights should shrink by L2 or by decay, got both for "
                f"{'; '.join(doubled)}: leave one out, unless you mean it",
                stacklevel=2,
            )

    def apply(
        self,
        summed: Sequence[gradients.Gradient],
        updates: Mapping[int, tf.Tensor],
    ) -> reports.Update:
        """Applies one update.

        Args:
            summed: the gradients of the data, summed over the replicas, times the loss
                scale if there is one; those of the weights' penalties are added.
            updates: number of a variable -> its new value.

        Returns:
            The norm of the gradients, the learning rate, and the loss scale.
        """
        scale, model = self.loss_scale, self.get_model()
        summed = list(map(gradients.add, summed, self._differentiate(model)))
        if scale is not None:
            summed, finite = scale.divide(summed)
        norm = gradients.global_norm(summed)
        reported = reports.Update(norm, self.optimizer.learning_rate())
        if self.clip_norm is not None:
            summed, _ = tf.clip_by_global_norm(summed, self.clip_norm, norm)
        self._assign(updates)
        if scale is None:
            self._apply(summed, model)
            return reported

        def apply() -> tf.Tensor:
            self._apply(summed, model)
            return tf.constant(True)

        self.build()  # Variables can't be created in the branch.

        tf.cond(finite, apply, lambda: tf.constant(False))
        scale.update(finite)
        skipped = tf.cast(scale.num_skipped.read_value(), tf.float32)
        return reported._replace(
            gradient_norm=tf.where(finite, norm, 0.0),
            loss_scale=scale.scale.read_value(),
            skipped_updates=skipped,
        )

    @scopes.do_not_convert
    def _differentiate(self, model: ownership.Model) -> list[gradients.Gradient]:
        """Returns the gradients of the weight penalties, times the loss scale."""
        variables = self.adapted.trainable_variables
        scope = scopes.step_scope(self.optimizer.step, self.seed)
        with scope, decays.applying(), tf.GradientTape() as tape:
            values = [term(model.ids) for term in model.get_terms()]
            total = terms.add_up([value for value in values if value is not None])
            if total is not None and self.loss_scale is not None:
                total = self.loss_scale.multiply(total)
        if total is None:
            return [None] * len(variables)
        return tape.gradient(total, variables)

    @scopes.do_not_convert
    def _apply(
        self, summed: Sequence[gradients.Gradient], model: ownership.Model
    ) -> None:
        variables = self.adapted.trainable_variables
        trained = {id(v) for v in variables}
        decayed = [
            (variable, term.regularizer)
            for term in model.get_terms()
            if isinstance(term.regularizer, decays.Decay)
            for variable in map(parts.unwrap, term.variables)
            if id(variable) in trained
        ]
        decays.apply(decayed, self.optimizer.step, self.optimizer.find)
        self.optimizer.apply(summed, variables, summed=True)
        for variable, constraint in self.adapted.constraints:
            _tensorflow.assign(variable, constraint(variable.read_value()))
        if self.after:
            self.build()
        for hook in self.after:
            hook(self.name_variables(), self.optimizer.step.read_value())

    @scopes.do_not_convert
    def _assign(self, updates: Mapping[int, tf.Tensor]) -> None:
        variables = self.adapted.variables
        for number, value in updates.items():
            _tensorflow.assign(variables[number], value)

    def get_state(self) -> dict[str, tf.Module]:
        """Returns the objects to save in a checkpoint, by name."""
        state: dict[str, tf.Module] = {"optimizer": self.optimizer}
        if self.loss_scale is not None:
            state["loss_scale"] = self.loss_scale
        kept = [hook for hook in self.after if isinstance(hook, tf.Module)]
        if kept:
            state["after"] = _hold(kept)
        references = [reference for _, reference in self.list_references()]
        if references:
            state["references"] = _hold(references)
        return state

    def list_references(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """Returns the variables with a penalty of their distance, and its reference."""
        pairs = [
            (variable, getattr(term.regularizer, "reference", None))
            for term in self.get_model().get_terms()
            for variable in term.variables
        ]
        return [(v, r) for v, r in pairs if isinstance(r, tf.Variable)]


def _hold(values: Sequence[Any]) -> tf.Module:
    holder = tf.Module()
    holder.values = list(values)
    return holder


def _shrinks(regularizer: Any) -> bool:
    """Returns whether it is a decay or L2, or has L2 as a part; also Keras's."""
    members = getattr(regularizer, "members", None)
    if members is not None:
        return any(map(_shrinks, members))
    is_l2 = getattr(regularizer, "name", None) == "l2_regularizer"
    is_keras = bool(getattr(regularizer, "l2", 0.0))
    return is_l2 or is_keras or isinstance(regularizer, decays.Decay)
