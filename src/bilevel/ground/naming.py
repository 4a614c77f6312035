"""Classes by names that files may hold: the library's by their own, others with their module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from bilevel.ground.errors import InputError, UnknownPart, nearest

__all__ = ["class_named", "name_of_class"]

T = TypeVar("T")
LIBRARY = "bilevel"


def name_of_class(cls: type[object]) -> str:
    """``Tikhonov`` for a class of the library, ``module:Name`` for any other.

    Example:
        >>> name_of_class(InputError), name_of_class(Iterator)
        ('InputError', 'collections.abc:Iterator')
    """
    return cls.__name__ if _own(cls) else f"{cls.__module__}:{cls.__qualname__}"


def class_named(name: str, *roots: type[T]) -> type[T]:
    """The class that :func:`name_of_class` named, among the imported subclasses of ``roots``.

    A bare name is that of a class of the library and never of another one. A class that has moved
    to another module since (a script that became a package) is found if it is the only one of its
    name outside of the library; of classes that were defined twice, as in a notebook, the last one.

    Raises:
        InputError: no class of that name is imported, or several could be meant.
    """
    known = list(dict.fromkeys(_subclasses(*roots)))
    exact = [cls for cls in known if name_of_class(cls) == name]
    if exact:
        return exact[-1]
    bare = name.rpartition(":")[2].rpartition(".")[2]
    moved = [cls for cls in known if ":" in name and not _own(cls) and cls.__name__ == bare]
    if len({name_of_class(cls) for cls in moved}) > 1:
        given = ", ".join(sorted({name_of_class(cls) for cls in moved}))
        raise InputError(f"'{name}' is not imported, and others have its name", given=given)
    if moved:
        return moved[-1]
    if ":" in name and name.partition(":")[0].partition(".")[0] != LIBRARY:
        module = name.partition(":")[0]
        advice = "import the file that defines it; on the command line, --import FILE.py"
        raise UnknownPart(f"'{bare}' of {module} is not imported", advice=advice)
    own = {name_of_class(cls) for cls in known if not cls.__name__.startswith("_")}
    raise InputError(f"unknown class '{name}'", advice=nearest(name, own))


def _own(cls: type[object]) -> bool:
    return cls.__module__.partition(".")[0] == LIBRARY


def _subclasses(*roots: type[T]) -> Iterator[type[T]]:
    for root in roots:
        for cls in root.__subclasses__():
            yield cls
            yield from _subclasses(cls)
