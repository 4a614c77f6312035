"""Measurements as they come: arrays with names, medical formats, complex numbers, missing data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

import bilevel as bl
from bilevel.data import Place, load_file, places, save_results
from bilevel.ground.errors import InputError

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(7, 5))
COMPLEX = REAL + 1j * RNG.normal(size=(7, 5))


def npz(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **arrays)


def hdf5(path: Path, **arrays: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def matlab(path: Path, **arrays: np.ndarray) -> None:
    scipy.io.savemat(path, arrays)


def matlab73(path: Path, **arrays: np.ndarray) -> None:
    """As MATLAB writes HDF5: axes in reverse, complex numbers as real and imag."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            turned = np.ascontiguousarray(values.T)
            if turned.dtype.kind == "c":
                pair = np.empty(turned.shape, [("real", "<f8"), ("imag", "<f8")])
                pair["real"], pair["imag"] = turned.real, turned.imag
                turned = pair
            file[name] = turned
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
        file["words"] = np.frombuffer(b"a\0b\0c\0", np.uint16).reshape(3, 1)
        file["words"].attrs["MATLAB_class"] = np.bytes_("char")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


Writer = Callable[..., None]
KINDS: dict[str, tuple[str, Writer]] = {
    "npz": (".npz", npz),
    "hdf5": (".h5", hdf5),
    "matlab": (".mat", matlab),
    "matlab 7.3": (".mat", matlab73),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [REAL, COMPLEX], ids=["real", "complex"])
def test_the_one_array_of_a_file_is_read_exactly_and_results_are_arrays(
    kind: str, values: np.ndarray, tmp_path: Path
) -> None:
    suffix, write = KINDS[kind]
    write(tmp_path / f"scan{suffix}", image=values)
    file = load_file(tmp_path / f"scan{suffix}")
    (page,) = file.pages
    planes = [values] if values.dtype.kind == "f" else [values.real, values.imag]
    np.testing.assert_array_equal(page[0].numpy(), np.stack(planes))
    out, word = save_results(tmp_path / "out", file.pages, file.storage)
    assert out == tmp_path / "out.npy"
    assert word is not None and suffix in word
    written = np.load(out)
    assert written.dtype == values.dtype
    np.testing.assert_array_equal(written, values)


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_arrays_one_is_named(kind: str, tmp_path: Path) -> None:
    suffix, write = KINDS[kind]
    path = tmp_path / f"scan{suffix}"
    write(path, first=REAL, second=2 * REAL)
    with pytest.raises(InputError, match=rf"several arrays: first .*, second .*scan{suffix}:first"):
        load_file(path)
    file = load_file(f"{path}:second")
    np.testing.assert_array_equal(file.pages[0][0, 0].numpy(), 2 * REAL)
    assert (file.name, file.stem, file.ids) == (
        f"scan{suffix}:second", "scan-second", (f"scan{suffix}:second",)
    )  # fmt: skip
    with pytest.raises(InputError, match=r"holds no 'secnd'; did you mean 'second'"):
        load_file(f"{path}:secnd")


def test_arrays_in_groups_are_named_with_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/1/kspace"] = COMPLEX.astype(np.complex64)
        file["run/1/time"] = np.arange(4.0)
        file["run/2/kspace"] = REAL
    file = load_file(tmp_path / "a.h5:run/1/kspace")
    assert file.storage.complex and not file.storage.precise
    assert file.stem == "a-run-1-kspace"
    assert places(tmp_path / "a.h5:run/2/kspace") == [tmp_path / "a.h5:run/2/kspace"]


def test_slices_of_matlab_stand_last(tmp_path: Path) -> None:
    volume = RNG.normal(size=(6, 5, 4))
    matlab(tmp_path / "v.mat", v=volume)
    with pytest.raises(InputError, match=r"slices or colour.*--layout"):
        load_file(tmp_path / "v.mat")
    file = load_file(tmp_path / "v.mat", layout="stack")
    assert len(file.pages) == 4
    np.testing.assert_array_equal(file.pages[1][0, 0].numpy(), volume[..., 1])


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 3, 6, 5)])
def test_complex_slices_and_coils_are_asked_for(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = RNG.normal(size=shape) + 1j * RNG.normal(size=shape)
    np.save(tmp_path / "k.npy", values)
    with pytest.raises(InputError, match="slices or the data of several coils; give the layout"):
        load_file(tmp_path / "k.npy")
    with pytest.raises(InputError, match="no colours"):
        load_file(tmp_path / "k.npy", layout="colour")
    file = load_file(tmp_path / "k.npy", layout="coils")
    coils = values if values.ndim == 4 else values[None]
    assert len(file.pages) == len(coils)
    for page, of in zip(file.pages, coils, strict=True):
        np.testing.assert_array_equal(page[0].numpy(), np.concatenate([of.real, of.imag]))
    if values.ndim == 3:
        assert len(load_file(tmp_path / "k.npy", layout="stack").pages) == 3
    np.save(tmp_path / "r.npy", values.real)
    with pytest.raises(InputError):
        load_file(tmp_path / "r.npy", layout="coils")


def test_complex_results_keep_precision_and_place(tmp_path: Path) -> None:
    for dtype in (np.complex64, np.complex128):
        np.save(tmp_path / "k.npy", COMPLEX.astype(dtype))
        file = load_file(tmp_path / "k.npy")
        out, word = save_results(tmp_path / "o", file.pages, file.storage)
        assert word is None
        assert np.load(out).dtype == dtype
        np.testing.assert_array_equal(np.load(out), COMPLEX.astype(dtype))
        tiff, _ = save_results(tmp_path / "o", file.pages, file.storage, "tiff")
        again = load_file(tiff)
        np.testing.assert_allclose(again.pages[0], file.pages[0], rtol=1e-6)
    with pytest.raises(InputError, match="complex numbers"):
        save_results(tmp_path / "o", file.pages, file.storage, "png")


def dicom(path: Path, stored: np.ndarray, **tags: Any) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = pydicom.Dataset()
    file.file_meta = meta
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.Modality = "CT"
    file.Rows, file.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        file.NumberOfFrames = len(stored)
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8 * stored.dtype.itemsize
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = stored.tobytes()
    file.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("frames", [1, 3])
def test_dicom_comes_in_hounsfield_units(frames: int, tmp_path: Path) -> None:
    stored = RNG.integers(0, 4000, (frames, 8, 6)).astype(np.uint16)
    own = stored if frames > 1 else stored[0]
    dicom(tmp_path / "ct.dcm", own, RescaleSlope="2", RescaleIntercept="-1024")
    file = load_file(tmp_path / "ct.dcm")
    assert len(file.pages) == frames
    for page, of in zip(file.pages, stored, strict=True):
        np.testing.assert_array_equal(page[0, 0].numpy(), 2.0 * of - 1024)
    assert any("times 2 plus -1024, in HU" in note for note in file.storage.notes)
    out, word = save_results(tmp_path / "o", file.pages, file.storage)
    assert word is not None and ".dcm" in word
    np.testing.assert_allclose(np.load(out), 2.0 * own - 1024, rtol=1e-6)
    dicom(tmp_path / "mr.dcm", own)
    np.testing.assert_array_equal(load_file(tmp_path / "mr.dcm").pages[0][0, 0].numpy(), stored[0])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_is_scaled_and_written_where_it_lay(suffix: str, tmp_path: Path) -> None:
    stored = RNG.integers(0, 100, (6, 5, 4, 2)).astype(np.int16)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    image = nibabel.Nifti1Image(stored, affine)
    image.header.set_slope_inter(0.5, -10.0)
    nibabel.save(image, tmp_path / f"a{suffix}")
    truth = np.asarray(nibabel.load(tmp_path / f"a{suffix}").dataobj)
    file = load_file(tmp_path / f"a{suffix}")
    assert len(file.pages) == 8
    assert file.ids[0] == f"a{suffix}#1"
    np.testing.assert_array_equal(file.pages[5][0, 0].numpy(), truth[:, :, 1, 1])
    out, word = save_results(tmp_path / "o", file.pages, file.storage)
    assert (out, word) == (tmp_path / f"o{suffix}", None)
    again = nibabel.load(out)
    np.testing.assert_allclose(np.asarray(again.dataobj), truth, rtol=1e-6)
    np.testing.assert_array_equal(again.affine, affine)
    out, word = save_results(tmp_path / "part", file.pages[:3], file.storage)
    assert out == tmp_path / "part.npy" and word is not None and "volume" in word


@pytest.mark.parametrize(("suffix", "module"), [(".dcm", "pydicom"), (".nii", "nibabel")])
def test_a_missing_package_is_named_with_its_extra(
    suffix: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"anything")

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"no {name}", name=name)

    monkeypatch.setattr("bilevel.ground.extras.importlib.import_module", missing)
    with pytest.raises(InputError, match=rf"{module}.*bilevel\[medical\]"):
        load_file(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".mat", ".dcm", ".nii", ".nii.gz"])
@pytest.mark.parametrize("content", [b"", b"not at all of that format"], ids=["empty", "text"])
def test_damaged_files_are_named_in_one_sentence(
    suffix: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"a{suffix}") as caught:
        load_file(tmp_path / f"a{suffix}")
    assert "\n" not in str(caught.value)


def test_missing_data_are_nan_only_where_that_is_said(tmp_path: Path) -> None:
    values = REAL.copy()
    values[2, 3] = np.nan
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match="must be finite"):
        load_file(tmp_path / "a.npy")
    file = load_file(tmp_path / "a.npy", missing=True)
    (seen,) = file.seen
    assert seen is not None
    assert int((~seen).sum()) == 1 and not bool(seen[2, 3])
    assert float(file.pages[0][0, 0, 2, 3]) == 0
    values[0, 0] = np.inf
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match="must be finite"):
        load_file(tmp_path / "a.npy", missing=True)
    np.save(tmp_path / "a.npy", np.full((3, 3), np.nan))
    with pytest.raises(InputError, match="no pixel holds data"):
        load_file(tmp_path / "a.npy", missing=True)


def test_places_are_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.npy", "a.npy", "a.nii.gz", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in places(tmp_path)] == ["a.nii.gz", "a.npy", "b.npy"]
    assert [p.name for p in places(tmp_path / "*.npy")] == ["a.npy", "b.npy"]
    assert places(tmp_path / "a.npy") == [tmp_path / "a.npy"]
    assert Place.of(tmp_path / "a.nii.gz").stem == "a"
    with pytest.raises(InputError, match="no image fits"):
        places(tmp_path / "*.png")
    with pytest.raises(InputError, match="no folder or file"):
        places(tmp_path / "gone")


def test_a_complex_page_is_what_operators_take(tmp_path: Path) -> None:
    k = np.fft.fft2(COMPLEX, norm="ortho")
    np.save(tmp_path / "k.npy", k)
    y = load_file(tmp_path / "k.npy").pages[0]
    x = bl.operators.MultiCoil(torch.ones(7, 5).double()).adjoint(y)
    np.testing.assert_allclose(torch.complex(x[0, 0], x[0, 1]).numpy(), COMPLEX, atol=1e-12)
