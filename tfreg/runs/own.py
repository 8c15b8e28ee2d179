"""A model of one's own by its name, `module:function`, from the working directory.

    # nets.py: def build(config, dataset): return tfreg.models.MLP([4, 3])
    settings = runs.config.Config(model="nets:build", set=("depth=4",))
    model = own.build_model(settings, dataset)
    own.get_digest("nets:build")  # of nets.py

The trap: a source file that is edited between a kill and the resume. Its hash is kept
with the run, and another one is said.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check_name(name: str, text: str) -> None:
    """Checks that a text is a module and a function.

    Args:
        name: of the flag, for the message.
        text: its value.

    Raises:
        ValueError: it isn't.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{name} must be module:function, got {text!r}: write for example "
            "nets:build for the function build in nets.py"
        )


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


def build_model(settings: Any, dataset: Any) -> Any:
    """Returns what the function of `settings.model` returns for (settings, dataset).

    Raises:
        ValueError: the module or the function isn't there; or it returns no model.
    """
    model = _find(settings.model)(settings, dataset)
    if model is None or not callable(model):
        raise ValueError(
            f"{settings.model} must return a model, got {model!r:.80}: return a "
            "tf.Module, a Keras model or another object that is called with inputs"
        )
    return model


def get_digest(text: str) -> str | None:
    """Returns the sha256 of the source file of a module:function.

    Returns:
        None where the text has no module, or the module no source file.
    """
    if ":" not in text:
        return None
    source = getattr(_import(text), "__file__", None)
    if source is None or not os.path.isfile(source):
        return None
    return hashlib.sha256(pathlib.Path(source).read_bytes()).hexdigest()


def _find(text: str) -> Callable:
    function = getattr(_import(text), text.partition(":")[2], None)
    if not callable(function):
        raise ValueError(
            f"model must name a function of its module, got {text!r}: define "
            f"{text.partition(':')[2]}(config, dataset) there"
        )
    return function


def _import(text: str) -> Any:
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
            f"model must name a module that can be imported, got {text!r}, and no "
            f"{name} in {os.getcwd()!r}: run the command in the folder of {name}.py"
        )
    return importlib.import_module(name)
