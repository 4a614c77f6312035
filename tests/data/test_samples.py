"""Samples: the same whenever they are asked for, whatever holds or makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.data import Files, Joined, Pairs, Samples, Simulated, crops, load_images, simulate
from bilevel.data.crops import turned
from bilevel.ground.errors import InputError

NOISE = bl.data.GaussianNoise(0.1)


def images(
    sizes: tuple[tuple[int, int], ...] = ((12, 9), (10, 10), (12, 9)),
) -> list[tuple[str, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    return [(f"{k}.png", torch.rand(1, 1, *size, generator=rng)) for k, size in enumerate(sizes)]


def blur() -> bl.operators.Operator:
    return bl.operators.Convolution(torch.ones(3, 3) / 9)


def cut(found: list[tuple[str, Tensor]], count: int = 5) -> Pairs:
    x, ids = crops(found, 8, count)
    return simulate(x, blur(), NOISE, ids=ids)


KINDS: dict[str, Callable[[], Samples]] = {
    "pairs": lambda: cut(images()),
    "simulated": lambda: Simulated(images(), blur(), NOISE),
    "crops": lambda: Simulated(images(), blur(), NOISE, size=8, count=7),
    "turned": lambda: Simulated(images(), blur(), NOISE, size=8, count=7, augment=True),
    "joined": lambda: Joined([cut(images(), 3), Simulated(images(), blur(), NOISE)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_the_same_in_any_batch_and_at_any_time(kind: str) -> None:
    samples, again = KINDS[kind](), KINDS[kind]()
    seen: list[int] = []
    everything = torch.arange(len(samples)).flip(0)
    for place in samples.places(everything, 2):
        index = everything[place]
        batch = samples.batch(index)
        assert len(batch.y) == len(batch.target) == len(index) <= 2
        assert len(samples.groups[index].unique()) == 1
        for k, y, target in zip(index, batch.y, batch.target, strict=True):
            alone = again.batch(k[None])
            torch.testing.assert_close(alone.y[0], y)
            assert torch.equal(alone.target[0], target)
            seen.append(int(k))
    assert sorted(seen) == list(range(len(samples)))
    assert len(set(samples.ids)) == len(samples)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fingerprint_is_that_of_the_samples(kind: str) -> None:
    assert KINDS[kind]().fingerprint == KINDS[kind]().fingerprint
    assert len({make().fingerprint for make in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize(
    "other",
    [
        lambda: Simulated(images(), blur(), NOISE, size=8, count=7, seed=1),
        lambda: Simulated(images(), blur(), bl.data.GaussianNoise(0.2), size=8, count=7),
        lambda: Simulated(images(), bl.operators.Identity(), NOISE, size=8, count=7),
        lambda: Simulated(images()[::-1], blur(), NOISE, size=8, count=7),
        lambda: Simulated(images(), blur(), NOISE, size=8, count=6),
    ],
)
def test_another_seed_noise_operator_order_or_count_are_other_samples(
    other: Callable[[], Samples],
) -> None:
    assert other().fingerprint != KINDS["crops"]().fingerprint


def test_crops_made_when_needed_are_those_cut_at_once() -> None:
    made = Simulated(images(), blur(), NOISE, size=8, count=5)
    assert made.ids == cut(images()).ids
    batch = made.batch(torch.arange(5))
    assert torch.equal(batch.target, cut(images()).target)
    assert torch.equal(batch.y, cut(images()).y)


def test_no_crop_of_a_stream_comes_twice() -> None:
    stream = Simulated(images(), blur(), NOISE, size=8, count=10**6)
    far = stream.batch(torch.tensor([0, 3, 6, 999_999]))
    noise = far.y - blur()(far.target)
    assert torch.pdist(noise.flatten(1)).min() > 0.1


def test_crops_are_turned_and_mirrored_in_all_ways() -> None:
    """Each is one of the eight views of the crop that it is without."""
    plain, other = (
        Simulated(images(), bl.operators.Identity(), NOISE, size=8, count=60, augment=augment)
        for augment in (False, True)
    )
    index, found = torch.arange(60), set[int]()
    for x, z in zip(plain.batch(index).target, other.batch(index).target, strict=True):
        views = [torch.equal(turned(x[None], k)[0], z) for k in range(8)]
        assert any(views)
        found.add(views.index(True))
    assert found == set(range(8))


def test_files_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    for name, x in images():
        bl.data.save_image(tmp_path / name, x)
    files = Files(tmp_path)
    expected = load_images(tmp_path)
    assert [name for name, _ in files] == [name for name, _ in expected]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(files, expected, strict=True))
    made = Simulated(files, blur(), NOISE, size=8, count=5)
    assert torch.equal(made.batch(torch.arange(5)).y, cut(expected).y)


def test_a_damaged_file_is_found_before_any_work(tmp_path: Path) -> None:
    for name, x in images():
        bl.data.save_image(tmp_path / name, x)
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:40])
    with pytest.raises(InputError, match=r"2\.png"):
        Files(tmp_path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Simulated([], blur(), NOISE), "image"),
        (lambda: Simulated(images(), blur(), NOISE, count=4), "3 images"),
        (lambda: Simulated(images(), blur(), NOISE, size=11), r"0\.png"),
        (lambda: Simulated(images(), blur(), NOISE, augment=True), "only crops"),
        (lambda: Simulated([*images(), *images()], blur(), NOISE), "different"),
        (lambda: Simulated([("a", torch.rand(2, 1, 4, 4))], blur(), NOISE), "one image"),
        (lambda: Simulated([("a", torch.full((1, 1, 4, 4), torch.nan))], blur(), NOISE), "a"),
        (lambda: Simulated([(1, torch.rand(1, 1, 4, 4))], blur(), NOISE, size=2), "strings"),  # type: ignore[list-item]
        (lambda: Simulated(torch.rand(2, 1, 4, 4), blur(), NOISE), "pairs"),  # type: ignore[arg-type]
        (lambda: Simulated(images(), blur(), NOISE, size=4.0), "size"),  # type: ignore[arg-type]
        (lambda: Simulated(images(), blur(), NOISE, size=4, count="3"), "count"),  # type: ignore[arg-type]
        (lambda: Joined([]), "no samples"),
        (lambda: Joined([cut(images()), 1]), "Samples"),  # type: ignore[list-item]
        (lambda: Joined([cut(images()), cut(images())]), "different"),
    ],
)
def test_bad_samples_are_refused_at_once(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_parts_of_one_size_are_one_group() -> None:
    x = cut(images(), 6)
    both = Joined([x[:2], Simulated(images(), blur(), NOISE), x[2:]])
    assert both.groups.tolist() == [0, 0, 1, 2, 1, 0, 0, 0, 0]
    index = torch.tensor([6, 0, 5])
    assert torch.equal(both.batch(index).y, x.batch(torch.tensor([3, 0, 2])).y)


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([], dtype=torch.int64),
        torch.tensor([5]),
        torch.tensor([-6]),
        torch.tensor([True, False, True, True, True]),
        torch.tensor([0.0]),
        torch.tensor(1),
    ],
)
def test_numbers_that_no_sample_has_are_refused(ids: Tensor) -> None:
    with pytest.raises(InputError, match="ids"):
        cut(images()).numbers(ids)


def test_negative_numbers_count_from_the_end() -> None:
    assert cut(images()).numbers(torch.tensor([-1, 0, -5])).tolist() == [4, 0, 0]
