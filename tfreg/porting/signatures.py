r"""Rewrites calls whose arguments TensorFlow 2 has changed under the same name.

    from tfreg.porting import rewriting

    source = b"import tensorflow as tf\nx = tf.concat(1, [x, x])\n"
    rewriting.rewrite(source).source  # b"... tf.concat([x, x], 1)\n"

The trap: `tf.where(mask, x, y)` with a vector mask runs in TensorFlow 2, and gives
other numbers.
"""

import libcst as cst
from libcst import matchers as m

from tfreg.porting import arguments, renamed
from tfreg.porting.work import Work

_INTEGER = m.Integer() | m.UnaryOperation(m.Minus(), m.Integer())
_LIST = m.List() | m.Tuple() | m.ListComp()


def port(work: Work, original: cst.Call, updated: cst.Call, name: str):
    """Returns a call in TensorFlow 2's form, or None if it has that already.

    Args:
        work: notes of the file.
        original: a call.
        updated: the same call with its parts rewritten.
        name: the normal name of the function that is called.
    """
    if name in renamed.SWAPPED and _is_swapped(original, name):
        work.note_change(original, "the arguments in today's order")
        return _swap(updated, name)
    if name in renamed.LOGITS_FIRST and _count_positional(original) > 1:
        work.note_change(original, "the arguments by keyword")
        named = [
            arguments.name_argument(arg, word)
            for arg, word in zip(updated.args, ("logits", "labels"), strict=False)
        ]
        updated = updated.with_changes(args=[*named, *updated.args[2:]])
    elif name in renamed.KEYWORDS:
        words = renamed.KEYWORDS[name]
        args = [
            arguments.name_argument(
                arg, words.get(arg.keyword.value, arg.keyword.value)
            )
            if arg.keyword is not None
            else arg
            for arg in updated.args
        ]
        return updated.with_changes(args=args)
    elif not _is_old(original, name):
        return None
    if name in renamed.LOGITS_FIRST and name not in renamed.SIGNATURES:
        return updated
    function = work.put_under_v1(original.func, updated.func)
    return updated.with_changes(func=function)


def _count_positional(call: cst.Call) -> int:
    return sum(arg.keyword is None and not arg.star for arg in call.args)


def _is_old(call: cst.Call, name: str) -> bool:
    """Returns whether a call has TF1's form."""
    given = {arg.keyword.value for arg in call.args if arg.keyword is not None}
    if name == "tf.nn.dropout":
        # By position it may be either; keep_prob tells it by its name.
        second = arguments.find_argument(call.args, 1)
        kept = second is not None and m.findall(
            second.value, m.Name(m.MatchRegex(r"(?i).*keep.*"))
        )
        return "keep_prob" in given or bool(kept)
    count, words = renamed.SIGNATURES.get(name, (len(call.args), frozenset()))
    return _count_positional(call) > count or bool(given & words)


def _is_swapped(call: cst.Call, name: str) -> bool:
    old = renamed.SWAPPED[name][0].split()
    if any(arg.star for arg in call.args):
        return False
    if any(m.matches(arg, m.Arg(keyword=m.Name(old[0]))) for arg in call.args):
        return True
    values = [arg.value for arg in call.args if arg.keyword is None]
    if not values:
        return False
    first = m.matches(values[0], _INTEGER)
    listed = len(values) == 2 and m.matches(values[1], _LIST)
    return first or (name == "tf.concat" and listed)


def _swap(call: cst.Call, name: str) -> cst.Call:
    old, new, order = (text.split() for text in renamed.SWAPPED[name])
    names = dict(zip(old, new, strict=True))
    given: dict[str, cst.Arg] = {}
    for position, arg in enumerate(call.args):
        word = arg.keyword.value if arg.keyword is not None else old[position]
        given[names.get(word, word)] = arg
    args, positional = [], True
    for word in [*order, *(word for word in given if word not in order)]:
        if word not in given:
            positional = False
        elif positional:
            plain = cst.MaybeSentinel.DEFAULT
            args.append(given[word].with_changes(keyword=None, equal=plain))
        else:
            args.append(arguments.name_argument(given[word], word))
    return call.with_changes(args=arguments.separate(args))
