"""Fits on disk: JSON for what is plain, safetensors for tensors; written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from bilevel.ground.errors import InputError
from bilevel.ground.packing import Packable, pack, unpack
from bilevel.model.describe import build, describe
from bilevel.model.energy import Energy

__all__ = ["damaged", "read", "read_state", "write", "write_state"]

FORMAT = "bilevel-fit-3"
PLAIN, TENSORS, STATE = "fit.json", "fit.safetensors", "state.safetensors"


def write(folder: Path, energy: Energy, about: Mapping[str, Any]) -> Path:
    """Write both files next to each other and rename them into place."""
    description, tensors = describe(energy)
    text = json.dumps({"format": FORMAT, "energy": description, **about}, indent=1, allow_nan=False)
    _replace(folder, {TENSORS: save(tensors), PLAIN: text.encode()})
    return folder


def write_state(folder: Path, state: Packable | None) -> None:
    """What learning goes on from, in one file; None takes away what lies there."""
    if state is None:
        (folder / STATE).unlink(missing_ok=True)
        return
    plain, tensors = pack(state)
    _replace(folder, {STATE: save(tensors, {"plain": json.dumps(plain, allow_nan=False)})})


def read_state(folder: Path) -> Any:
    """The inverse of :func:`write_state`; None if there is no state."""
    path = folder / STATE
    if not path.is_file():
        return None
    with damaged(folder), cast(Any, safe_open(path, "pt")) as file:
        about = cast(dict[str, str], file.metadata() or {})
        plain = json.loads(about["plain"])
        return unpack(plain, load(path.read_bytes()))


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files next to their places, then rename them into these."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for name, content in files.items():
                (Path(scratch) / name).write_bytes(content)
            for name in files:
                os.replace(Path(scratch) / name, folder / name)
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "choose a folder that you may write to"
        raise InputError(f"cannot save into '{folder}': {reason}", advice=advice) from error


def read(folder: Path) -> tuple[Energy, dict[str, Any]]:
    """The energy and everything else that :func:`write` was given."""
    if not (folder / PLAIN).is_file():
        advice = "give the folder that fit.save or `bilevel learn --out` wrote"
        raise InputError(f"'{folder}' holds no {PLAIN}", advice=advice)
    with damaged(folder):
        about: dict[str, Any] = json.loads((folder / PLAIN).read_text(encoding="utf-8"))
        if about.get("format") != FORMAT:
            raise InputError(f"'{folder / PLAIN}' was not written by bilevel as {FORMAT}")
        energy = build(about["energy"], load((folder / TENSORS).read_bytes()))
        if not isinstance(energy, Energy):
            raise InputError(f"'{folder}' holds a {type(energy).__name__}, not an energy")
        return energy, about


@contextmanager
def damaged(folder: Path) -> Generator[None]:
    """Turn what reading a broken file raises into one clear error."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        advice = "save the fit again, or use another folder"
        raise InputError(f"the fit in '{folder}' is damaged ({error})", advice=advice) from error
