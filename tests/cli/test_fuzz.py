"""Configurations and options of random nonsense: read, or refused in one short sentence."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bilevel import BilevelError
from bilevel.cli.catalogue import CATALOGUE, parameters
from bilevel.cli.commands.select import tables
from bilevel.cli.config import parse, read_selection
from bilevel.cli.measured import learning_images
from bilevel.cli.options import range_of
from cli.tiny import CONFIGURATION

DIGITS, MANY_DIGITS = "1" + "0" * 400, "7" * 5000
VALUES = [
    "0", "-1", "1", "3", "1e30", "1e300", "1e-320", "-1e-30", "inf", "-inf", "nan", "1e999",
    DIGITS, MANY_DIGITS, "-" + DIGITS, "1000000000000", "9223372036854775808", "1025", "16384",
    "true", "[]", "{}", "[[]]", "[[1.0]]", "[[nan]]", f"[[{DIGITS}]]", "[" * 20000,
    "[" * 300 + "]" * 300,
    '""', '"weight"', '"1/0"', '"25/255"', '"nan"', f'"{MANY_DIGITS}"', f'"{MANY_DIGITS}/1e-300"',
    '["weight"]', '["nothing", 1]', '["weight", "weight"]', "1979-05-27", "1979-05-27T25:61:00",
    "07:32",
    "{ name = 3 }", '{ name = "mask" }', "{ a.b.c = 1 }", '"\\u0000"', '"gone.npy"', '"."',
]  # fmt: skip
TABLES = {
    "operator": "operators", "noise": "noises", "fidelity": "fidelities", "loss": "losses",
    "regulariser": "regularisers", "solver": "solvers", "algorithm": "algorithms",
}  # fmt: skip
LONGEST = 1200


@contextmanager
def prompt(seconds: int) -> Generator[None]:
    """Fails where the code inside takes longer."""

    def late(*_: object) -> None:
        raise AssertionError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def nonsense(rng: random.Random) -> str:
    """A configuration with one to three values, keys, names or tables replaced."""
    text = CONFIGURATION
    for _ in range(rng.randint(1, 3)):
        lines = text.split("\n")
        kind, value = rng.randrange(6), rng.choice(VALUES)
        filled = [k for k, line in enumerate(lines) if " = " in line[:40]]
        if kind <= 1 and filled:
            k = rng.choice(filled)
            lines[k] = f"{lines[k].partition(' = ')[0]} = {value}"
        elif kind <= 3:
            table = rng.choice(list(TABLES))
            name = rng.choice(list(CATALOGUE[TABLES[table]]))
            keys = list(parameters(CATALOGUE[TABLES[table]][name])) or ["none"]
            entry = [f"[{table}]", f'name = "{name}"', f"{rng.choice(keys)} = {value}"]
            start = next((k for k, line in enumerate(lines) if line == f"[{table}]"), len(lines))
            end = next((k for k in range(start + 1, len(lines)) if not lines[k]), len(lines))
            lines[start:end] = entry
        elif kind == 4:
            key = rng.choice(["x", "seed", "a." * 30000 + "b", "learn"])
            lines.insert(rng.randrange(len(lines)), f"{key} = {value}")
        else:
            k = rng.randrange(len(lines))
            lines[k] = lines[k][: rng.randint(0, len(lines[k]))]
        text = "\n".join(lines)
    return text


def attempt(seed: int) -> None:
    rng = random.Random(seed)
    text = nonsense(rng)
    with prompt(10):
        try:
            learning_images(parse(text, Path("fuzz.toml")), None)
        except BilevelError as error:
            assert len(str(error)) < LONGEST, seed
    kind = rng.choice(["operators", "noises", "regularisers"])
    name = rng.choice(list(CATALOGUE[kind]))
    keys = list(parameters(CATALOGUE[kind][name])) or ["none"]
    option = f"{name}:{rng.choice(keys)}={rng.choice(VALUES)}"
    given = dict.fromkeys(("operators", "noises", "sigma", "regularisers"))
    given[kind] = option
    if rng.random() < 0.3:
        given["sigma"] = rng.choice(VALUES)
    with prompt(10):
        try:
            read_selection(None, tables(*given.values()))
            range_of(f"{rng.choice(VALUES)},{rng.choice(VALUES)}", "--span")
        except BilevelError as error:
            assert len(str(error)) < LONGEST, seed


@pytest.mark.skipif(sys.platform == "win32", reason="needs an alarm")
def test_two_hundred_configurations() -> None:
    for seed in range(200):
        attempt(seed)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="needs an alarm")
def test_two_thousand_configurations() -> None:
    for seed in range(200, 2200):
        attempt(seed)


@pytest.mark.parametrize("value", VALUES)
def test_every_value_in_the_place_of_a_number(value: str) -> None:
    for key in ("weight = 0.02", "size = 16", "count = 2", 'sigma = "10/255"', "steps = 2"):
        text = CONFIGURATION.replace(key, f"{key.partition(' = ')[0]} = {value}", 1)
        with prompt(10):
            try:
                learning_images(parse(text, Path("fuzz.toml")), None)
            except BilevelError as error:
                assert len(str(error)) < LONGEST
