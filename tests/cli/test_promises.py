"""Every key of the configuration page takes every form that the page promises."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch
from pydantic.fields import FieldInfo

import bilevel as bl
from bilevel.cli.catalogue import CATALOGUE, parameters
from bilevel.cli.config.files import KINDS, with_files
from bilevel.cli.config.validation import validate
from bilevel.cli.settings.base import Choice, Settings
from bilevel.cli.settings.kinds import RegulariserSettings
from bilevel.cli.settings.numbers import marked, numbers_of
from cli.tiny import Run

SIDE = 16
ENTRIES = [
    (kind, name)
    for kind, entries in CATALOGUE.items()
    for name, entry in entries.items()
    if issubclass(entry, Settings)
]
DENOISING = """
data = {{ size = 16, count = 1 }}
operator = {{ name = "identity" }}
noise = {{ name = "gaussian", sigma = 0.05 }}
budget = {{ steps = 1 }}

[regulariser]
{}
"""
TABLE = {kind: table for table, kind in KINDS.items()}
SMOOTH = {"name": "total-variation"}
MAP = [[(128 + (SIDE * row + column) // 2) / 255 for column in range(SIDE)] for row in range(SIDE)]
WEIGHTS = [[(1 + (row + column) // 2) / 255 for column in range(SIDE)] for row in range(SIDE)]
"""Maps of grey values of 8 bits."""
KNOTS = {"grid": [2, 2]}

NUMBERS: dict[tuple[str, str], list[tuple[Any, dict[str, Any]]]] = {
    ("total-variation", "weight"): [(WEIGHTS, {}), ([[0.1, 0.2], [0.3, 0.4]], KNOTS)],
    ("exact-tv", "weight"): [(WEIGHTS, {})],
    ("fields-of-experts", "weight"): [([0.1, 0.2, 0.3], {"count": 3})],
    ("grouped-experts", "scale"): [([0.1, 0.2], {"channels": [8]})],
    ("grouped-experts", "bluntness"): [([2.0, 3.0], {"channels": [8]})],
    ("grouped-experts", "mixing"): [
        ([[[0.5, 0.5], [0.25, -0.5]]] * 2, {"channels": [4], "group": 2})
    ],
    ("multi-scale", "level_weight"): [([0.5, 0.25], {"levels": 2, "of": SMOOTH})],
    ("ridge-regulariser", "scaling"): [([1.0, 2.0, 3.0], {"channels": [2, 3]})],
    ("spline-ridge", "scaling"): [
        ([1.0, 2.0, 3.0], {"channels": [2, 3]}),
        ([[1.0, 2.0], [3.0, 4.0]], {"channels": [2], "noise_level": 0.02}),
    ],
    ("spline-ridge", "slopes"): [([1.0, 0.5, -0.25], {"channels": [2]})],
    ("wavelet-sparsity", "weight"): [([0.1, 0.2, 0.3], {"levels": 1})],
    ("exact-wavelet-sparsity", "weight"): [([0.1, 0.2, 0.3], {"levels": 1})],
    ("directional-tv", "weight"): [(WEIGHTS, {}), ([[0.1, 0.2], [0.3, 0.4]], KNOTS)],
    ("directional-tv", "exponent"): [(MAP, {}), ([[0.5, 1.0], [1.5, 2.0]], KNOTS)],
    ("directional-tv", "angle"): [
        (MAP, {"anisotropy": 4.0}),
        ([[0.0, 90.0], [30.0, 60.0]], {"anisotropy": 4.0, **KNOTS}),
    ],
    ("directional-tv", "anisotropy"): [
        ([[2.0] * SIDE] * SIDE, {}),
        ([[2.0, 3.0], [4.0, 5.0]], KNOTS),
    ],
    ("exact-directional-tv", "weight"): [(WEIGHTS, {})],
    ("exact-directional-tv", "exponent"): [([[1.5] * SIDE] * SIDE, {})],
    ("exact-directional-tv", "angle"): [(MAP, {"anisotropy": 4.0})],
    ("exact-directional-tv", "anisotropy"): [([[2.0] * SIDE] * SIDE, {})],
}
"""Arrays of each shape that a key may have, with the keys that go with it."""

VALUES: dict[str, list[Any]] = {
    "box": [{"regulariser.log_weight": [-7, 0]}],
    "file": ["mask.png"],
    "fit": ["fit"],
    "grid": [[2, 3], [4, 4]],
    "kernel": [[[0.5, 0.5]], "map.png"],
    "first_kernel": [[[0.5, 0.5]], "map.png"],
    "learn": [[]],
    "mask": ["mask.png"],
    "matrix": ["map.npy"],
    "of": [SMOOTH, {**SMOOTH, "grid": [2, 3]}],
    "optimiser": ["SGD"],
    "options": [{"eps": 1e-6, "betas": [0.5, 0.9], "amsgrad": True}],
    "parameters": [[], ["regulariser"]],
    "sensitivities": ["birdcage", "estimated", "coils.npy"],
    "variance": ["map.npy", "map.npz"],
    "weights": ["map.npy", "map.npz"],
}
"""What is no number, no truth value and no word of a few; the page says of each what it is."""
OWN: dict[tuple[str, str], list[Any]] = {
    ("gaussian", "sigma"): [0.1, "25/255", [0.05, 0.15], "estimate"],
    ("grouped-experts", "channels"): [[4, 8]],
    ("distance", "values"): [{"regulariser": 1.0}],
    ("downsampling", "factor"): [2, [1, 2]],
    ("learned", "learn"): [True, False],
    ("matrix", "size"): [[4, 4]],
    ("scalar-fit", "names"): [[], ["log_weight"]],
    ("radon", "size"): [[16, 12]],
    ("radon", "angles"): [30, [0.0, 45.0, 90.0], "angles.npy"],
    ("radon", "source"): [64.0],
    ("weighted-error", "weights"): ["map.npy", "map.npz", "mask.png"],
}
REQUIRED = {"size": [16, 12], "sigma": 0.1, "peak": 10.0, "gain": 0.1, "share": 0.1, "looks": 4.0,
            "read_noise": 0.1, "steps": 3, "terms": 3}  # fmt: skip
BESIDE: dict[str, dict[str, Any]] = {
    "first_sigma": {"learn": ["sigma"]},
    "first_kernel": {"learn": ["kernel"]},
    "simplex": {"learn": ["kernel"]},
    "by": {"learn": ["mask"]},
    "binarise": {"learn": ["mask"]},
    "between": {"grid": [4, 4]},
    "noise_range": {"noise_level": 0.01},
    "step_size": {},
    "batch_size": {"step_size": 1.0},
    "exponent": {"potential": "power"},
}
"""Keys that mean something only with another one."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a file of each kind that VALUES names."""
    found = tmp_path_factory.mktemp("files")
    np.save(found / "map.npy", np.array(MAP))
    np.savez(found / "map.npz", np.array(MAP))
    np.save(found / "angles.npy", np.array([0.0, 45.0]))
    np.save(found / "coils.npy", np.ones((2, SIDE, SIDE), complex))
    seen = torch.ones(SIDE, SIDE)
    seen[3, 4] = 0
    bl.data.save_image(found / "mask.png", seen)
    bl.data.save_image(found / "map.png", torch.tensor(MAP))
    return found


def made(kind: str, name: str, keys: dict[str, Any], folder: Path) -> Settings:
    """The settings of a table that is accepted."""
    table = TABLE.get(kind, kind)
    own = with_files({table: {"name": name, **keys}}, folder)[table]
    problems: list[Any] = []
    settings = validate(CATALOGUE[kind][name], {key: own[key] for key in keys}, problems)
    assert settings is not None, (name, keys, problems)
    return settings


def forms(annotation: Any) -> Iterator[Any]:
    """A value of each form that a type has."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from inner
    elif origin in (Annotated, Union, types.UnionType):
        for one in inner[:1] if origin is Annotated else inner:
            yield from forms(one)
    elif annotation is not type(None):
        simple: dict[Any, list[Any]] = {bool: [True, False], int: [1], float: [1.0]}
        yield from simple.get(annotation, [[next(forms(inner[0]))] * 2] if inner else [])


def promised(name: str, key: str, field: FieldInfo) -> list[Any]:
    """Values of a key in each form, its default first."""
    choice = next((mark for mark in field.metadata if isinstance(mark, Choice)), None)
    default = [] if field.is_required() or field.default is None else [field.default]
    if (name, key) in OWN or key in VALUES:
        return OWN.get((name, key), VALUES.get(key, []))
    if marked(field):
        return default
    if choice is not None and choice.kind == "pretraining":
        return [{"name": "score-matching", "steps": 2}]
    if choice is not None:
        entries = CATALOGUE[choice.kind].items()
        required = {k: any(f.is_required() for f in parameters(one).values()) for k, one in entries}
        return [{"name": one} for one, needs in required.items() if not needs]
    plain = [json.loads(json.dumps(one)) for one in default]
    single = (int, float) if plain else ()
    found = list(forms(field.annotation))
    others = [v for v in found if isinstance(v, bool) or not isinstance(v, single)]
    assert plain or others, f"give values of '{key}' of '{name}'"
    return [*plain, *others]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_key_takes_every_form(kind: str, name: str, folder: Path) -> None:
    fields = parameters(CATALOGUE[kind][name])
    needed = {
        key: OWN.get((name, key), VALUES.get(key, [REQUIRED.get(key)]))[0]
        for key, field in fields.items()
        if field.is_required() or (kind == "pretraining" and key == "steps")
    }
    for key, field in fields.items():
        beside = {k: v for k, v in BESIDE.get(key, {}).items() if k in fields}
        for value in promised(name, key, field):
            made(kind, name, {**needed, **beside, key: value}, folder)


def test_every_key_that_takes_arrays_is_tried() -> None:
    found = {(name, key) for kind, name in ENTRIES for key in numbers_of(CATALOGUE[kind][name])}
    assert found == set(NUMBERS)


@pytest.mark.parametrize(("name", "key"), NUMBERS)
def test_lists_and_files_are_the_same_array(name: str, key: str, tmp_path: Path) -> None:
    """And not what is taken without them."""
    for value, beside in NUMBERS[name, key]:
        np.save(tmp_path / "own.npy", np.array(value))
        np.savez(tmp_path / "own.npz", np.array(value))
        forms: list[Any] = [value, "own.npy", "own.npz"]
        if value in (MAP, WEIGHTS):
            bl.data.save_image(tmp_path / "own.png", torch.tensor(value))
            forms.append("own.png")
        first, *others = [
            built(name, {**beside, key: form}, tmp_path).state_dict() for form in forms
        ]
        for other in others:
            assert all(torch.allclose(other[k], v, atol=1e-5) for k, v in first.items()), beside
        usual = built(name, beside, tmp_path).state_dict()
        changed = [k for k, v in first.items() if k not in usual or not same(usual[k], v)]
        assert changed, beside


def built(name: str, keys: dict[str, Any], folder: Path) -> bl.regularisers.ImageTerm:
    """The regulariser of a table, for images that it takes."""
    settings = made("regularisers", name, keys, folder)
    assert isinstance(settings, RegulariserSettings)
    h, w = settings.size_taken or (SIDE, SIDE)
    part = settings.build((1, h, w))
    part.check((1, h, w))
    return part


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


@pytest.mark.parametrize(("name", "key"), NUMBERS)
def test_commands_take_arrays(name: str, key: str, run: Run, tmp_path: Path) -> None:
    """Checked, learned from and used again, on pictures of the package."""
    for number, (value, beside) in enumerate(NUMBERS[name, key]):
        np.save(tmp_path / "own.npy", np.array(value))
        keys = {"name": name, key: "own.npy", **beside}
        lines = [f"{k} = {json.dumps(v)}" for k, v in keys.items() if v is not SMOOTH]
        lines += ["of = { name = 'total-variation' }"] if SMOOTH in beside.values() else []
        path, out = tmp_path / "own.toml", tmp_path / f"fit{number}"
        path.write_text(DENOISING.format("\n".join(lines)))
        if not name.startswith("exact"):  # whose derivatives differences miss at kinks
            assert run("check", path).code == 0
        assert run("learn", path, "--out", out).code in (0, 3)
        np.save(tmp_path / "y.npy", np.full((SIDE, SIDE), 0.5))
        assert run("reconstruct", out, tmp_path / "y.npy", "--out", tmp_path / "x").code in (0, 3)


WRONG: list[Any] = [True, -1, "x", [1.0], [[1.0], [2.0, 3.0]], float("inf")]
PYTHON = re.compile(
    r"\b(None|NoneType|True|False|[tT]uple|List|dict|Dictionary|Sequence|ndarray|NaN|Infinity)\b"
    r"|\b(float32|float64|instance|keyword|positional|validation)\b|__|\w=\w|\w=\[|Error\b"
    r"|(?<!in )\(-?\d[\d.e-]*,"
)
"""Words and notation that a TOML file does not have."""


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_what_is_refused_is_said_in_the_words_of_toml(kind: str, name: str) -> None:
    entry = CATALOGUE[kind][name]
    for key in parameters(entry):
        for value in WRONG:
            problems: list[Any] = []
            validate(entry, {key: value}, problems)
            for problem in problems:
                assert not PYTHON.search(problem.message), problem
