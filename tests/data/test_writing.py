"""What is saved is read back; what cannot be saved leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bilevel.data import load_image, save_image
from bilevel.ground.errors import BilevelWarning, InputError


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_survives_a_round_trip(
    tmp_path: Path, suffix: str, bits: int, channels: int
) -> None:
    path = tmp_path / f"image{suffix}"
    top = 2**bits - 1
    levels = torch.linspace(0, top, 3 * 16 * 17).round().reshape(1, 3, 16, 17)[:, :channels]
    if suffix != ".png" and bits == 16 and channels == 3:
        with pytest.raises(InputError, match="16-bit colour"):
            save_image(path, levels.double() / top, bits=bits)
        assert not list(tmp_path.iterdir())
        return
    save_image(path, levels.double() / top, bits=bits)
    x = load_image(path, dtype=torch.float64)
    torch.testing.assert_close(x * top, levels.double(), rtol=0, atol=1e-9)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@given(st.integers(0, 2**31), st.sampled_from([8, 16]), st.sampled_from([1, 3]))
def test_rounding_error_is_half_a_level(
    tmp_path_factory: pytest.TempPathFactory, seed: int, bits: int, channels: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "image.png"
    x = torch.rand(1, channels, 3, 5, generator=torch.Generator().manual_seed(seed))
    save_image(path, x, bits=bits)
    assert float((load_image(path) - x).abs().max()) <= 0.5001 / (2**bits - 1)


def test_grey_values_are_clipped_with_a_word(tmp_path: Path) -> None:
    with pytest.warns(BilevelWarning, match=r"image.png: 2 of 3 values lie outside 0 to 1"):
        save_image(tmp_path / "image.png", torch.tensor([[-1.0, 0.5, 2.0]]))
    read = load_image(tmp_path / "image.png").flatten()
    torch.testing.assert_close(read, torch.tensor([0.0, 128 / 255, 1.0]))


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (1, 1, 4, 5), (3, 4, 5), (1, 3, 4, 5)])
def test_npy_keeps_the_floats(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    save_image(tmp_path / "image.npy", x)
    read = load_image(tmp_path / "image.npy", dtype=torch.float64)
    assert bool((read == x.detach().reshape(read.shape)).all())


def test_saving_replaces_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    save_image(path, torch.zeros(2, 2))
    save_image(path, torch.ones(2, 2))
    assert bool((load_image(path) == 1).all())


BAD = {
    "batch": ("image.png", torch.zeros(2, 1, 4, 4), 8),
    "channels": ("image.png", torch.zeros(2, 4, 4), 8),
    "empty": ("image.png", torch.zeros(1, 0, 4), 8),
    "nan": ("image.png", torch.full((2, 2), torch.nan), 8),
    "integers": ("image.png", torch.ones(2, 2, dtype=torch.int64), 8),
    "bits": ("image.png", torch.zeros(2, 2), 12),
    "format": ("image.jpg", torch.zeros(2, 2), 8),
    "no suffix": ("image", torch.zeros(2, 2), 8),
    "no folder": ("gone/image.png", torch.zeros(2, 2), 8),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    name, x, bits = BAD[case]
    with pytest.raises(InputError) as caught:
        save_image(tmp_path / name, x, bits=bits)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "image.png").mkdir()
    for name in ("file/image.png", "image.png"):
        with pytest.raises(InputError, match="cannot write"):
            save_image(tmp_path / name, torch.zeros(2, 2))
    assert {p.name for p in tmp_path.iterdir()} == {"file", "image.png"}
