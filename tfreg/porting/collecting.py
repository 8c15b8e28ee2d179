"""Finds the calls that make variables or penalties, or add to collections.

    wrapper = cst.MetadataWrapper(cst.parse_module("tf.cond(p, lambda: f(x), g)"))
    call = wrapper.module.body[0].body[0].value
    text = collecting.find_collecting(Resolver(wrapper), call)  # None: nothing

What they add inside a loop's body or a branch would be lost, and what they add after a
collection was read isn't in what was read.
"""

import re

import libcst as cst
from libcst import matchers as m

from tfreg.porting.resolution import Resolver
from tfreg.porting.work import get_text

_COLLECTING = re.compile(
    r"tf\.(get_default_graph\(\)\.)?(add_to_collections?|get_variable)"
    r"|tf\.losses\.(?!get_|Reduction)\w+|tf\.layers\.\w+"
    r"|contrib\.(?!get_|arg_scope|\w*_(regularizer|initializer)$)[\w.]+"
    r"|tfreg\.tf1\.(add_to_collections?|get_variable|layers\.\w+|core_layers\.\w+"
    r"|losses\.(?!get_|Reduction)\w+)"
)


def find_collecting(found: Resolver, call: cst.Call) -> str | None:
    """Returns what collects in the functions that a call is given."""
    for arg in call.args:
        bodies: list[cst.CSTNode] = [arg.value]
        if isinstance(arg.value, cst.Name):
            bodies = found.find_definitions(arg.value)
        for body in bodies:
            if isinstance(body, cst.FunctionDef | cst.Lambda):
                text = _find_in(found, body, set())
                if text is not None:
                    return text
    return None


def _find_in(found: Resolver, body: cst.CSTNode, seen: set) -> str | None:
    seen.add(body)
    for inner in m.findall(body, m.Call()):
        function = cst.ensure_type(inner, cst.Call).func
        if _COLLECTING.fullmatch(found.resolve(function) or ""):
            return get_text(function)
        if isinstance(function, cst.Name):
            for definition in found.find_definitions(function):
                if isinstance(definition, cst.FunctionDef) and definition not in seen:
                    text = _find_in(found, definition, seen)
                    if text is not None:
                        return text
    return None


def is_complete(found: Resolver, read: cst.CSTNode, use: cst.CSTNode) -> bool:
    """Returns whether nothing is collected between a reading and its use.

    Args:
        read: a call, whose result a variable holds.
        use: that variable, where it is used.

    Returns:
        False where they aren't in the same function, too, for nobody knows then.
    """
    around = found.find_parent(read, cst.FunctionDef, cst.Lambda, cst.Module)
    if around is None or around is not found.find_parent(
        use, cst.FunctionDef, cst.Lambda, cst.Module
    ):
        return False
    first, last = found.get_line(read), found.get_line(use)
    for inner in m.findall(around, m.Call()):
        call = cst.ensure_type(inner, cst.Call)
        if call is read or not first <= found.get_line(call) <= last:
            continue
        if _COLLECTING.fullmatch(found.resolve(call.func) or ""):
            return False
        if m.matches(call.func, m.Attribute(value=m.Name("self"))):
            return False  # Whatever that does.
        if isinstance(call.func, cst.Name):
            for definition in found.find_definitions(call.func):
                if _find_in(found, definition, set()) is not None:
                    return False
    return True
