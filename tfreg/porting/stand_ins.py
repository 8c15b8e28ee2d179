"""Stands in for a TF1 name that isn't ported, and raises where it is used.

    slim = unported("tf.contrib.slim")
    slim.conv3d  # no error yet: a module with such a name can be imported

`slim.conv3d(x)` raises NotImplementedError, which says what to write.

The port writes it for names that would otherwise fail when the file is imported.
"""

from typing import Any, NoReturn

from tfreg.porting import names


def unported(name: str) -> "StandIn":
    """Returns a stand-in for a name of TF1.

    Args:
        name: the full name, e.g. tf.contrib.slim.
    """
    return StandIn(name)


class StandIn:
    """A name of TF1 that isn't ported; so are its attributes.

    Raises:
        NotImplementedError: it is called, iterated, tested, entered or subclassed.
    """

    is_unported = True  # An arg_scope's defaults for it have no effect.

    def __init__(self, name: str):
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}, not ported>"

    def __getattr__(self, part: str) -> "StandIn":
        if part.startswith("_"):
            raise AttributeError(part)
        return StandIn(f"{self._name}.{part}")

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        normal = names.normalize(self._name)
        text = names.find_advice(normal) or "write it in TensorFlow 2"
        if normal in names.TABLE:
            text = f"write {names.TABLE[normal].target}"
        raise NotImplementedError(
            f"{self._name} must be ported by hand, got a use of it: {text}"
        )

    __call__ = __iter__ = __bool__ = __enter__ = __exit__ = __len__ = _fail

    def __mro_entries__(self, bases: tuple) -> tuple[type, ...]:
        # A class may be derived from it; it fails where an object is made.
        return (type(self._name, (), {"__init__": self._fail}),)
