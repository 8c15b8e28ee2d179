r"""Tells TF1 code from TensorFlow 2's, where both have a name but not its meaning.

    versions.list_forms({"tensorflow.placeholder"})  # all of FORMS: it is TF1 code

The trap: `tf.nn.dropout(x, 0.9)` keeps 90 % in TF1 and 10 % in TensorFlow 2. Code with
names that only TF1 has means TF1's, also in the files that it imports.
"""

import re
from collections.abc import Set

import libcst as cst

from tfreg.porting import calls, names, tensorflow2
from tfreg.porting.work import Work

# None: the same name of tf.compat.v1.
FORMS = {
    "tf.nn.dropout": None,
    "tf.Variable": names.read_entry(
        """tf1.Variable initial_value trainable collections -validate_shape
        -caching_device name !variable_def dtype -expected_shape !import_scope
        constraint -use_resource -synchronization -aggregation !shape"""
    ),
    "tf.train.ExponentialMovingAverage": names.read_entry(
        "tf1.ExponentialMovingAverage decay num_updates zero_debias name"
    ),
}

# What tf_upgrade_v2 leaves of graphs; all else of the code is TensorFlow 2's by then.
_GRAPH = re.compile(
    r"tensorflow\.compat\.v1\.(placeholder|(Interactive)?Session|get_variable"
    r"|global_variables_initializer|disable_(v2_behavior|eager_execution))\b"
)


def list_forms(own: Set[str], related: Set[str] = frozenset()) -> list[str]:
    """Returns which of FORMS have TF1's meaning in a file.

    Args:
        own: the imported names in the file, e.g. tensorflow.placeholder.
        related: those in the files that it shares imports with.
    """
    for full in (own, own | related):
        if any(re.match(r"tfreg\b", name) for name in full):
            return []  # It is ported, and what isn't yet may be TensorFlow 2's.
        if any(_is_old(name) for name in full):
            return list(FORMS)
    is_graph = any(_GRAPH.match(name) for name in own | related)
    return [name for name, form in FORMS.items() if form] if is_graph else []


def _is_old(full: str) -> bool:
    if re.match(r"tf_slim\b|tensorflow\.contrib\b", full):
        return True
    name = re.sub(r"^tensorflow(?=\.)(?!\.compat\.)", "tf", full)
    return name.startswith("tf.") and tensorflow2.lacks(name) is not None


def port(work: Work, original: cst.Call, updated: cst.Call, name: str) -> cst.Call:
    """Returns a call of TF1 code as what it meant there.

    Args:
        work: notes of the file.
        original: a call of TF1 code.
        updated: the same call with its parts rewritten.
        name: the normal name of its function, one of FORMS.
    """
    entry, function = FORMS[name], original.func
    full = work.resolver.find_name(function) or ""
    if full.startswith("tensorflow.compat.v1."):
        return updated
    if entry is None:
        moved = work.put_under_v1(function, updated.func)
        return updated.with_changes(func=moved)
    # Elsewhere it is made once, as in TF1.
    if work.resolver.find_parent(original, cst.FunctionDef) is None:
        return updated
    renamed = work.rename(function, updated.func, entry.target)
    return calls.adapt(work, original, updated.with_changes(func=renamed), [entry])
