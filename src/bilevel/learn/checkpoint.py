"""Fits on disk: JSON for what is plain, safetensors for tensors; written whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from bilevel.ground.errors import InputError, UnknownPart
from bilevel.ground.packing import Packable, pack, unpack
from bilevel.ground.typed import parsed, table
from bilevel.model.describe import build, describe
from bilevel.model.energy import Energy

__all__ = ["check", "damaged", "read", "read_state", "write", "write_state"]

FORMAT = "bilevel-fit-5"
PLAIN, TENSORS, STATE = "fit.json", "fit.safetensors", "state.safetensors"
COMPLEX = ".complex"
"""Ends the names of complex tensors, which are written as pairs of real numbers."""
ROUNDING = 100.0
"""Of gradients of the same energy [1], as one may be compiled and the other not."""
_TRIES, _PAUSE = 20, 0.01
_SCRATCH = ".saving-"
"""How often, and how many seconds apart, files that do not belong together are read again."""


def write(folder: Path, energy: Energy, about: Mapping[str, Any]) -> None:
    """Write both files next to each other and rename them into place.

    Raises:
        InputError: no permission, an energy that cannot be described, or ``about`` is no JSON.
    """
    description, tensors = describe(energy)
    content = save(_real(tensors))
    digest = hashlib.sha256(content).hexdigest()
    plain = {"format": FORMAT, "tensors": digest, "energy": description, **about}
    _replace(folder, {TENSORS: content, PLAIN: _json(plain).encode()})


def check(energy: Energy, y: Tensor | None = None) -> None:
    """Whether :func:`read` would give the same energy, without writing anything.

    The same description and tensors, and the same gradient of the smooth terms at the first row of
    data ``y``, if there are any.

    Raises:
        InputError: it cannot be described, cannot be built again, or would be another one.
    """
    description, tensors = describe(energy)
    again = _energy(parsed(_json(description)), _complex(load(save(_real(tensors)))))
    described, copies = describe(again)
    name = type(energy).__name__
    advice = "let options() give every argument that builds the part again, as it is now"
    same = _json(described) == _json(description) and tensors.keys() == copies.keys()
    if not (same and all(_equal(tensors[k], copies[k]) for k in tensors)):
        raise InputError(f"saving this {name} would change it", advice=advice)
    if y is None:
        return
    x = energy.at(y[:1]).start()
    with torch.no_grad():
        slopes = [e.split(y[:1]).smooth.grad(x) for e in (energy, again)]
        values = [e.at(y[:1]).value(x) for e in (energy, again)]
    for what, (before, after) in (("gradient", slopes), ("value", values)):
        off, size = float((before - after).abs().max()), float(before.abs().max())
        if not off <= ROUNDING * torch.finfo(before.dtype).eps * size:
            given = f"a difference of {off:g}"
            raise InputError(
                f"saving this {name} would change its {what}", given=given, advice=advice
            )


def write_state(folder: Path, state: Packable | None) -> None:
    """What learning goes on from, in one file; None takes away what lies there.

    Raises:
        InputError: no permission, or a state of parts that cannot be saved.
    """
    if state is None:
        (folder / STATE).unlink(missing_ok=True)
        return
    plain, tensors = pack(state)
    _replace(folder, {STATE: save(_real(tensors), {"plain": _json(plain)})})


def read_state(folder: Path) -> Any:
    """The inverse of :func:`write_state`; None if there is no state.

    Raises:
        InputError: a damaged file.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        content = path.read_bytes()
        with cast(Any, safe_open(path, "pt")) as file:
            about = cast(dict[str, str], file.metadata() or {})
        return unpack(parsed(about.get("plain", "")), _complex(load(content)))
    except (OSError, SafetensorError, InputError) as error:
        raise damaged(folder, error) from error


def read(folder: Path) -> tuple[Energy, dict[str, Any]]:
    """The energy and everything else that :func:`write` was given, still unchecked.

    While another process writes, both files are read again until they belong together.

    Raises:
        InputError: no fit, a damaged one, or one of another version.
    """
    if not (folder / PLAIN).is_file():
        advice = "give the folder that fit.save or `bilevel learn --out` wrote"
        raise InputError(f"'{folder}' holds no {PLAIN}", advice=advice)
    for again in range(_TRIES):
        try:
            text, content = (folder / PLAIN).read_bytes(), (folder / TENSORS).read_bytes()
            about = table(parsed(text), PLAIN)
            if about.get("format") != FORMAT:
                raise InputError(f"'{folder / PLAIN}' was not written by bilevel as {FORMAT}")
            if about.get("tensors") == hashlib.sha256(content).hexdigest():
                return _energy(about.get("energy"), _complex(load(content))), about
        except UnknownPart as error:
            raise UnknownPart(f"the fit in '{folder}' has a part of one's own: {error}") from error
        except (OSError, SafetensorError, InputError) as error:
            raise damaged(folder, error) from error
        time.sleep(_PAUSE * (again > 0))
    found = _left(folder)
    if found is None:
        raise damaged(folder, InputError(f"{TENSORS} is not what {PLAIN} was written with"))
    return found


def _left(folder: Path) -> tuple[Energy, dict[str, Any]] | None:
    """The fit of a writer that was killed while it renamed: its other half waits beside."""
    texts, contents = (
        [path.read_bytes() for path in (folder / name, *folder.glob(f"{_SCRATCH}*/{name}"))]
        for name in (PLAIN, TENSORS)
    )
    for text, content in itertools.product(texts, contents):
        with suppress(SafetensorError, InputError):
            about = table(parsed(text), PLAIN)
            whole = about.get("tensors") == hashlib.sha256(content).hexdigest()
            if whole and about.get("format") == FORMAT:
                return _energy(about.get("energy"), _complex(load(content))), about
    return None


def damaged(folder: Path, error: Exception) -> InputError:
    """That what lies in ``folder`` is damaged, and why."""
    advice = "save the fit again, or use another folder"
    return InputError(f"the fit in '{folder}' is damaged ({error})", advice=advice)


def _energy(description: Any, tensors: Mapping[str, Tensor]) -> Energy:
    energy = build(table(description, "the energy"), tensors)
    if not isinstance(energy, Energy):
        raise InputError(f"a {type(energy).__name__} is not an energy")
    return energy


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def _json(value: object) -> str:
    try:
        return json.dumps(value, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        advice = "use numbers, words, lists and tables, and no NaN"
        raise InputError(f"what is to be saved is no JSON ({error})", advice=advice) from error


def _real(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"{name}{COMPLEX}" if t.is_complex() else name: torch.view_as_real(t.resolve_conj())
        .clone()
        .contiguous()
        if t.is_complex()
        else t
        for name, t in tensors.items()
    }


def _complex(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = dict(tensors)
    for name in [name for name in tensors if name.endswith(COMPLEX)]:
        pair = found.pop(name)
        if pair.shape[-1:] != (2,) or not pair.is_floating_point():
            raise InputError(f"the saved tensor '{name}' is no pair", given=tuple(pair.shape))
        found[name.removesuffix(COMPLEX)] = torch.view_as_complex(pair)
    return found


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files next to their places, then rename them into these."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_SCRATCH) as scratch:
            for name, content in files.items():
                (Path(scratch) / name).write_bytes(content)
            for name in files:
                os.replace(Path(scratch) / name, folder / name)
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "choose a folder that you may write to"
        raise InputError(f"cannot save into '{folder}': {reason}", advice=advice) from error
