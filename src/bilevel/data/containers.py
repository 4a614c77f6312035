"""Arrays with names: NPZ, HDF5 and MATLAB files, of which one is taken."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from bilevel.data.arrays import arranged
from bilevel.data.places import Place
from bilevel.data.storage import Layout, Pages, Raw, Storage, full_scale
from bilevel.ground.errors import InputError, nearest

__all__ = ["read_container"]

_MATLAB_NUMBERS = ("double", "single", "logical", "int", "uint")
_MANY = 8
Found = Mapping[str, Any]
"""Arrays by name, those of HDF5 not read yet."""


def read_container(place: Place, layout: Layout | None) -> Pages:
    """The pages of the one array of a file, or of the one that ``place`` names.

    Raises:
        InputError: several arrays and no name, a name that is not there, or as ``read_array``.
    """
    if place.suffix == ".npz":
        return _pages(place, _npz(place), layout)
    if place.suffix == ".mat":
        return _matlab(place, layout)
    with _hdf5().File(place.path, "r") as file:
        return _pages(place, _datasets(file), layout)


def _hdf5() -> Any:
    import h5py  # pyright: ignore[reportMissingTypeStubs]

    return h5py


def _npz(place: Place) -> Found:
    with np.load(io.BytesIO(place.path.read_bytes()), allow_pickle=False) as file:
        names: list[str] = file.files
        chosen = [name for name in names if name == place.key] or names
        return {name: file[name] for name in chosen}


def _matlab(place: Place, layout: Layout | None) -> Pages:
    """Slices stand last in MATLAB's arrays."""
    found: dict[str, Raw]
    if _hdf5().is_hdf5(place.path):  # version 7.3, its axes in reverse
        with _hdf5().File(place.path, "r") as file:
            read = {name: _of_matlab(one) for name, one in _datasets(file).items()}
            found = {name: values for name, values in read.items() if values is not None}
    else:
        import scipy.io  # pyright: ignore[reportMissingTypeStubs]

        read = cast(Any, scipy.io).loadmat(place.path)
        found = {
            name: values
            for name, values in cast(dict[str, Any], read).items()
            if isinstance(values, np.ndarray) and _numbers(values)
        }
    values = _chosen(place, {name: one for name, one in found.items() if one.size > 1})
    if values.ndim > 3:
        raise InputError("arrays of MATLAB have 2 or 3 dimensions", given=values.shape)
    if values.ndim == 3 and 1 not in values.shape and layout != "colour":
        if layout is None:
            several = "coils" if values.dtype.kind == "c" else "colour"
            what = f"dimensions {values.shape} may be slices or {several}"
            advice = (
                "give the layout (--layout, or layout in [data]): stack, slices along the last "
            )
            raise InputError(what, advice=f"{advice}last axis as MATLAB has them, or {several}")
        values = np.moveaxis(values, -1, 0 if layout == "stack" else -3)
    return _arranged(place, values, layout)


def _of_matlab(dataset: Any) -> Raw | None:
    """None for text and references."""
    kind = dataset.attrs.get("MATLAB_class", b"double").decode()
    if not kind.startswith(_MATLAB_NUMBERS):
        return None
    values = np.asarray(dataset[()]).T
    return values.astype(bool) if kind == "logical" else values


def _datasets(file: Any) -> Found:
    found: dict[str, Any] = {}
    kind = _hdf5().Dataset

    def visit(name: str, node: Any) -> None:
        if isinstance(node, kind) and not name.startswith("#"):
            found[name] = node

    file.visititems(visit)
    return found


def _pages(place: Place, found: Found, layout: Layout | None) -> Pages:
    return _arranged(place, np.asarray(_chosen(place, found)[()]), layout)


def _chosen(place: Place, found: Found) -> Any:
    """The array of that name; without one, the only one that can be an image."""
    if place.key is not None:
        key = place.key.strip("/")
        if key not in found:
            raise InputError(f"it holds no '{key}'", advice=nearest(key, found))
        return found[key]
    images = {name: one for name, one in found.items() if len(one.shape) >= 2}
    if len(images) == 1:
        return next(iter(images.values()))
    if not images:
        raise InputError("it holds no array of two or more dimensions")
    shown = [f"{name} {tuple(one.shape)}" for name, one in images.items()]
    more = [f"{len(shown) - _MANY} more"] if len(shown) > _MANY else []
    what = f"it holds several arrays: {', '.join([*shown[:_MANY], *more])}"
    advice = f"name the one that is meant, as in {place.path.name}:{next(iter(images))}"
    raise InputError(what, advice=advice)


def _arranged(place: Place, values: Raw, layout: Layout | None) -> Pages:
    values = _joined(values)
    storage = Storage(place.suffix, values.dtype, full_scale(values.dtype))
    return arranged(values, storage, layout)


def _joined(values: Raw) -> Raw:
    """Complex numbers that lie as real and imaginary part with names."""
    names = values.dtype.names or ()
    if set(names) != {"real", "imag"}:
        return values
    real, imaginary = values["real"], values["imag"]
    kind = np.complex64 if real.dtype.itemsize <= 4 else np.complex128
    return real.astype(kind) + np.asarray(1j, kind) * imaginary.astype(kind)


def _numbers(values: Any) -> bool:
    return values.dtype.kind in "biufc"
