"""The losses collected in a step, and their sum with every penalty.

    tf1.losses.add_loss(tf.reduce_mean(logits**2))  # in a step
    loss = tf1.losses.get_total_loss()

The trap: a loss collected in a tf.function belongs to that function's trace, and the
step that calls it can't read it. A total that would miss such a loss raises.
"""

from collections.abc import Hashable

import tensorflow as tf

from tfreg import collections, losses
from tfreg.collections import ownership, scopes, store, terms, totals
from tfreg.tf1 import variable_scopes

LOSSES = store.GraphKeys.LOSSES


@scopes.do_not_convert
def add_loss(loss: tf.Tensor, loss_collection: Hashable = LOSSES) -> None:
    """Adds a loss of this step to a collection, by default the one that is totalled.

    Args:
        loss: scalar; on replicas a mean over this replica's examples, or the same on
            all replicas.
        loss_collection: key of the collection; None: nothing is added.

    Raises:
        ValueError: in eager code outside a step.

    Source: `tf.compat.v1.losses.add_loss`.
    """
    if loss_collection is None:
        return
    record = scopes.get_record()
    if record is None:
        raise ValueError(
            "a loss must be added inside a step, got one in eager code outside a step: "
            f"{ownership.ADVICE}, or pass loss_collection=None"
        )
    if not hasattr(loss, "_tfreg_name"):
        loss = variable_scopes.label(tf.identity(loss), "loss")
    collections.add_to_collection(loss_collection, loss)
    record.read.discard((store.get_default_store(), loss_collection))


def get_losses(
    scope: str | None = None, loss_collection: Hashable = LOSSES
) -> list[tf.Tensor]:
    """Returns the losses collected in this step, on replicas not yet divided.

    Args:
        scope: regular expression that a name must match at its beginning.
        loss_collection: key of the collection.

    Source: `tf.compat.v1.losses.get_losses`.
    """
    return collections.get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[tf.Tensor]:
    """Returns every penalty, evaluated now, on replicas not yet divided.

    Args:
        scope: regular expression that a name must match at its beginning.

    Source: `tf.compat.v1.losses.get_regularization_losses`.
    """
    return losses.get_regularization_losses(scope)


def get_regularization_loss(
    scope: str | None = None, name: str = "total_regularization_loss"
) -> tf.Tensor:
    """Returns the sum of all penalties, 0.0 if there are none.

    On replicas it is not yet divided.

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

    In a replica it is that replica's share, as with `tfreg.losses.total_loss`: the
    shares add up to the mean of the replicas' losses plus each penalty once, as with
    the clones of TF1's model_deploy.

    Args:
        add_regularization_losses: whether to add the penalties.
        name: of the operation.
        scope: regular expression that the names must match at their beginning.
        num_examples: number of examples averaged in the losses, if it differs between
            replicas.

    Raises:
        ValueError: nothing was collected; a loss isn't a scalar; a loss or a penalty
            was computed where it can't be counted.

    Source: `tf.compat.v1.losses.get_total_loss`.
    """
    collected = get_losses(scope)
    for loss in collected:
        if loss.shape.rank != 0:
            raise ValueError(
                f"losses must be scalars, got {loss}: reduce it, or collect it under "
                "another key with loss_collection="
            )
    _check_hidden(scope, bool(collected))
    data = terms.add_up(collected) if collected else tf.constant(0.0)
    scope = scope if add_regularization_losses else r"(?!)"  # Matches no name.
    # model_deploy's clones all have the same number of examples.
    number = 1 if num_examples is None else num_examples
    parts = totals.split_total(data, num_examples=number, scope=scope)
    if not (collected or parts.penalties):
        raise ValueError(
            "losses must be collected before their total, got none: call a loss of "
            "tf1.losses in this step, or tf1.losses.add_loss"
        )
    return totals.mark_share(tf.add_n([parts.data, *parts.penalties.values()], name))


def total_loss(loss: tf.Tensor, scope: str | None = None) -> tf.Tensor:
    """Returns a loss of the data plus every penalty; `loss + tf.add_n(...)` in TF1.

    In a replica it is that replica's share: the losses of all replicas count alike, as
    those of TF1's towers did, and each penalty counts once.

    Args:
        loss: scalar, a mean over this replica's examples, which Keras's losses aren't.
        scope: regular expression that a penalty's name must match at its beginning.

    Raises:
        ValueError: as `tfreg.losses.total_loss`.

    Source: `tf.compat.v1.losses.get_total_loss`, with the data loss given.
    """
    return totals.total_loss(loss, num_examples=1, scope=scope)


def _check_hidden(scope: str | None, has_losses: bool) -> None:
    """Raises if losses were collected in a function that this step calls."""
    key = store.get_default_store(), LOSSES
    # In eager code a function's losses can't be attributed to a step.
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
                    "get_total_loss there, or return the loss and add_loss it in the "
                    "step"
                )
