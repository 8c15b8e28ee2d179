"""Builds data, model, penalties, optimizer, loop and trainer from a Config.

    run = tfreg.runs.build(settings)  # of tfreg.runs.config.Config(reg="l2", ...)
    run.loop.train(0).total

The trap: a run that fails after it has created its directory. Everything is checked
before the first file is written, and nothing in this module writes.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import data, layers, models, optimizers, rules
from tfreg.data import tasks
from tfreg.optimizers import schedules
from tfreg.runs import calls, config, inputs, named, own, trainer, weights
from tfreg.training import loop, step, strategies


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a run, ready to train.

    Attributes:
        settings: the Config that they were built from.
        dataset: with the examples that the run trains on.
        model: with its penalties.
        loop: trains the model.
    """

    settings: config.Config
    dataset: data.Dataset
    model: tf.Module
    loop: loop.Loop


def build(
    settings: config.Config,
    strategy: tf.distribute.Strategy | None = None,
    dataset: data.Dataset | None = None,
    log: Callable[[str], None] = lambda text: None,
    is_new: bool = True,
) -> Run:
    """Returns data, model, penalties, optimizer and loop; writes nothing.

    Args:
        settings: of the run.
        strategy: the strategy of `settings`, if it exists already.
        dataset: the data set of `settings` with all its examples, if it is loaded
            already.
        log: called with messages for the user.
        is_new: whether to read `init_from`. What is resumed or evaluated has weights
            of its own.

    Raises:
        ValueError: the model doesn't fit the data, or a rule matches nothing.
        data.DataError: the data can't be read.
        weights.WeightsError: the initial weights can't be read, or fit nothing.
    """
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    if strategy is None:
        strategy = strategies.make_strategy(settings.strategy, settings.logical_devices)
    dataset = take_examples(settings, dataset or inputs.load(settings, log))
    batch_size = min(settings.batch_size, len(dataset.train))
    with strategy.scope():
        model = make_model(settings, dataset)
        initial = settings if is_new else dataclasses.replace(settings, init_from=None)
        initialize(initial, model, dataset, log)
        rules.apply(settings.get_rules(), model)
        train_step = step.Step(
            model,
            named.make_loss(settings, dataset),
            _make_optimizer(settings, -(-len(dataset.train) // batch_size)),
            settings.clip_norm,
            settings.seed,
            settings.accumulate,
            settings.precision,
            metrics=named.make_metrics(settings, dataset),
            after=[] if settings.ema is None else [optimizers.ema(settings.ema)],
        )
    train_loop = loop.Loop(
        train_step,
        dataset.train,
        batch_size,
        settings.seed,
        _get_steps_per_call(settings),
        strategy=strategy,
        compile=settings.compile,
        augment=named.make_augmentation(settings, dataset),
    )
    return Run(settings, dataset, model, train_loop)


def initialize(
    settings: config.Config,
    model: tf.Module,
    dataset: data.Dataset,
    log: Callable[[str], None] = lambda text: None,
) -> None:
    """Creates the variables of a model that starts from the weights of another.

    Raises:
        weights.WeightsError: as for `weights.load_weights`.
    """
    needs = any(rule.regularizer == "l2_sp" for rule in settings.get_rules())
    if settings.init_from is None and not needs:
        return
    model(tf.zeros([1, *dataset.train.x.shape[1:]]))
    if settings.init_from is not None:
        source, pattern = settings.init_from, settings.init_pattern
        log(str(weights.load_weights(model, source, pattern)))


def take_examples(settings: config.Config, dataset: data.Dataset) -> data.Dataset:
    """Returns the data with `train_examples` training examples, drawn by the seed.

    Raises:
        ValueError: the training set has fewer examples.
    """
    count, train = settings.train_examples, dataset.train
    if count is None:
        return dataset
    if count > len(train):
        raise ValueError(
            f"train_examples must be at most the {len(train)} of {dataset.name}, "
            f"got {count}: choose fewer"
        )
    # The order of an epoch that no run reaches.
    rows = np.sort(data.permute(len(train), settings.seed, 2**64 - 1)[:count])
    weights = None if train.weights is None else train.weights[rows]
    part = data.Split(train.x[rows], train.y[rows], weights, train.pixels)
    return dataclasses.replace(dataset, train=part)


def _get_steps_per_call(settings: config.Config) -> int | None:
    """Returns a divisor of the steps between checkpoints; None: what the loop takes."""
    if settings.checkpoint_every.endswith("s"):
        return None
    most = 500 if settings.model == "mlp" else 50
    every = int(settings.checkpoint_every)
    return every // -(-every // most)


def _rescale(model: Any, task: tasks.Task) -> Any:
    """Returns a model whose outputs have the targets' means and scales."""
    if not task.scale:
        return model

    def rescale(outputs: tf.Tensor) -> tf.Tensor:
        # In bfloat16 a large mean would round the rest away.
        wide = tf.float64 if outputs.dtype == tf.float64 else tf.float32
        scale, mean = tf.constant(task.scale, wide), tf.constant(task.mean, wide)
        return tf.cast(outputs, wide) * scale + mean

    plain = isinstance(model, layers.Sequential)
    return layers.Sequential([*(model.layers if plain else [model]), rescale])


def make_model(settings: config.Config, dataset: data.Dataset) -> tf.Module:
    """Returns the model without penalties; its first call creates the variables.

    Raises:
        ValueError: the model doesn't fit the data.
    """
    task = inputs.get_task(dataset)
    if calls.is_own(settings.model):
        return _rescale(own.build_model(settings, dataset), task)
    y, shape = dataset.train.y, dataset.train.x.shape[1:]
    num_outputs = dataset.num_classes or int(np.prod(y.shape[1:]))
    if calls.is_keras(settings.model):
        args = settings.model, shape, num_outputs, settings.seed
        return _rescale(named.make_application(*args), task)
    activation = None
    if settings.activation != "linear":
        activation = getattr(tf.nn, settings.activation)
    if settings.model in ("mlp", "linear"):
        hidden = settings.hidden if settings.model == "mlp" else ()
        widths = [*hidden, num_outputs]
        mlp = models.MLP(widths, activation, settings.dropout, seed=settings.seed)
        return _rescale(mlp, task)
    if len(shape) not in (2, 3) or min(shape[:2]) < 12:
        raise ValueError(
            f"model {settings.model} must have images of 12 x 12 pixels or more, got "
            f"inputs of shape {shape}: use the mlp"
        )
    if settings.model == "resnet20":
        return models.ResNet20(num_outputs, activation, seed=settings.seed)
    return models.CNN(num_outputs, activation, settings.dropout, seed=settings.seed)


def _make_optimizer(settings: config.Config, steps_per_epoch: int) -> Any:
    if calls.is_keras(settings.optimizer):
        return named.make_optimizer(settings.optimizer, settings)
    num_steps = steps_per_epoch * settings.epochs
    make = getattr(optimizers, settings.optimizer)
    if "(" in settings.schedule:
        return make(rules.make_schedule(settings.schedule))
    rate, warmup = settings.learning_rate, settings.warmup_steps
    if warmup and warmup >= num_steps:
        raise ValueError(
            f"warmup_steps must be fewer than the run's {num_steps} steps, got "
            f"{warmup}: choose fewer"
        )
    # Without boundaries the rate is constant after the warm-up.
    schedule = schedules.piecewise([], [rate], warmup)
    if settings.schedule == "cosine":
        schedule = schedules.cosine(rate, num_steps, warmup)
    elif settings.schedule == "piecewise":
        # Divided by 10 after a half and after three quarters: He et al. 2016.
        half = num_steps // 2
        places = [half, max(half + 1, num_steps * 3 // 4)]
        values = [rate, rate / 10, rate / 100]
        schedule = schedules.piecewise(places, values, warmup)
    elif settings.schedule == "linear":
        schedule = schedules.linear(rate, 0.0, num_steps)
        schedule = schedules.warmup(schedule, warmup) if warmup else schedule
    return make(schedule)


def make_trainer(
    run: Run,
    directory: pathlib.Path | None = None,
    started: float | None = None,
    histograms: bool = True,
    log: Callable[[str], None] = lambda text: None,
) -> trainer.Trainer:
    """Returns the trainer of a run.

    Args:
        run: of `build`.
        directory: as for `trainer.Trainer`.
        started: as for `trainer.Trainer`.
        histograms: as for `trainer.Trainer`.
        log: as for `trainer.Trainer`.
    """
    settings = run.settings
    return trainer.Trainer(
        run.loop,
        run.dataset.validation,
        directory,
        patience=settings.patience,
        monitor=settings.monitor,
        checkpoint_every=settings.checkpoint_every,
        keep=settings.keep_checkpoints,
        config=settings,
        hparams=get_hparams(settings),
        histograms=histograms,
        splits={
            "train": run.dataset.train,
            "validation": run.dataset.validation,
            "test": run.dataset.test,
        },
        started=started,
        log=log,
    )


def get_hparams(settings: config.Config) -> dict[str, str | int | float]:
    """Returns the hyperparameters for TensorBoard, with the same keys in every run."""
    hparams: dict[str, str | int | float] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.metadata["group"] == "output" or field.name in ("data", "data_dir"):
            continue
        if isinstance(value, tuple):
            value = ",".join(map(str, value))
        hparams[field.name] = "none" if value is None else value
    scales = [s for rule in settings.get_rules() for s in rule.scales]
    known = [scale for scale in scales if not isinstance(scale, str)]
    hparams["scale"] = max(known, default=0.0)
    return hparams
