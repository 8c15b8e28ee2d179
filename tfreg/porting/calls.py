r"""Rewrites the arguments of calls for tfreg.

    from tfreg.porting import rewriting

    source = b"import tf_slim as slim\nx = slim.flatten(x, scope='flat')\n"
    rewriting.rewrite(source).source  # b"... tf1.layers.flatten(x)\n"

The trap: an argument that one of the functions in a list doesn't have, as in an
arg_scope. It is kept, and reported.
"""

from collections.abc import Sequence

import libcst as cst
from libcst import matchers as m

from tfreg.porting import arguments, names
from tfreg.porting.work import Work

KERAS = ("tf.keras.regularizers.l1", "tf.keras.regularizers.l2")
# In the form that tf_upgrade_v2 writes, with parentheses.
_HALF = m.BinaryOperation(
    left=m.Float("0.5"),
    operator=m.Multiply(),
    right=m.MatchIfTrue(lambda node: bool(node.lpar)),
)


def adapt(work: Work, original, updated, entries: Sequence[names.Entry], first=0):
    """Returns a call with its arguments from `first` on adapted to each entry."""
    args = list(updated.args[first:])
    try:
        for entry in entries:
            args = arguments.adapt(args, entry)
    except arguments.Unportable as error:
        work.leave(original, str(error))
        if original.func in work.rewritten:
            work.restore(original.func)
            return updated.with_changes(func=original.func)
        return updated
    args = arguments.end_arguments([*updated.args[:first], *args], updated.args)
    if args == list(updated.args):
        return updated
    if original.func not in work.rewritten:
        work.note_change(original, "the arguments of tfreg")
    values = {id(arg.value) for arg in args}
    pairs = list(zip(original.args, updated.args, strict=True))
    work.kept[original] = [b for b, a in pairs if id(a.value) in values]
    work.gone |= {b.value for b, a in pairs if id(a.value) not in values}
    return updated.with_changes(args=args)


def adapt_later(work: Work, original, updated, name: str):
    """Returns a partial or arg_scope with the arguments for their functions adapted."""
    first = original.args[0].value if original.args else None
    listed = [e.value for e in getattr(first, "elements", ())]
    functions = [first] if name == "functools.partial" else listed
    resolved = [node and work.resolver.resolve(node) for node in functions]
    entries = [names.TABLE[n] for n in resolved if n in names.TABLE]
    return adapt(work, original, updated, entries, 1)


def restore_contrib(work: Work, original, updated, name: str):
    """Undoes tf_upgrade_v2's conversion of contrib's regularizers to Keras's."""
    if len(original.args) != 1 or original.args[0].star:
        return updated
    arg = updated.args[0]
    old = m.matches(arg, m.Arg(keyword=m.Name("l")))
    scale = arg.value
    if name.endswith("l2"):
        if (arg.keyword is not None and not old) or not m.matches(scale, _HALF):
            return updated
        scale = scale.right
        scale = scale.with_changes(lpar=scale.lpar[1:], rpar=scale.rpar[:-1])
    elif not old:
        return updated
    target = f"tfreg.{name[-2:]}_regularizer"
    function = work.rename(original.func, updated.func, target)
    only = arg.with_changes(value=scale, keyword=None, equal=cst.MaybeSentinel.DEFAULT)
    return updated.with_changes(func=function, args=[only])
