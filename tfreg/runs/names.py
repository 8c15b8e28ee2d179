"""The name of a run's directory, made from its main settings.

    houses = runs.config.Config(data="houses.csv", target=("price",))
    names.make_run_name(houses)
    # 'houses-mlp128-none-target=price-seed0-...'

The trap: two runs of one name that train differently. What a name can't have is in a
hash at its end.
"""

import dataclasses
import hashlib
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfreg.runs import config

MAX_LENGTH = 150
_NAMED = ("reg", "scale", "reg_on", "dataset", "data_dir", "data", "model", "hidden")
_WORD = re.compile(r"[A-Za-z0-9_]*")


def make_run_name(settings: "config.Config") -> str:
    """Returns the main settings as a name; see `Config.get_run_name`."""
    hidden = "x".join(map(str, settings.hidden)) if settings.model == "mlp" else ""
    penalties = settings.get_rules()
    reg = "+".join(map(str, penalties)) or "none"
    parts = [get_source(settings), settings.model + hidden, reg]
    shown = parts.copy()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        skipped = field.name in (*_NAMED, "seed") or field.metadata["group"] == "output"
        if value != field.default and not skipped:
            text = "+".join(map(str, value)) if isinstance(value, tuple) else value
            parts.append(f"{field.name}={value}")
            shown.append(f"{field.name}={text}")
    for texts in (parts, shown):
        texts.append(f"seed{settings.seed}")
    name = re.sub(r"[^A-Za-z0-9._=+-]+", "_", "-".join(shown))
    name = name if name[:1].isalnum() else f"run{name}"
    is_plain = all(map(_WORD.fullmatch, _list_texts(settings)))
    paths = [settings.data_dir, *([settings.data] if settings.data else [])]
    if is_plain and paths == [None] and len(name) <= MAX_LENGTH:
        return name
    digest = hashlib.sha256(repr((parts, *paths)).encode()).hexdigest()[:8]
    return f"{name[: MAX_LENGTH - 9]}-{digest}"


def _list_texts(settings: "config.Config") -> list[str]:
    """Returns the texts that a name has in full only if they are words."""
    rules = settings.get_rules()
    texts = [rule.pattern or "" for rule in rules]
    texts += [s for rule in rules for s in rule.scales if isinstance(s, str)]
    texts += [settings.init_from or "", settings.init_pattern.replace(".*", "")]
    texts += [settings.model, *settings.set, settings.loss, settings.optimizer]
    texts += [*settings.metrics, *settings.augment]
    texts.append("(" if "(" in settings.schedule else "")
    return texts


def get_source(settings: "config.Config") -> str:
    """Returns the name of the data: of the data set, or of the file without suffix."""
    if settings.data is None:
        return settings.dataset
    last = os.path.basename(os.path.normpath(settings.data))
    return last.partition(".")[0] or last
