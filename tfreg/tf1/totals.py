"""The losses that a step has collected, and their sum with every penalty.

    tf1.losses.add_loss(tf.reduce_mean(logits**2))  # in a step
    loss = tf1.losses.get_total_loss()

The trap: losses collected in a tf.function that is called in the step are another
trace's. A total that would miss them raises.
"""

from collections.abc import Hashable

import tensorflow as tf

from tfreg import collections, losses
from tfreg.collections import ownership, scopes, store, terms, totals
from tfreg.tf1 import variable_scopes

LOSSES = store.GraphKeys.LOSSES


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
    record = scopes.get_record()
    if record is None:
        raise ValueError(
            "a loss must be added inside a step, got one in eager code outside: "
            f"{ownership.ADVICE}, or pass loss_collection=None"
        )
    if not hasattr(loss, "_tfreg_name"):
        loss = variable_scopes.label(tf.identity(loss), "loss")
    collections.add_to_collection(loss_collection, loss)
    record.read.discard((store.get_default_store(), loss_collection))


def get_losses(
    scope: str | None = None, loss_collection: Hashable = LOSSES
) -> list[tf.Tensor]:
    """Returns the losses that this step has collected, unshared on replicas.

    Args:
        scope: regular expression that a name must match at its beginning.
        loss_collection: key of the collection.

    Source: `tf.compat.v1.losses.get_losses`.
    """
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
    # As with model_deploy's clones, where each loss is a mean of as many examples.
    number = 1 if num_examples is None else num_examples
    parts = totals.split_total(data, num_examples=number, scope=scope)
    if not (found or parts.penalties):
        raise ValueError(
            "losses must be collected before their total, got none: call a loss of "
            "tf1.losses in this step, or tf1.losses.add_loss"
        )
    return totals.mark_share(tf.add_n([parts.data, *parts.penalties.values()], name))


def _check_hidden(scope: str | None, has_losses: bool) -> None:
    """Raises where losses were collected in a function that this step calls."""
    key = store.get_default_store(), LOSSES
    # Nobody knows which functions eager code calls beside its own losses.
    if has_losses and scopes.get_graph() is None:
        return
    for record in scopes.get_hidden_records():
        is_over = record.scope is not None and not record.scope.is_open
        if is_over or key in record.read:
            continue
        for loss in record.values.get(key, []):
            name = store.get_name(loss)
            if ownership.matches(scope, name):
                raise ValueError(
                    f"{name} must be collected in the step that sums it, got it "
                    "collected in another function, branch or loop: call "
                    "get_total_loss there, or return the loss and add_loss it here"
                )
