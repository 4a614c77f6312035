"""Every format and bit depth is read exactly; every broken file is one clear error."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from bilevel.data import (
    list_images,
    load_file,
    load_image,
    load_images,
    save_image,
    to_grey,
)
from bilevel.ground.errors import InputError

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (7, 5), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (7, 5), dtype=np.uint16)
COLOUR8 = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)
COLOUR16 = RNG.integers(0, 65536, (7, 5, 3), dtype=np.uint16)
FLOATS = RNG.normal(size=(7, 5)).astype(np.float32)
BITS = GREY8 > 127


def expected(pixels: np.ndarray) -> torch.Tensor:
    full = {"uint8": 255, "uint16": 65535}.get(pixels.dtype.name, 1)
    x = torch.from_numpy(pixels.astype(np.float64) / full)
    return x[None, None] if x.ndim == 2 else x.permute(2, 0, 1)[None]


def check(path: Path, pixels: np.ndarray) -> None:
    x = load_image(path, dtype=torch.float64)
    torch.testing.assert_close(x, expected(pixels), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("pixels", [GREY8, GREY16, COLOUR8, BITS], ids=["8", "16", "rgb", "1"])
def test_pillow_files_are_read_exactly(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / f"image{suffix}")
    check(tmp_path / f"image{suffix}", pixels)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "pixels",
    [GREY8, GREY16, COLOUR8, COLOUR16, FLOATS],
    ids=["8", "16", "rgb8", "rgb16", "float"],
)
def test_tiff_files_are_read_exactly(
    tmp_path: Path, pixels: np.ndarray, order: str, compression: str | None
) -> None:
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(
        tmp_path / "image.tif",
        pixels,
        byteorder=order,
        photometric=photometric,
        compression=compression,
    )
    check(tmp_path / "image.tif", pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_left_out_only_where_it_hides_nothing(
    tmp_path: Path, dtype: type, channels: int
) -> None:
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    full = np.full((7, 5, 1), top, dtype)
    colours = COLOUR8.astype(dtype)[..., :channels]
    kind = "rgb" if channels == 3 else "minisblack"
    path = tmp_path / "image.tif"

    def write(alpha: np.ndarray) -> None:
        pixels = np.concatenate([colours, alpha], 2)
        tifffile.imwrite(
            path, pixels, photometric=kind, extrasamples="unassalpha", planarconfig="contig"
        )

    write(full)
    check(path, colours if channels == 3 else colours[..., 0])
    assert "alpha" in load_file(path).storage.notes[0]
    full[3, 2] = 0
    write(full)
    with pytest.raises(InputError, match="1 of 35 that are transparent; save the picture without"):
        load_image(path)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "P with alpha", "RGB with a clear colour"])
@pytest.mark.parametrize("clear", [False, True])
def test_transparency_is_refused_and_palettes_become_colour(
    tmp_path: Path, mode: str, clear: bool
) -> None:
    few = (COLOUR8 // 128) * 255
    picture = Image.fromarray(GREY8 if mode == "LA" else few)
    path = tmp_path / "image.png"
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray(GREY8 if clear else np.full_like(GREY8, 255)))
        picture.save(path)
    elif mode == "P":
        picture.quantize(8).save(path)
    elif mode == "P with alpha":
        alpha = bytes([255, 128 if clear else 255, 255])
        picture.quantize(8).save(path, transparency=alpha)
    else:
        picture.save(path, transparency=tuple(map(int, few[0, 0])) if clear else (1, 2, 3))
    if clear and mode != "P":
        with pytest.raises(InputError, match="transparent"):
            load_image(path)
    else:
        check(path, GREY8 if mode == "LA" else few)
        assert load_file(path).storage.notes


def test_a_palette_of_greys_is_a_grey_picture(tmp_path: Path) -> None:
    picture = Image.fromarray(GREY8).convert("P")
    picture.save(tmp_path / "image.png")
    check(tmp_path / "image.png", GREY8)
    assert "palette" in load_file(tmp_path / "image.png").storage.notes[0]


def test_inks_and_animations_are_refused(tmp_path: Path) -> None:
    Image.fromarray(COLOUR8).convert("CMYK").save(tmp_path / "inks.jpg")
    Image.fromarray(COLOUR8).convert("CMYK").save(tmp_path / "inks.tif")
    for name in ("inks.jpg", "inks.tif"):
        with pytest.raises(InputError, match="must be grey or RGB, but got mode CMYK"):
            load_image(tmp_path / name)
    frames = [Image.fromarray(GREY8), Image.fromarray(255 - GREY8)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="several frames"):
        load_image(tmp_path / "moving.png")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("pixels", [GREY8, GREY16, COLOUR8, FLOATS, BITS], ids=str)
def test_all_pages_are_read_whatever_their_compression(
    tmp_path: Path, pixels: np.ndarray, compression: str
) -> None:
    first, second = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    path = tmp_path / "stack.tif"
    first.save(path, save_all=True, append_images=[second], compression=compression)
    file = load_file(path)
    assert file.ids == ("stack.tif#1", "stack.tif#2")
    for page, of in zip(file.pages, (pixels, pixels[::-1]), strict=True):
        torch.testing.assert_close(page, expected(of.copy()), rtol=0, atol=0)
    with pytest.raises(InputError, match="holds 2 pages, not one image"):
        load_image(path)
    assert [name for name, _ in load_images([path])] == list(file.ids)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_whole_numbers_without_a_full_scale_keep_their_units(
    tmp_path: Path, dtype: type, suffix: str
) -> None:
    pixels = (GREY8.astype(np.int64) // 2 - (0 if dtype is np.uint32 else 100)).astype(dtype)
    path = tmp_path / f"image{suffix}"
    if suffix == ".npy":
        np.save(path, pixels)
    else:
        tifffile.imwrite(path, pixels)
    check(path, pixels)


def test_whole_numbers_that_lose_digits_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.full((3, 3), -(2**53) - 1))
    with pytest.raises(InputError, match=r"beyond 2\^53 lose digits"):
        load_image(tmp_path / "image.npy")


@pytest.mark.parametrize("shape", [(3, 7, 5), (3, 7, 3), (7, 5, 2), (7, 5, 4), (3, 7, 4)])
def test_three_dimensions_in_doubt_are_asked_for(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = RNG.normal(size=shape)
    np.save(tmp_path / "image.npy", values)
    with pytest.raises(InputError, match=r"may be a stack of slices or the channels.*--layout"):
        load_file(tmp_path / "image.npy")
    file = load_file(tmp_path / "image.npy", layout="stack")
    assert len(file.pages) == shape[0]
    for page, of in zip(file.pages, values, strict=True):
        assert bool((page[0, 0].numpy() == of).all())
    if 3 in (shape[0], shape[2]):
        colour = load_file(tmp_path / "image.npy", layout="colour")
        assert [tuple(page.shape[:2]) for page in colour.pages] == [(1, 3)]
    else:
        with pytest.raises(InputError, match="colour needs 3 channels"):
            load_file(tmp_path / "image.npy", layout="colour")


def test_jpeg_in_grey_and_colour(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 4
    for name, pixels in (("grey.jpg", ramp), ("colour.jpeg", np.stack([ramp] * 3, 2))):
        Image.fromarray(pixels).save(tmp_path / name, quality=95)
        x = load_image(tmp_path / name, dtype=torch.float64)
        torch.testing.assert_close(x, expected(pixels), rtol=0, atol=3 / 255)


ORIENTED = {
    1: GREY8,
    2: GREY8[:, ::-1],
    3: GREY8[::-1, ::-1],
    4: GREY8[::-1],
    5: GREY8.T,
    6: np.rot90(GREY8, -1),
    7: GREY8[::-1, ::-1].T,
    8: np.rot90(GREY8),
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY8).save(tmp_path / f"image{suffix}", exif=exif)
    check(tmp_path / f"image{suffix}", ORIENTED[orientation])


def test_exif_orientation_of_16_bit_colour(tmp_path: Path) -> None:
    turned = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "image.tif", COLOUR16, photometric="rgb", extratags=turned)
    check(tmp_path / "image.tif", np.rot90(COLOUR16, -1))


@pytest.mark.parametrize(
    "pixels",
    [GREY8, GREY16, BITS, FLOATS, FLOATS.astype(np.float64), COLOUR8],
    ids=["8", "16", "1", "float32", "float64", "rgb"],
)
def test_npy_files_are_read_exactly(tmp_path: Path, pixels: np.ndarray) -> None:
    np.save(tmp_path / "image.npy", pixels)
    check(tmp_path / "image.npy", pixels)
    if pixels.ndim == 3:
        np.save(tmp_path / "image.npy", np.moveaxis(pixels, 2, 0))
        x = load_image(tmp_path / "image.npy", dtype=torch.float64, layout="colour")
        torch.testing.assert_close(x, expected(pixels), rtol=0, atol=0)


def test_grey_weights_and_three_equal_channels(tmp_path: Path) -> None:
    save_image(tmp_path / "c.png", torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 2, 2))
    save_image(tmp_path / "g.png", torch.full((2, 2), 0.2))
    assert float(load_image(tmp_path / "c.png", grey=True)[0, 0, 0, 0]) == pytest.approx(0.298936)
    assert load_image(tmp_path / "c.png").shape == (1, 3, 2, 2)
    triple = load_image(tmp_path / "g.png", grey=False)
    assert triple.shape == (1, 3, 2, 2)
    assert bool((triple == 0.2).all())
    assert load_image(tmp_path / "g.png", grey=True).shape == (1, 1, 2, 2)


def test_to_grey_of_three_equal_channels_is_that_channel() -> None:
    x = torch.rand(2, 1, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(to_grey(x.expand(2, 3, 4, 3)), x, rtol=0, atol=1e-15)
    assert to_grey(x) is x


def encoded(suffix: str) -> bytes:
    buffer = io.BytesIO()
    pixels = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
    if suffix == ".npy":
        np.save(buffer, pixels)
    else:
        kind = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}[suffix]
        Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    whole = encoded(suffix)
    path = tmp_path / f"image{suffix}"
    path.write_bytes(whole)
    pixels = load_image(path)
    refused = 0
    for length in {*range(0, len(whole), 37), 1, 10, len(whole) // 2, len(whole) - 3}:
        path.write_bytes(whole[:length])
        try:
            read = load_image(path)
        except InputError as error:
            refused += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
        else:  # only what follows the last pixel is missing
            assert bool((read == pixels).all())
    assert refused > len(whole) // 37 * 0.9


FOREIGN = {
    "text.png": b"not an image at all",
    "empty.jpg": b"",
    "empty.npy": b"",
    "gif.png": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    "pickle.npy": b"\x80\x04\x95\x00",
    "notes.txt": b"hello",
    "none": b"",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_named_in_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FOREIGN[name])
    with pytest.raises(InputError, match=name) as caught:
        load_image(tmp_path / name)
    assert "\n" not in str(caught.value)


BAD_ARRAYS = {
    "complex colours": np.zeros((3, 3, 3), complex),
    "object": np.array([[None]]),
    "vector": np.zeros(4, np.float32),
    "scalar": np.float64(1.0),
    "two channels": np.zeros((5, 5, 2), np.float32),
    "stack": np.zeros((2, 1, 5, 5), np.float32),
    "empty": np.zeros((0, 5), np.float32),
    "nan": np.full((3, 3), np.nan),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_arrays_that_are_no_image(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "image.npy", BAD_ARRAYS[kind], allow_pickle=True)
    with pytest.raises(InputError, match=r"image\.npy"):
        load_image(tmp_path / "image.npy")


def test_missing_file_and_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("gone.png", "folder.png"):
        with pytest.raises(InputError, match=f"{name}: there is no such file"):
            load_image(tmp_path / name)


def test_a_folder_is_listed_by_name_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png", "c.npy", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.JPG", "b.png", "c.npy"]


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no images in"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        load_images(tmp_path / "gone")


def test_load_images_gives_ids(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        save_image(tmp_path / name, torch.rand(3, 4, 5))
    assert [name for name, _ in load_images(tmp_path)] == ["a.png", "b.png"]
    chosen = load_images([tmp_path / "b.png"], grey=True)
    assert chosen[0][0] == "b.png"
    assert chosen[0][1].shape == (1, 1, 4, 5)
    with pytest.raises(InputError, match=r"b\.png twice"):
        load_images([tmp_path / "b.png", tmp_path / "b.png"])
