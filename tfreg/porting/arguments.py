"""Adapts the arguments of a TF1 call to tfreg: drops, reorders and renames them.

    call = cst.parse_expression("slim.flatten(x, scope='flat')")
    args = arguments.adapt(call.args, names.TABLE["contrib.flatten"])

An argument that tfreg doesn't have raises, unless its value is None or False.
"""

from collections.abc import Sequence

import libcst as cst

from tfreg.porting import names


class Unportable(Exception):
    """Code that has to be ported by hand; the message says how."""


def adapt(args: Sequence[cst.Arg], entry: names.Entry) -> list[cst.Arg]:
    """Returns the arguments for an entry's target.

    Raises:
        Unportable: tfreg doesn't have an argument.
    """
    if not entry.arguments:
        return list(args)
    result: list[cst.Arg] = []
    known = True  # Whether the position gives the name: not after *args.
    shifted = entry.by_keyword
    for position, arg in enumerate(args):
        if arg.star:
            if arg.star == "*":
                known = False
                if shifted:
                    raise Unportable("write the arguments without *, by keyword")
            result.append(arg)
            continue
        if arg.keyword is not None:
            name = arg.keyword.value
        elif known and position < len(entry.arguments):
            name = entry.arguments[position]
        else:
            result.append(arg)
            continue
        if name in entry.refused and not is_unset(arg.value):
            raise Unportable(f"{entry.target} has no {name}: write its effect by hand")
        if name in entry.dropped or name in entry.refused:
            shifted = shifted or arg.keyword is None
            continue
        name = dict(entry.renamed).get(name, name)
        keyword = arg.keyword is not None or shifted
        result.append(name_argument(arg, name) if keyword else arg)
    return end_arguments(result, args)


def end_arguments(result: Sequence[cst.Arg], args: Sequence[cst.Arg]) -> list[cst.Arg]:
    """Returns arguments that end with the comma and whitespace of the old ones."""
    if not result or result[-1] is args[-1]:
        return list(result)
    last = result[-1].with_changes(
        comma=args[-1].comma,
        whitespace_after_arg=args[-1].whitespace_after_arg,
    )
    return [*result[:-1], last]


def name_argument(arg: cst.Arg, name: str) -> cst.Arg:
    """Returns the argument as a keyword argument."""
    if arg.keyword is not None and arg.keyword.value == name:
        return arg
    return arg.with_changes(
        keyword=cst.Name(name),
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )


def separate(args: Sequence[cst.Arg]) -> list[cst.Arg]:
    """Returns arguments with a comma and a space between them."""
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    last = len(args) - 1
    return [
        arg.with_changes(comma=cst.MaybeSentinel.DEFAULT if i == last else comma)
        for i, arg in enumerate(args)
    ]


def is_unset(node: cst.BaseExpression) -> bool:
    """Returns whether an expression is None or False, as a default is."""
    return isinstance(node, cst.Name) and node.value in ("None", "False")


def find_argument(
    args: Sequence[cst.Arg], position: int, *keywords: str
) -> cst.Arg | None:
    """Returns an argument by position or by any of its names, None if not given."""
    for index, arg in enumerate(args):
        if arg.star:
            return None
        if arg.keyword is None and index == position:
            return arg
        if arg.keyword is not None and arg.keyword.value in keywords:
            return arg
    return None
