"""What is of one's own: `module:function`, from the working directory.

    source = "def build(config, dataset): return tuple"
    pathlib.Path("mynets.py").write_text(source)
    settings = runs.config.Config(model="mynets:build", set=("depth=4",))
    model = own.build_model(settings, dataset)
    own.get_digest(settings)  # of mynets.py

The trap: a source file that is edited between a kill and the resume. Its hash is kept
with the run, and another one is said.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import pathlib
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tfreg.runs import calls


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Returns the options of `--set` by name; values are JSON, or else text.

    Args:
        texts: each `name=value`.

    Raises:
        ValueError: a text has another form, or a name comes twice.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier() or name in options:
            raise ValueError(
                f"set must be a name, = and a value, each name once, got {text!r}: "
                "write for example --set depth=4"
            )
        try:
            options[name] = json.loads(value)
        except (ValueError, RecursionError):
            options[name] = value
    return options


def list_names(settings: Any) -> list[str]:
    """Returns what is of one's own in a Config, each `module:function`."""
    named = [settings.model, settings.loss, *settings.metrics, *settings.augment]
    data = [settings.data] if calls.names_function(settings.data) else []
    return [*data, *(text for text in named if calls.is_own(text))]


def build_model(settings: Any, dataset: Any) -> Any:
    """Returns what the function of `settings.model` returns for (settings, dataset).

    Raises:
        ValueError: the module or the function isn't there; or it returns no model.
    """
    with seeded(settings.seed):
        model = find("model", settings.model)(settings, dataset)
    if model is None or not callable(model):
        raise ValueError(
            f"{settings.model} must return a model, got {model!r:.80}: return a "
            "tf.Module, a Keras model or another object that is called with inputs"
        )
    return model


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Contains code in which Keras draws the seeds of its layers from a seed."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def get_digest(settings: Any) -> str | None:
    """Returns the sha256 of the source files of all that is of one's own.

    Returns:
        None where nothing is, or no module has a source file.
    """
    modules = [_import(text, text) for text in list_names(settings)]
    sources = [getattr(module, "__file__", None) for module in modules]
    paths = [p for p in dict.fromkeys(sources) if p is not None and os.path.isfile(p)]
    if not paths:
        return None
    return hashlib.sha256(b"".join(map(_read, paths))).hexdigest()


def _read(path: str) -> bytes:
    return pathlib.Path(path).read_bytes()


def find(flag: str, text: str) -> Callable:
    """Returns the function of `module:function`.

    Args:
        flag: its name, for the message.
        text: its value.

    Raises:
        ValueError: the module or the function isn't there.
    """
    name = text.partition(":")[2]
    function = getattr(_import(flag, text), name, None)
    if not callable(function):
        raise ValueError(
            f"{flag} must name a function of its module, got {text!r}: define {name} "
            "there"
        )
    return function


def _import(flag: str, text: str) -> Any:
    name = text.partition(":")[0]
    if os.getcwd() not in sys.path:  # An installed command doesn't look there.
        sys.path.insert(0, os.getcwd())
        importlib.invalidate_caches()
    try:
        is_known = name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        is_known = False
    if not is_known:
        raise ValueError(
            f"{flag} must name a module that can be imported, got {text!r}, and no "
            f"{name} in {os.getcwd()!r}: run the command in the folder of {name}.py"
        )
    return importlib.import_module(name)
