"""DICOM and NIfTI files, in the units that they declare (Hounsfield units, for one)."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from bilevel.data.places import Place
from bilevel.data.storage import Pages, Raw, Storage, full_scale, in_grey_values
from bilevel.ground.errors import InputError
from bilevel.ground.extras import load

__all__ = ["fills_volume", "read_dicom", "read_nifti", "write_nifti"]

_EXTRA = "medical"


def read_dicom(place: Place) -> Pages:
    """Every frame, stored values times slope plus intercept; colours as in pictures.

    Raises:
        InputError: pixels that are neither grey nor colours, or pydicom is missing: it comes with
            ``pip install 'bilevel[medical]'``.
    """
    pydicom = load("pydicom", "reading DICOM", _EXTRA)
    file: Any = pydicom.dcmread(place.path)
    stored: Raw = np.asarray(file.pixel_array)
    kind, colour = str(file.PhotometricInterpretation), int(file.SamplesPerPixel) == 3
    if not (kind.startswith("MONOCHROME") or (colour and kind.startswith(("RGB", "YBR")))):
        raise InputError("pixels must be grey or RGB", given=kind)
    frames = list(stored) if stored.ndim == 3 + colour else [stored]
    stack, notes = stored.ndim == 3 + colour, list[str]()
    if stack:
        notes.append(f"{len(frames)} frames, each reconstructed on its own")
    if colour:
        values = tuple(in_grey_values(frame) for frame in frames)
        unit = full_scale(stored.dtype)
        return Pages(values, Storage(".dcm", stored.dtype, unit, "last", stack, tuple(notes)))
    if kind == "MONOCHROME1":
        notes.append("large values are dark (MONOCHROME1), and kept as they are")
    if "ModalityLUTSequence" in file:
        apply = load("pydicom.pixels", "reading DICOM", _EXTRA).apply_modality_lut
        pages = tuple(np.asarray(apply(frame, file), np.float64) for frame in frames)
        notes.append("values by its modality table")
    else:
        scales = [_scale(file, k) for k in range(len(frames))]
        pages = tuple(
            frame.astype(np.float64) * slope + intercept
            for frame, (slope, intercept) in zip(frames, scales, strict=True)
        )
        notes += _scaled(file, scales)
    return Pages(pages, Storage(".dcm", stored.dtype, 1.0, "none", stack, tuple(notes)))


def _scale(file: Any, frame: int) -> tuple[float, float]:
    """Slope and intercept, where they stand for all frames or for this one."""
    found = file
    groups = [
        *list(file.get("PerFrameFunctionalGroupsSequence", []))[frame : frame + 1],
        *list(file.get("SharedFunctionalGroupsSequence", []))[:1],
    ]
    for group in groups:
        if "PixelValueTransformationSequence" in group:
            found = group.PixelValueTransformationSequence[0]
            break
    return float(found.get("RescaleSlope", 1.0)), float(found.get("RescaleIntercept", 0.0))


def _scaled(file: Any, scales: list[tuple[float, float]]) -> list[str]:
    if set(scales) == {(1.0, 0.0)}:
        return []
    unit = str(file.get("RescaleType", "")) or ("HU" if file.get("Modality") == "CT" else "")
    slope, intercept = scales[0]
    several = " (of the first frame)" if len(set(scales)) > 1 else ""
    words = f"stored values times {slope:g} plus {intercept:g}{several}"
    return [f"{words}, in {unit}" if unit else words]


def read_nifti(place: Place) -> Pages:
    """Every slice along the third axis, of all volumes, with the scaling that the file declares.

    Raises:
        InputError: fewer than two or more than four dimensions, colours, or nibabel is missing: it
            comes with ``pip install 'bilevel[medical]'``.
    """
    nibabel = load("nibabel", "reading NIfTI", _EXTRA)
    image: Any = nibabel.load(place.path)
    dtype = np.dtype(image.get_data_dtype())
    full_scale(dtype)
    values: Raw = np.asarray(image.dataobj)
    if values.ndim not in (2, 3, 4):
        raise InputError("a volume has 2 to 4 dimensions", given=values.shape)
    wide = np.complex128 if values.dtype.kind == "c" else np.float64
    slices = values.astype(wide).reshape(*values.shape[:2], -1, order="F")
    count = slices.shape[2]
    notes = (
        (f"{count} slices along the third axis, each reconstructed on its own",)
        if count > 1
        else ()
    )
    storage = Storage(
        place.suffix, dtype, 1.0, stack=count > 1, notes=notes, volume=(image, values.shape)
    )
    return Pages(tuple(np.moveaxis(slices, 2, 0)), storage)


def fills_volume(pages: Sequence[Raw], storage: Storage) -> bool:
    """Whether there is a slice (h, w) for every one of the volume."""
    _, shape = cast(tuple[Any, tuple[int, ...]], storage.volume)
    alike = all(page.shape == shape[:2] for page in pages)
    return alike and len(pages) == int(np.prod(shape[2:]))


def write_nifti(pages: Sequence[Raw], storage: Storage) -> bytes:
    """Slices (h, w) as a volume where the one lay that they were computed from."""
    image, shape = cast(tuple[Any, tuple[int, ...]], storage.volume)
    values = np.stack(pages, -1)
    header = image.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1.0, 0.0)
    written = type(image)(values.reshape(shape, order="F"), image.affine, header)
    content: bytes = written.to_bytes()
    return gzip.compress(content) if storage.suffix == ".nii.gz" else content
