"""What flags name, made: loss, metrics, augmentation, Keras's optimizers and models.

    settings = config.Config(loss="keras:Huber(0.5)", metrics=("keras:AUC",))
    named.make_loss(dataclasses.replace(settings, loss="auto"), dataset)
    named.make_optimizer("keras:Lion(1e-4)", settings)  # as tfreg.Step takes it

The trap: Keras's losses and metrics take probabilities and one-hot targets where others
take logits and classes. Each gets what it takes here, whatever the model returns.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import data, layers, losses
from tfreg.collections import random
from tfreg.data import augment, tasks
from tfreg.runs import calls, config, inputs, own

_ERRORS = (TypeError, ValueError, IndexError, KeyError, tf.errors.OpError)
_TAKE_PROBABILITIES = ("Dice", "KLDivergence", "Tversky")  # Without from_logits.


@dataclasses.dataclass(frozen=True)
class _Loss:
    """A loss that is chosen, called with what it takes.

    Attributes:
        function: (y, outputs) -> losses `[batch, ...]`.
        task: what is learnt.
        num_classes: of one-hot targets; None: targets as they are.
        probabilities: whether the outputs become probabilities.
    """

    function: losses.DataLoss
    task: tasks.Task
    num_classes: int | None = None
    probabilities: bool = False

    @property
    def targets(self) -> str:
        """The kind of the targets, as `losses.find_targets` returns it."""
        kinds = {"classification": "classes", "regression": "numbers"}
        return kinds.get(self.task.kind, "binary")

    def __call__(self, y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        if self.task.kind == "regression":
            y = tf.reshape(y, [-1, int(np.prod(y.shape[1:]))])
            outputs = tf.reshape(outputs, tf.shape(y))
            if self.task.scale:
                # So that learning rates and penalties don't depend on the unit.
                y, outputs = y / list(self.task.scale), outputs / list(self.task.scale)
            return self.function(y, outputs)
        if self.probabilities:
            outputs = to_probabilities(self.task, outputs)
        if self.num_classes is not None:
            y = tf.one_hot(y, self.num_classes, dtype=outputs.dtype)
        return self.function(y, outputs)


def to_probabilities(task: tasks.Task, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the probabilities of logits, or the outputs of a regression."""
    outputs = tf.cast(outputs, tf.float32)
    if task.kind == "regression":
        return outputs
    is_softmax = task.kind == "classification"
    return tf.nn.softmax(outputs) if is_softmax else tf.sigmoid(outputs)


def make_loss(settings: config.Config, dataset: data.Dataset) -> losses.DataLoss:
    """Returns the loss of `settings.loss`, `auto`: that of the task.

    A loss of Keras gets one-hot targets, unless it is a sparse one, and logits where it
    takes `from_logits`. In a regression all losses get `[batch, targets]`, divided by
    the standard deviations of the targets if they are scaled.

    Raises:
        ValueError: there is none of that name, or it doesn't fit the task.
    """
    task, text = inputs.get_task(dataset), settings.loss
    if text == "auto":
        if task.kind == "classification":
            return losses.sparse_softmax_cross_entropy
        if task.kind in ("binary", "multilabel"):
            return losses.sigmoid_cross_entropy
        return _Loss(losses.mean_squared_error, task)
    if calls.is_own(text):
        loss = _Loss(own.find("loss", text), task)
    else:
        made = _make("loss", text, tf.keras.losses, tf.keras.losses.Loss)
        takes = type(made).__name__ in _TAKE_PROBABILITIES
        takes |= not getattr(made, "from_logits", True)
        count = _count_hot(made, dataset.num_classes)
        loss = _Loss(losses.take_each(made), task, count, takes)
    y = tf.constant(dataset.train.y[:2])
    width = dataset.num_classes or int(np.prod(y.shape[1:]))
    try:
        shape = tf.convert_to_tensor(loss(y, tf.zeros([len(y), width]))).shape
    except _ERRORS as error:
        raise _refuse("loss", text, task, error) from error
    if not shape.rank or shape[0] != len(y):
        raise _refuse("loss", text, task, f"losses of shape {shape} for {len(y)} rows")
    return loss


def _count_hot(made: Any, num_classes: int | None) -> int | None:
    """Returns the width of one-hot targets of a Keras loss or metric; None: others."""
    return None if type(made).__name__.startswith("Sparse") else num_classes


def make_metrics(
    settings: config.Config, dataset: data.Dataset
) -> dict[str, Any] | None:
    """Returns the metrics of the task and those of `settings.metrics`, as for a Step.

    Metrics of Keras get probabilities, and one-hot targets unless they are sparse ones.

    Returns:
        None: those that fit the loss.

    Raises:
        ValueError: there is none of a name.
    """
    task, is_matrix = inputs.get_task(dataset), dataset.train.y.ndim <= 2
    metrics: dict[str, Any] = {"accuracy": None}
    if task.kind == "regression":
        names = ("mean_absolute_error", "r2") if is_matrix else ()
        metrics = dict.fromkeys(names)
    if not settings.metrics:
        return metrics if task.kind == "regression" and is_matrix else None
    for text in settings.metrics:
        if ":" not in text:
            metrics[text] = None
            continue
        if (name := _name(text)) in metrics:
            raise ValueError(
                f"metrics must have names of their own, got a second {name!r}: write "
                "for example keras:AUC(curve='PR', name='auc_pr')"
            )
        metric = _make_metric(text)
        metrics[name] = _convert(metric, task, dataset.num_classes)
    return metrics


def _name(text: str) -> str:
    """Returns a metric's name; Keras numbers its own by what the process has made."""
    if calls.is_own(text):
        return text.partition(":")[2]
    call = calls.parse("metrics", text)
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", call.name).lower()
    return str(call.options.get("name", plain))


def _make_metric(text: str) -> Any:
    if calls.is_keras(text):
        return _make("metrics", text, tf.keras.metrics, tf.keras.metrics.Metric)
    metric = own.find("metrics", text)()
    if not isinstance(metric, tf.keras.metrics.Metric):
        raise ValueError(
            f"metrics must return a Keras metric, got {metric!r:.80} of {text}(): "
            "return for example keras.metrics.AUC()"
        )
    return metric


def _convert(metric: Any, task: tasks.Task, num_classes: int | None) -> Any:
    """Returns a metric that is updated with classes and logits."""
    update = metric.update_state
    count = _count_hot(metric, num_classes)

    def convert(y: Any, outputs: Any, sample_weight: Any = None) -> Any:
        y = y if count is None else tf.one_hot(y, count)
        return update(y, to_probabilities(task, outputs), sample_weight=sample_weight)

    metric.update_state = convert
    return metric


def make_augmentation(
    settings: config.Config, dataset: data.Dataset
) -> augment.Augmentation | None:
    """Returns the changes of `settings.augment` one after the other, None for none.

    Raises:
        ValueError: there is none of a name, or it doesn't fit the data.
    """
    if not settings.augment:
        return None
    changes = []
    for text in settings.augment:
        if calls.is_own(text):
            changes.append(own.find("augment", text))
            continue
        call = calls.parse("augment", text)
        try:
            changes.append(getattr(augment, call.name)(*call.args, **call.options))
        except _ERRORS as error:
            raise ValueError(
                f"augment must have the arguments of {call.name}, got {text!r} "
                f"({_shorten(error)}): see tfreg.data.augment"
            ) from error
    change = augment.chain(*changes)
    x, y = dataset.train.x[:2], dataset.train.y[:2]
    chosen = _add_channel(change) if x.ndim == 3 else change
    try:
        keys = random.make_key(0, 0, tf.range(len(x)))
        shapes = [part.shape for part in chosen((tf.constant(x), tf.constant(y)), keys)]
    except _ERRORS as error:
        raise _refuse("augment", ",".join(settings.augment), None, error) from error
    if shapes != [x.shape, y.shape]:
        raise ValueError(
            f"augment must keep the shapes {x.shape[1:]} and {y.shape[1:]}, got "
            f"{[tuple(shape[1:]) for shape in shapes]}: return a batch of these"
        )
    return chosen


def _add_channel(change: augment.Augmentation) -> augment.Augmentation:
    """Returns a change of images without channels, `[n, height, width]`."""

    def apply(batch: augment.Batch, keys: tf.Tensor) -> augment.Batch:
        x, *rest = change((batch[0][..., tf.newaxis], *batch[1:]), keys)
        return tf.squeeze(x, -1), *rest

    return apply


def make_optimizer(text: str, settings: config.Config) -> Any:
    """Returns the optimizer of `keras:NAME(...)`, by default at --learning_rate.

    Raises:
        ValueError: there is none of that name, or an argument isn't allowed.
    """
    call = calls.parse("optimizer", text)
    rate = {"learning_rate": settings.learning_rate}
    if call.args or "learning_rate" in call.options:
        if settings.learning_rate != config.Config.learning_rate:
            raise ValueError(
                f"learning_rate must be given once, got {settings.learning_rate!r} "
                f"beside {text!r}: leave one of them out"
            )
        rate = {}
    module = tf.keras.optimizers
    return _make("optimizer", text, module, module.Optimizer, rate)


def make_application(text: str, shape: tuple, num_outputs: int, seed: int) -> Any:
    """Returns a model of `keras.applications`, which returns logits.

    Args:
        text: `keras:NAME(...)`; by default without weights.
        shape: of an input, `[height, width]` or `[height, width, channels]`.
        num_outputs: number of outputs.
        seed: of the initial weights.

    Raises:
        ValueError: there is none of that name, or it doesn't fit the images.
    """
    if len(shape) not in (2, 3):
        raise ValueError(
            f"model {text} must have images, got inputs of shape {shape}: use the mlp"
        )
    options: dict[str, Any] = {"weights": None, "classifier_activation": None}
    options |= {"input_shape": (*shape, 1)[:3], "classes": num_outputs}
    # Their inputs are scaled already.
    options |= {"include_preprocessing": False}
    with own.seeded(seed):
        model = _make("model", text, tf.keras.applications, None, options)
    before: list[Callable] = [] if len(shape) == 3 else [lambda x: x[..., tf.newaxis]]
    if text.startswith("keras:EfficientNetB"):  # They divide by 255 themselves.
        before.append(lambda x: x * 255)
    return layers.Sequential([*before, model]) if before else model


def _make(
    flag: str, text: str, module: Any, kind: type | None, defaults: Any = None
) -> Any:
    """Returns what a name of a Keras module makes of its arguments."""
    call = calls.parse(flag, text)
    known = [
        name
        for name, member in vars(module).items()
        if name[:1].isupper()
        and (inspect.isfunction(member) if kind is None else _is_kind(member, kind))
    ]
    if call.name not in known:
        what = f"keras: and a name in {module.__name__.rpartition('.')[2]} of Keras"
        near = [f"keras:{name}" for name in known]
        calls.refuse(flag, what, f"keras:{call.name}", near)
    function = getattr(module, call.name)
    taken = inspect.signature(function).parameters
    options = {"from_logits": True} if flag == "loss" else dict(defaults or {})
    options = {k: v for k, v in options.items() if k in taken} | call.options
    try:
        return function(*call.args, **options)
    except _ERRORS as error:
        raise ValueError(
            f"{flag} must have arguments that Keras takes, got {text!r} "
            f"({_shorten(error)}): see keras.{module.__name__.rpartition('.')[2]}"
        ) from error


def _is_kind(member: Any, kind: type) -> bool:
    return inspect.isclass(member) and issubclass(member, kind) and member is not kind


def _shorten(error: Any) -> str:
    text = re.sub(r"^\{\{.*?\}\} *", "", str(error).strip())  # TensorFlow's node.
    return (text.splitlines() or [type(error).__name__])[0][:200]


def _refuse(flag: str, text: str, task: tasks.Task | None, reason: Any) -> ValueError:
    what = f"a {task.kind}" if task else "the training data"
    return ValueError(
        f"{flag} must fit {what}, got {text!r} ({_shorten(reason)}): choose another"
    )
