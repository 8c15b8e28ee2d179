"""Finds the calls that create variables or penalties, or add to collections.

    wrapper = cst.MetadataWrapper(cst.parse_module("tf.cond(p, lambda: f(x), g)"))
    call = wrapper.module.body[0].body[0].value
    text = collecting.find_collecting(Resolver(wrapper), call)  # None: no such call

The trap: values added in the body of a graph loop or branch are lost; and a list read
from a collection lacks the values added later.
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


def find_collecting(resolver: Resolver, call: cst.Call) -> str | None:
    """Returns a collecting call in the functions passed to a call, as text, or None."""
    for arg in call.args:
        bodies: list[cst.CSTNode] = [arg.value]
        if isinstance(arg.value, cst.Name):
            bodies = resolver.find_definitions(arg.value)
        for body in bodies:
            if isinstance(body, cst.FunctionDef | cst.Lambda):
                text = _find_in(resolver, body, set())
                if text is not None:
                    return text
    return None


def _find_in(resolver: Resolver, body: cst.CSTNode, seen: set) -> str | None:
    seen.add(body)
    for inner in m.findall(body, m.Call()):
        function = cst.ensure_type(inner, cst.Call).func
        if _COLLECTING.fullmatch(resolver.resolve(function) or ""):
            return get_text(function)
        if isinstance(function, cst.Name):
            for definition in resolver.find_definitions(function):
                if isinstance(definition, cst.FunctionDef) and definition not in seen:
                    text = _find_in(resolver, definition, seen)
                    if text is not None:
                        return text
    return None


def is_complete(resolver: Resolver, read: cst.CSTNode, use: cst.CSTNode) -> bool:
    """Returns whether nothing is collected between a read and the use of its result.

    Args:
        read: a call that reads a collection.
        use: a use of the variable that holds the result.

    Returns:
        False also if they are in different functions, whose order isn't known.
    """
    function = resolver.find_parent(read, cst.FunctionDef, cst.Lambda, cst.Module)
    if function is None or function is not resolver.find_parent(
        use, cst.FunctionDef, cst.Lambda, cst.Module
    ):
        return False
    first, last = resolver.get_line(read), resolver.get_line(use)
    for inner in m.findall(function, m.Call()):
        call = cst.ensure_type(inner, cst.Call)
        if call is read or not first <= resolver.get_line(call) <= last:
            continue
        if _COLLECTING.fullmatch(resolver.resolve(call.func) or ""):
            return False
        if m.matches(call.func, m.Attribute(value=m.Name("self"))):
            return False  # A method may do anything.
        if isinstance(call.func, cst.Name):
            for definition in resolver.find_definitions(call.func):
                if _find_in(resolver, definition, set()) is not None:
                    return False
    return True
