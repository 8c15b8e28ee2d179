"""Lists and verifies the checkpoints on the disk.

    for path in manifests.list_newest_first(pathlib.Path("runs/a/checkpoints")):
        step, metadata = manifests.verify(path)

The trap: a damaged checkpoint that is read without an error. So each has a manifest
with the sha256 of its files. This module doesn't import TensorFlow.
"""

import contextlib
import hashlib
import json
import pathlib
import re
import shutil
from typing import Any

FOLDER = "checkpoints"  # In a run's directory.
# old-: the previous checkpoint of the same step, while it is saved again.
_NAME = re.compile(r"(?:old-)?step-\d{10}")
_ASIDE = ".aside"
_MANIFEST = "manifest.json"
_MANIFEST_BYTES = 2**20  # A longer file isn't a manifest, and isn't read.


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or another one; scripts exit with status 4."""


def get_aside(directory: pathlib.Path) -> pathlib.Path:
    """Returns the path where a checkpoint is written before it gets its name."""
    return directory / _ASIDE


def remove_leftovers(directory: pathlib.Path) -> None:
    """Removes the incomplete checkpoint that a killed run has left."""
    shutil.rmtree(get_aside(directory), ignore_errors=True)


def list_newest_first(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the directories with a checkpoint's name, intact or not."""
    entries = directory.iterdir() if directory.is_dir() else []
    paths = [entry for entry in entries if _NAME.fullmatch(entry.name)]
    return sorted(paths, key=lambda path: (path.name[-10:], path.name), reverse=True)


def prune(directory: pathlib.Path, keep: int) -> None:
    """Removes the checkpoints older than the newest `keep` intact ones."""
    num_intact = 0
    for path in list_newest_first(directory):
        if num_intact >= keep:
            shutil.rmtree(path)
            continue
        with contextlib.suppress(CheckpointError):
            verify(path)
            num_intact += 1


def write(path: pathlib.Path, step: int, metadata: dict[str, Any]) -> None:
    """Writes the manifest of the files in a directory.

    Args:
        path: of the directory.
        step: number of updates so far.
        metadata: JSON values.

    Raises:
        OSError: it can't be written.
    """
    hashes = {file.name: _hash(file) for file in sorted(path.iterdir())}
    # "facts" is the key of the metadata in existing checkpoints.
    manifest = {"step": step, "facts": metadata, "files": hashes}
    text = json.dumps(manifest, sort_keys=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    (path / _MANIFEST).write_text(f"{text}\n{seal}\n", encoding="utf-8")


def verify(path: pathlib.Path) -> tuple[int, dict[str, Any]]:
    """Verifies a checkpoint by its manifest; returns its step and metadata.

    Raises:
        CheckpointError: a file is missing, damaged or not in the manifest.
    """
    name = path / _MANIFEST
    try:
        with open(name, "rb") as file:
            text, _, seal = file.read(_MANIFEST_BYTES).decode().partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != seal.strip():
            raise ValueError("another sha256")
        manifest = json.loads(text)
        hashes, step, metadata = (manifest[key] for key in ("files", "step", "facts"))
        if step != int(path.name[-10:]):
            raise ValueError(f"it is of step {step}")
        if not isinstance(hashes, dict) or not isinstance(metadata, dict):
            raise ValueError("not a manifest")
        for entry in path.iterdir():
            name = entry
            wanted = None if entry.name == _MANIFEST else hashes.pop(entry.name)
            # A pipe would be waited for.
            if entry.is_symlink() or not entry.is_file():
                raise ValueError("not a regular file")
            if wanted not in (None, _hash(entry)):
                raise ValueError("another sha256")
        if hashes:
            name = path / min(hashes)
            raise ValueError("missing")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"a checkpoint's files must be as they were written, got {str(name)!r} "
            f"({reason}): use another checkpoint"
        ) from None
    return step, metadata


def _hash(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
