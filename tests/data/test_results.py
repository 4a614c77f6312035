"""Results are written in the units, the type and the layout of what they were computed from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from bilevel.data import load_file, save_results
from bilevel.ground.errors import InputError

RNG = np.random.default_rng(1)
TYPES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-1000, 1200),
    "int32": (-(10**9), 10**9), "float32": (-5, 5), "float64": (-1e-6, 1e-6),
}  # fmt: skip


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    low, high = TYPES[dtype]
    return (low + (high - low) * RNG.random(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("shape", [(7, 6), (5, 7, 6), (7, 6, 3)])
def test_what_is_read_is_written_as_it_was(
    tmp_path: Path, dtype: str, suffix: str, shape: tuple[int, ...]
) -> None:
    pixels, path = values(dtype, shape), tmp_path / f"in{suffix}"
    if suffix == ".npy":
        np.save(path, pixels)
    else:
        tifffile.imwrite(path, pixels, photometric="rgb" if shape[-1] == 3 else "minisblack")
    file = load_file(path)
    out, word = save_results(tmp_path / "out", file.pages, file.storage)
    assert out == tmp_path / f"out{suffix}"
    assert word is None
    written: Any = np.load(out) if suffix == ".npy" else tifffile.imread(out)
    assert written.shape == shape
    assert written.dtype == ("float64" if dtype in ("int32", "float64") else "float32")
    np.testing.assert_allclose(written, pixels, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(3, 7, 6), (1, 7, 6), (7, 6, 1), (4, 7, 6, 3)])
def test_the_axes_of_arrays_stay_where_they_were(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = values("float64", shape)
    np.save(tmp_path / "in.npy", pixels)
    file = load_file(tmp_path / "in.npy", layout="colour" if shape[0] == 3 else None)
    out, _ = save_results(tmp_path / "out", file.pages, file.storage)
    assert bool((np.load(out) == pixels).all())


def test_png_says_what_it_clips_and_floats_can_be_asked_for(tmp_path: Path) -> None:
    Image.fromarray(values("uint8", (7, 6))).save(tmp_path / "in.png")
    file = load_file(tmp_path / "in.png")
    assert save_results(tmp_path / "a", file.pages, file.storage)[1] is None
    beyond = [file.pages[0].clone()]
    beyond[0][0, 0, 0, :2] = torch.tensor([1.5, -0.5], dtype=torch.float64)
    out, word = save_results(tmp_path / "b", beyond, file.storage)
    assert out.suffix == ".png"
    assert word is not None and "2 of 42 values lie outside 0 to 1" in word
    out, word = save_results(tmp_path / "c", beyond, file.storage, "npy")
    assert word is None
    np.testing.assert_allclose(np.load(out), beyond[0][0, 0] * 255, rtol=1e-6)


def test_a_stack_does_not_fit_a_picture(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", values("float32", (5, 7, 6)))
    file = load_file(tmp_path / "in.npy")
    with pytest.raises(InputError, match="cannot write 5 pages"):
        save_results(tmp_path / "out", file.pages, file.storage, "png")
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


def test_pages_of_imagej_stay_a_stack_of_imagej(tmp_path: Path) -> None:
    pixels = values("uint16", (5, 7, 6))
    tifffile.imwrite(tmp_path / "in.tif", pixels, imagej=True, metadata={"axes": "ZYX"})
    file = load_file(tmp_path / "in.tif")
    out, _ = save_results(tmp_path / "out", file.pages, file.storage)
    with tifffile.TiffFile(out) as written:
        assert written.is_imagej
        assert written.series[0].axes == "ZYX"
        np.testing.assert_allclose(written.asarray(), pixels, rtol=1e-6)
