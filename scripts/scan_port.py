"""Lists what a port leaves broken without a word, in any folder of TF1 code.

python scripts/scan_port.py src/

It ports the folder in memory, and looks every `tf.x` and `slim.x` of the result up in
the installed TensorFlow. The exit status is 1 if there are names that it lacks and the
report doesn't have.
"""

import ast
import collections
import functools
import pathlib
import sys

import tensorflow as tf

# The checkout's tfreg, whether it is installed or not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfreg.porting import files, rewriting


def get_dotted(node: ast.AST) -> str:
    """Returns the text of a dotted name, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    base = get_dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return base and f"{base}.{node.attr}"  # type: ignore[attr-defined]


def is_missing(text: str) -> bool:
    """Returns whether TensorFlow lacks a name that is written out."""
    first, *parts = text.split(".")
    if first == "slim":
        return True
    try:
        functools.reduce(getattr, parts, tf)
    except AttributeError:
        return True
    return False


def find_silent(result: rewriting.Result) -> list[str]:
    """Returns the missing names of a ported file that its report doesn't have."""
    tree = ast.parse(result.source)
    inner = {n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    texts = [get_dotted(n) for n in ast.walk(tree) if n not in inner]
    missing = collections.Counter(
        text
        for text in texts
        if text.startswith(("tf.", "tensorflow.", "slim.")) and is_missing(text)
    )
    # It is the argument of a get_collection that is told.
    missing.pop("tf.GraphKeys.UPDATE_OPS", None)
    told = [note.name for note in (*result.left, *result.remarks)]
    silent = []
    for text, count in missing.items():
        if sum(text in name or name in text for name in told) < count:
            silent.append(text)
    return sorted(silent)


def main(folder: pathlib.Path) -> int:
    """Prints the silent names of a folder's files; returns the exit status."""
    modules, count = files.read_project(folder), 0
    for file in files.list_files(folder, None):
        try:
            _, result = files.port(file, modules.link(file))
        except files.FileError as error:
            print(f"not ported: {error}")
            continue
        for name in find_silent(result):
            print(f"{file}: {name}")
            count += 1
    print(f"silent: {count}")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
