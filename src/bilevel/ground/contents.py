"""What ``help`` says of a family: a line for each member, not all methods of all of them."""

from __future__ import annotations

import inspect
import sys

__all__ = ["contents", "summary"]


def summary(thing: object) -> str:
    """The first line of a docstring.

    Example:
        >>> summary(summary)
        'The first line of a docstring.'
    """
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def contents(name: str) -> str:
    """The docstring of the module ``name``, followed by its public classes and functions.

    ``help`` writes out all members of the classes that ``__all__`` names, those inherited from
    ``nn.Module`` too: ten thousand lines for the operators. A family is a module without
    ``__all__`` whose docstring is this.

    Example:
        >>> import bilevel as bl
        >>> print(bl.losses.__doc__)  # doctest: +ELLIPSIS
        Upper-level losses ℓ(x, target).
        ...
        PSNR          Minus the PSNR...
    """
    module = sys.modules[name]
    public = {
        key: value
        for key, value in sorted(vars(module).items())
        if not key.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
        if value is not contents
    }
    width = max(map(len, public))
    lines = [f"{key.ljust(width)}  {summary(value)}" for key, value in public.items()]
    family = name.rpartition(".")[2]
    return "\n".join(
        [module.__doc__ or "", "", *lines, "", f"help({family}.{next(iter(public))}) tells more."]
    )
