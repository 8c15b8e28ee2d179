"""Compiles a training program once, and reuses it for all scales and seeds.

    seeds = [dataclasses.replace(settings, seed=seed) for seed in range(3)]
    lanes = programs.Lanes(seeds, dataset, strategy)
    with lanes.take(seeds[2]) as lane:
        run = lane.start(seeds[2])  # like runs.build, without compiling again
        run.loop.train(0)

A *lane* is a model with its compiled loop, which trains one run after another. Several
lanes train at once, each in a thread of its own. The trap: a scale that is a Python
float is a constant of the graph, so that each scale compiles another graph.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfreg import data, rules, runs
from tfreg.collections import store
from tfreg.runs import config

# l1, l2 or another kind, its coupling, target, pattern, and a schedule as text.
_Key = tuple[str, str | None, str, str | None, str | None]


def get_program(settings: config.Config) -> config.Config:
    """Returns the settings without those that a program doesn't depend on.

    These are the penalties, the paths and, without dropout, the seed.
    """
    return dataclasses.replace(
        settings,
        reg="none",
        scale=None,
        reg_on=("kernel",),
        seed=settings.seed if settings.dropout else 0,  # Dropout's is a constant.
        logdir="runs",
        run_name=None,
    )


def _sum_scales(penalties: Iterable[rules.Rule]) -> dict[_Key, float]:
    """Returns the scale of each kind of penalty, of a schedule 1.0.

    l1_l2 is two kinds.
    """
    scales: dict[_Key, float] = {}
    for rule in penalties:
        kinds = [rule.regularizer]
        if rule.regularizer == "l1_l2":
            kinds = ["l1", "l2"]
        for kind, scale in zip(kinds, rule.scales, strict=True):
            text = scale if isinstance(scale, str) else None
            key = kind, rule.by, rule.target, rule.pattern, text
            scales[key] = scales.get(key, 0.0) + (1.0 if text else float(scale))
    return scales


def _make_scale(variable: tf.Variable, text: str | None) -> Any:
    """Returns a variable as a scale, times a schedule if there is one."""
    if text is None:
        return variable
    schedule = rules.make_schedule(text)
    return lambda step: variable.read_value() * schedule(step)


class Lane:
    """A model, its optimizer and a compiled loop, which train one run after another.

    Args:
        settings: of all its runs; they differ only in penalties and seed.
        dataset: all the data.
        strategy: the strategy to train with.

    Raises:
        ValueError: the model doesn't fit the data, or a rule matches nothing.
    """

    def __init__(
        self,
        settings: Sequence[config.Config],
        dataset: data.Dataset,
        strategy: tf.distribute.Strategy,
    ) -> None:
        keys = [key for s in settings for key in _sum_scales(s.get_rules())]
        self._dataset = dataset
        with store.Store().as_default(), strategy.scope():
            plain = dataclasses.replace(settings[0], reg="none", scale=None)
            self._run = runs.build(plain, strategy, dataset)
            self._scales = {key: tf.Variable(0.0, False) for key in dict.fromkeys(keys)}
            unit_rules = [
                rules.Rule(kind, (1.0,), target, pattern, by)
                for kind, by, target, pattern, _ in self._scales
            ]
            regularizers = [
                rules.make_regularizer(kind, [_make_scale(scale, text)], by)
                for (kind, by, *_, text), scale in self._scales.items()
            ]
            if any(kind == "l2_sp" for kind, *_ in self._scales):
                self._run.model(tf.zeros([1, *dataset.train.x.shape[1:]]))
            rules.apply(unit_rules, self._run.model, regularizers)
        # The optimizer's state and others; the references of l2_sp are not among them.
        _, *others = self._run.loop.step.get_state().items()
        state = [v for name, p in others if name != "references" for v in p.variables]
        self._initial = [(variable, variable.numpy()) for variable in state]

    def start(self, settings: config.Config) -> runs.Run:
        """Returns the same run as `runs.build`, before its first step.

        It ends the run that was started before, whose variables it reuses.
        """
        for variable, value in self._initial:
            variable.assign(value)
        scales = _sum_scales(settings.get_rules())
        for key, variable in self._scales.items():
            variable.assign(scales.get(key, 0.0))
        dataset = runs.take_examples(settings, self._dataset)
        with store.Store().as_default():
            model = runs.make_model(settings, dataset)
            model(tf.zeros([1, *dataset.train.x.shape[1:]]))
            runs.initialize(settings, model, dataset)
        pairs = zip(self._run.model.variables, model.variables, strict=True)
        for variable, initial in pairs:
            variable.assign(initial)
        for variable, reference in self._run.loop.step.updater.list_references():
            reference.assign(variable)
        self._run.loop.restart(dataset.train, settings.seed)
        return dataclasses.replace(self._run, settings=settings, dataset=dataset)


class Lanes:
    """A pool of lanes, which grows to as many per program as are used at once.

    Args:
        settings: of all runs.
        dataset: all the data.
        strategy: the strategy to train with.

    Raises:
        ValueError: as for `Lane`.
    """

    def __init__(
        self,
        settings: Sequence[config.Config],
        dataset: data.Dataset,
        strategy: tf.distribute.Strategy,
    ) -> None:
        self.dataset, self.strategy = dataset, strategy
        self._settings: dict[config.Config, list[config.Config]] = {}
        for each in settings:
            self._settings.setdefault(get_program(each), []).append(each)
        self._lock = threading.Lock()
        # One for each program, to raise before any file is written.
        self._idle = {program: [self._make(program)] for program in self._settings}

    def _make(self, program: config.Config) -> Lane:
        return Lane(self._settings[program], self.dataset, self.strategy)

    @contextlib.contextmanager
    def take(self, settings: config.Config) -> Iterator[Lane]:
        """Lends a lane for a run with these settings, to one thread."""
        idle = self._idle[program := get_program(settings)]
        with self._lock:
            lane = idle.pop() if idle else self._make(program)
        try:
            yield lane
        finally:
            idle.append(lane)
