"""The losses that a step has collected, and their sum with every penalty.

    tf1.losses.add_loss(tf.reduce_mean(logits**2))  # in a step
    loss = tf1.losses.get_total_loss()

The trap: losses collected in a tf.function that is called in the step are another
trace's. A total that would miss them raises.
"""

import weakref
from collections.abc import Hashable

import tensorflow as tf

from tfreg import collections, losses
from tfreg.collections import ledger, scopes, store, terms
from tfreg.tf1 import variable_scopes

LOSSES = store.GraphKeys.LOSSES
# Steps of traces in which losses were collected, and those where somebody read them.
_traced: weakref.WeakSet[scopes.Step] = weakref.WeakSet()
_read: weakref.WeakSet[scopes.Step] = weakref.WeakSet()


@scopes.do_not_convert
def add_loss(loss: tf.Tensor, loss_collection: Hashable = LOSSES) -> None:
    """Adds a loss of this step to a collection, by default to what the total sums.

    Args:
        loss: scalar; on replicas a mean over this one's examples, or the same on all.
        loss_collection: its key; None: nothing is added.

    Raises:
        ValueError: in eager code outside a step.

    Source: `tf.compat.v1.losses.add_loss`.
    """
    if loss_collection is None:
        return
    step = scopes.get_step()
    if step is None:
        raise ValueError(
            "a loss must be added inside a step, got one in eager code outside: "
            f"{ledger.WRITE_A_STEP}, or pass loss_collection=None"
        )
    if not hasattr(loss, "_tfreg_name"):
        loss = variable_scopes.label(tf.identity(loss), "loss")
    collections.add_to_collection(loss_collection, loss)
    if loss_collection == LOSSES and step.graph is not None:
        _traced.add(step)
        _read.discard(step)


def get_losses(
    scope: str | None = None, loss_collection: Hashable = LOSSES
) -> list[tf.Tensor]:
    """Returns the losses that this step has collected, unshared on replicas.

    Args:
        scope: regular expression that a name must match at its beginning.
        loss_collection: key of the collection.

    Source: `tf.compat.v1.losses.get_losses`.
    """
    if loss_collection == LOSSES:
        _read.update(scopes.get_visible_steps())
    return collections.get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[tf.Tensor]:
    """Returns every penalty, evaluated now, unshared on replicas.

    Args:
        scope: regular expression that a name must match at its beginning.

    Source: `tf.compat.v1.losses.get_regularization_losses`.
    """
    return losses.get_regularization_losses(scope)


def get_regularization_loss(
    scope: str | None = None, name: str = "total_regularization_loss"
) -> tf.Tensor:
    """Returns the sum of the penalties, unshared on replicas; 0.0 of none.

    Args:
        scope: regular expression that a name must match at its beginning.
        name: of the operation.

    Source: `tf.compat.v1.losses.get_regularization_loss`.
    """
    return tf.identity(losses.get_regularization_loss(scope), name)


@scopes.do_not_convert
def get_total_loss(
    add_regularization_losses: bool = True,
    name: str = "total_loss",
    scope: str | None = None,
    num_examples: int | tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the sum of the step's losses and of every penalty.

    In a replica it is that replica's share, as of `tfreg.losses.total_loss`: all shares
    add up to the mean of the replicas' losses and each penalty once, as the clones of
    TF1's model_deploy did.

    Args:
        add_regularization_losses: False: the losses of the data alone.
        name: of the operation.
        scope: regular expression that the names must match at their beginning.
        num_examples: over how many examples the losses are means, where the replicas'
            numbers differ.

    Raises:
        ValueError: nothing was collected; a loss isn't a scalar; a loss or a penalty
            was computed where it can't be counted.

    Source: `tf.compat.v1.losses.get_total_loss`.
    """
    found = get_losses(scope)
    for loss in found:
        if loss.shape.rank != 0:
            raise ValueError(
                f"losses must be scalars, got {loss}: reduce it, or collect it under "
                "another key by loss_collection="
            )
    _check_hidden(scope, bool(found))
    data = tf.constant(0.0) if not found else terms.add_up(found)
    scope = scope if add_regularization_losses else r"(?!)"  # Which matches no name.
    parts = losses.split_total(data, None, num_examples, scope=scope)
    if not (found or parts.penalties):
        raise ValueError(
            "losses must be collected before their total, got none: call a loss of "
            "tf1.losses in this step, or tf1.losses.add_loss"
        )
    return losses.mark_share(tf.add_n([parts.data, *parts.penalties.values()], name))


def _check_hidden(scope: str | None, has_losses: bool) -> None:
    """Raises where losses were collected in a function that this step calls."""
    key = store.get_default_store(), LOSSES
    graph, visible = scopes.get_graph(), scopes.get_visible_steps()
    chain = scopes.get_chain(graph)
    called = set() if graph is None else ledger.find_called(chain)
    for step in set(_traced) - set(_read) - set(visible):
        is_others = step.replica not in (None, scopes.get_owner())
        if is_others or (step.scope is not None and not step.scope.is_open):
            continue
        if graph is None:
            # Nobody knows which functions eager code calls.
            matters = not has_losses
        else:
            matters = any(outer in called for outer in scopes.get_chain(step.graph))
        for loss in step.values.get(key, []):
            name = ledger.get_name(loss)
            if matters and ledger.matches(scope, name):
                raise ValueError(
                    f"{name} must be collected in the step that sums it, got it "
                    "collected in another function, branch or loop: call "
                    "get_total_loss there, or return the loss and add_loss it here"
                )
