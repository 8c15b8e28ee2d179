"""What a run records of itself, and compares when it is resumed.

    text = records.describe({"learning_rate": 1e-3}, trained)  # for config.json
    records.check_config(pathlib.Path("runs/mine"), text)

The trap: a script that was changed between a kill and the resume, and trains on with
the slots of another optimizer. What differs is named, and nothing is written.
"""

import hashlib
import json
import numbers
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfreg import data, optimizers
from tfreg.runs import config, directories, results
from tfreg.training import checkpoints, exactness, feeding, loop, manifests, step

_ADVICE = "use another directory, or change it back"


def describe(settings: Any, trained: loop.Loop) -> str:
    """Returns the content of config.json.

    Args:
        settings: hyperparameters by name, JSON values; None; or a `config.Config`,
            which determines all.
        trained: the loop.

    Raises:
        ValueError: the hyperparameters aren't JSON.
    """
    if isinstance(settings, config.Config):
        return settings.to_json()
    train_step = trained.step
    updater = train_step.updater
    source = trained.source
    precision = train_step.dtype.name
    if train_step.precision == "tf32":
        precision = "tf32"
    described = {
        "config": dict(settings or {}),
        "model": type(train_step.model).__name__,
        # By their order: Keras numbers layers by what the process has made before.
        "variables": [
            [*v.shape.as_list(), v.dtype.name] for v in train_step.adapted.variables
        ],
        "optimizer": describe_optimizer(updater.optimizer),
        "after": [_describe_value(hook) for hook in updater.after],
        "clip_norm": train_step.clip_norm,
        "accumulate": train_step.accumulate,
        "precision": precision,
        "seed": train_step.seed,
        "data": {
            "source": type(source).__name__,
            "steps_per_epoch": trained.steps_per_epoch,
            "examples": len(source) if feeding.is_indexed(source) else None,
            "batch_size": trained.batch_size,
        },
    }
    if exactness.is_enabled():  # Later than the first runs.
        described["deterministic"] = True
    try:
        return json.dumps({"trainer": described}, indent=2) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"config must have JSON values, got {settings!r:.200} ({error}): write "
            "numbers, text, lists and dicts"
        ) from None


def describe_optimizer(optimizer: Any) -> Any:
    """Returns what an optimizer is, in JSON values."""
    if isinstance(optimizer, optimizers.Groups):
        return [
            [group.pattern, group.optimizer and describe_optimizer(group.optimizer)]
            for group in optimizer.list_groups()
        ]
    described = {
        "name": optimizer.name,
        "learning_rate": _describe_value(optimizer.rate),
    }
    if optimizer.weight_decay:
        described["weight_decay"] = optimizer.weight_decay
    return described


def _describe_value(value: Any) -> Any:
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, tf.Variable):
        return "variable"
    if isinstance(value, optimizers.Ema):
        return f"ema({value.decay!r})"
    text = repr(value)
    # Another address in each process.
    return (
        getattr(value, "__name__", type(value).__name__) if " at 0x" in text else text
    )


def check_config(path: pathlib.Path, text: str) -> None:
    """Checks that an existing run has the same description.

    Args:
        path: of its directory.
        text: of `describe`.

    Raises:
        directories.DirectoryError: it has another one; the message names what differs.
    """
    file = path / directories.CONFIG
    if not file.exists():
        return
    saved, current = directories.read_json(file), json.loads(text)
    if set(saved) != set(current):
        raise directories.DirectoryError(
            f"a run must be resumed by what has begun it, got {str(path)!r} of another "
            "kind: choose another directory"
        )
    differences = [
        f"{name} {a!r:.200}, not {b!r:.200}"
        for name, a, b in _compare("", saved.get("trainer"), current.get("trainer"))
    ]
    if differences:
        raise directories.DirectoryError(
            f"a resumed run must be the same, got one in {str(path)!r} with "
            f"{'; '.join(differences)}: {_ADVICE}"
        )


def _compare(name: str, a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = dict.fromkeys([*a, *b])
        parts = [_compare(f"{name}/{key}", a.get(key), b.get(key)) for key in keys]
        return [difference for part in parts for difference in part]
    return [] if a == b else [(name.strip("/"), a, b)]


def check_workers(described: Sequence[Mapping[str, Any]]) -> None:
    """Checks that all workers have the same settings; where they write doesn't count.

    Args:
        described: the content of config.json of each worker, the chief's first.

    Raises:
        ValueError: the settings differ.
    """
    differences = []
    for i, other in enumerate(described[1:], 1):
        if "trainer" in other or "trainer" in described[0]:
            found = _compare("", other.get("trainer"), described[0].get("trainer"))
            pairs = [f"{name} {a!r:.200}, not {b!r:.200}" for name, a, b in found]
        else:
            own, chief = (
                config.from_json(json.dumps(c)) for c in (other, described[0])
            )
            # Each may read a disk of its own: what is read is compared by its hash.
            pairs = own.get_differences(chief, ("data", "data_dir"))
            if own.epochs != chief.epochs:
                pairs.append(f"epochs {own.epochs}, not {chief.epochs}")
        if pairs:
            differences.append(f"worker {i} with {', '.join(pairs)}")
    if differences:
        raise ValueError(
            f"all workers must have the settings of worker 0, got "
            f"{'; '.join(differences)}: start all by the same command"
        )


def check_worker_data(hashes: Sequence[str]) -> None:
    """Checks that all workers have the same data.

    Args:
        hashes: of the data of each worker, the chief's first.

    Raises:
        data.DataError: they have other data.
    """
    others = [str(i) for i, other in enumerate(hashes) if other != hashes[0]]
    if others:
        raise data.DataError(
            f"all workers must have the same data, got others on worker "
            f"{', '.join(others)}: copy those of worker 0"
        )


def hash_data(sources: Sequence[Any]) -> str:
    """Returns a digest of the examples that are in memory, and of the number of others.

    Args:
        sources: of `tfreg.data`; each counts once, and None doesn't.
    """
    digest = hashlib.sha256()
    for source in {id(source): source for source in sources}.values():
        digest.update(type(source).__name__.encode())
        if isinstance(source, data.Split):
            for array in tf.nest.flatten([source.x, source.y, source.weights]):
                if array is not None:
                    digest.update(f"{array.dtype}{array.shape}".encode())
                    flat = np.ascontiguousarray(array).reshape(-1)
                    digest.update(flat.view(np.uint8).data)
        elif feeding.is_indexed(source):
            digest.update(str(len(source)).encode())
    return digest.hexdigest()


def hash_dataset(dataset: data.Dataset) -> str:
    """Returns `hash_data` of all parts of a data set."""
    return hash_data([dataset.train, dataset.validation, dataset.test])


def check_data(
    saved: Sequence[str], current: str, allowed: bool, log: Callable[[str], None]
) -> list[str]:
    """Checks the data that a run or sweep is resumed with.

    Args:
        saved: hashes of the data it was trained on so far, in order; earlier versions
            kept none.
        current: hash of the data now.
        allowed: whether they may be others.
        log: called with a message if they are.

    Returns:
        The hashes, with the current one.

    Raises:
        manifests.CheckpointError: they are others.
    """
    if not saved or saved[-1] == current:
        return list(saved) or [current]
    text = f"{current[:8]}, not {saved[-1][:8]}"
    if not allowed:
        raise manifests.CheckpointError(
            "what is resumed must have the data that it began with, got those of hash "
            f"{text}: restore the data, train it again under another name, or mix both "
            "by allow_changed_data"
        )
    log(f"the data have changed: their hash is {text}, and both are recorded")
    return [*saved, current]


def check_resume(directory: pathlib.Path | None, resume: Any) -> None:
    """Checks whether a directory is as `Trainer.run(resume=...)` says.

    Raises:
        ValueError: `resume` is neither a bool nor "auto", or there is no directory.
        directories.DirectoryError: there is a run and shouldn't be, or the other way.
    """
    if resume not in (True, False, "auto"):
        raise ValueError(
            f"resume must be True, False or 'auto', got {resume!r}: choose one of them"
        )
    if directory is None:
        if resume is True:
            raise ValueError(
                "resume must be used with a directory, got none: pass directory to the "
                "Trainer"
            )
        return
    begun = directory.is_dir() and directories.has_begun(directory)
    if resume is True and not begun:
        raise directories.DirectoryError(
            f"resume must name a run, got {str(directory)!r} without one: write "
            "resume='auto'"
        )
    if resume is False and begun:
        raise directories.DirectoryError(
            f"the run's directory must be new, got {str(directory)!r}, which exists: "
            "write resume='auto', or use another directory"
        )


def get_metadata(settings: Any, trained: loop.Loop) -> dict[str, Any]:
    """Returns the metadata of a checkpoint: the config's hash and the environment."""
    if isinstance(settings, config.Config):
        digest = settings.get_hash()
    else:
        digest = hashlib.sha256(describe(settings, trained).encode()).hexdigest()
    names = trained.step.adapted.names
    keys = checkpoints.list_keys({"model": trained.step.adapted.checkpoint})
    own = {names[key]: path for key, path in keys.items() if key in names}
    places = {id(v): i for i, v in enumerate(trained.step.adapted.variables)}
    return {
        "config": digest,
        "tensorflow": tf.__version__,
        "device": results.describe_device(),
        "replicas": trained.strategy.num_replicas_in_sync,
        "names": own,
        "slots": [places[id(v)] for v in trained.step.optimizer.list_slots()],
    }


def check_metadata(
    saved: Mapping[str, Any], current: Mapping[str, Any], log: Callable[[str], None]
) -> None:
    """Checks that a checkpoint is the run's, and logs a changed environment.

    Raises:
        manifests.CheckpointError: the checkpoint is of another config.
    """
    if saved["config"] != current["config"]:
        raise manifests.CheckpointError(
            f"a checkpoint must be of its directory's config, got one of "
            f"{saved['config'][:8]}, not {current['config'][:8]}: train it again"
        )
    for name in ("tensorflow", "device", "replicas"):
        if saved[name] != current[name]:
            log(
                f"the last bits may differ: {name} was {saved[name]} and is "
                f"{current[name]}"
            )


def build_slots(saved: Mapping[str, Any], train_step: step.Step) -> None:
    """Creates the slots of a checkpoint, also of variables that are frozen now.

    Raises:
        manifests.CheckpointError: the slots are of other variables, or in another
            order.
    """
    variables, optimizer = train_step.adapted.variables, train_step.optimizer
    wanted = saved.get("slots")
    if wanted is None:  # A checkpoint of an earlier version.
        return
    if max(wanted, default=0) < len(variables):
        optimizer.build([variables[place] for place in wanted])
    places = {id(v): i for i, v in enumerate(variables)}
    slots = [places[id(v)] for v in optimizer.list_slots()]
    if slots[: len(wanted)] != wanted:
        names = [variables[place].name for place in slots]
        raise manifests.CheckpointError(
            "an optimizer's slots must be those of the checkpoint, got those of "
            f"{', '.join(names)}: freeze what was frozen when the run began"
        )


def get_hparams(settings: Any) -> dict[str, str | int | float | bool]:
    """Returns hyperparameters as TensorBoard takes them: nested ones as text."""
    plain = (str, int, float, bool)
    items = dict(settings or {}).items()
    return {str(k): v if isinstance(v, plain) else str(v) for k, v in items}
