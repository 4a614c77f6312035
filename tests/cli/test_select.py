"""``bilevel select`` from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.cli import choosing
from bilevel.cli.commands.select import tables
from bilevel.cli.config import read_selection
from bilevel.cli.options import table_of
from cli.tiny import CONFIGURATION, Run

SIGMA = 0.1


def picture(folder: Path, name: str = "noisy.png", size: int = 24, channels: int = 1) -> Path:
    truth = bl.data.shepp_logan(size).float().expand(1, channels, -1, -1).contiguous()
    pairs = bl.data.simulate(truth, bl.operators.Identity(), bl.data.GaussianNoise(SIGMA))
    bl.data.save_image(folder / name, pairs.y.clamp(0, 1), bits=16)
    return folder / name


def entry(out: Path, image: str = "noisy.png", rule: str = "sure") -> dict:
    return json.loads((out / "choices.json").read_text())["images"][image][rule]


def test_one_picture_becomes_a_weight_a_reconstruction_and_a_report(
    run: Run, tmp_path: Path
) -> None:
    image, out = picture(tmp_path), tmp_path / "out"
    outcome = run("select", image, "--sigma", SIGMA, "--out", out)
    assert outcome.code == 0, outcome
    assert outcome.err.startswith("sure on noisy.png")
    assert outcome.out.splitlines()[-1] == f"report:  {out / 'report.html'}"
    y = bl.data.load_image(image)
    tv = bl.regularisers.TotalVariation(1.0, 0.01)
    choice = bl.select(bl.Variational(bl.fidelities.SquaredL2(), tv), y, bl.rules.SURE(SIGMA))
    found = entry(out)
    assert found["weight"] == float(choice.weight)
    assert found["criterion"] == float(choice.value)
    assert found["certificate"] == float(choice.certificate.rms)
    assert found["outcome"] == "FOUND"
    assert found["advice"] == ""
    assert found["psnr"] is None
    assert len(found["curve"]["weight"]) == len(found["curve"]["criterion"]) > 5
    written = bl.data.load_image(out / "noisy.png")
    assert float((written - choice.x.clamp(0, 1)).abs().max()) <= 1 / 65535
    cost = json.loads((out / "choices.json").read_text())["rules"]["sure"]["cost"]
    assert cost["gradient_evaluations"] == choice.cost.gradient_evaluations
    assert "sure chooses the weight" in (out / "report.html").read_text()


OUTCOMES = {("FOUND", False), ("DOUBTFUL", True)}
"""Of few data; with whether standard error says that there is no answer."""


def test_several_pictures_of_any_size_and_colour(run: Run, tmp_path: Path) -> None:
    images = [picture(tmp_path, "a.png"), picture(tmp_path, "b.png", size=16, channels=3)]
    outcome = run(
        "select", *images, "--sigma", "25/255", "--rule", "discrepancy", "--out", tmp_path / "o"
    )
    assert outcome.code == outcome.owed, outcome  # so few data may leave a doubt
    assert bl.data.load_image(tmp_path / "o" / "b.png").shape == (1, 3, 16, 16)
    for name in ("a.png", "b.png"):
        told = entry(tmp_path / "o", name, "discrepancy")["outcome"]
        assert (told, f"not answered: {name}" in outcome.err) in OUTCOMES
    outcome = run("select", images[1], "--grey", "--sigma", 0.1, "--out", tmp_path / "g")
    assert outcome.code == outcome.owed, outcome
    assert bl.data.load_image(tmp_path / "g" / "b.png").shape == (1, 1, 16, 16)


def test_blur_is_undone_and_its_options_are_heard(run: Run, tmp_path: Path) -> None:
    image, out = picture(tmp_path), tmp_path / "out"
    operator = "gaussian-blur:size=3,sigma=0.5"
    rule = "predicted-risk:probes=2"
    outcome = run(
        "select", image, "--operator", operator, "--sigma", 0.1, "--rule", rule, "--out", out
    )
    assert outcome.code == 0, outcome
    about = json.loads((out / "choices.json").read_text())["configuration"]
    assert about["operator"]["size"] == 3
    assert about["rule"]["probes"] == 2
    assert entry(out, rule="predicted-risk")["weight"] > 0


@pytest.mark.parametrize(
    "options", [("--positive",), ("--regulariser", "exact-tv"), ("--config", "{box}")], ids=str
)
def test_bounds_and_kinks_are_chosen_like_anything(
    options: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    truth = bl.data.shepp_logan(24).float()
    y = bl.data.simulate(truth, bl.operators.Identity(), bl.data.GaussianNoise(SIGMA)).y
    bl.data.save_image(tmp_path / "noisy.npy", y)
    box = tmp_path / "box.toml"
    box.write_text('regulariser = { name = "exact-tv" }\n[box]\nlower = 0.0\nupper = 0.9\n')
    out = tmp_path / "out"
    given = [option.format(box=box) for option in options]
    outcome = run("select", tmp_path / "noisy.npy", "--sigma", SIGMA, *given, "--out", out)
    assert outcome.code == outcome.owed, outcome
    assert entry(out, "noisy.npy")["certificate"] < 1e-3
    x = bl.data.load_image(out / "noisy.npy")
    assert (float(x.min()) == 0) == (options[0] != "--regulariser")
    if options[0] == "--config":
        assert float(x.max()) == pytest.approx(0.9)
    assert float((x - truth).square().mean()) < 0.5 * SIGMA**2


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "sure"),
        ({"operator": {"name": "gaussian-blur"}}, "predicted-risk"),
        ({"rule": {"name": "discrepancy"}}, "discrepancy"),
        (
            {"noise": {"name": "gaussian", "sigma": 0.1}, "operator": {"name": "mask"}},
            "predicted-risk",
        ),
    ],
)
def test_the_rule_that_is_taken_unless_one_is_asked_for(options: dict, name: str) -> None:
    assert read_selection(None, options).named_rule[0] == name


def test_tables_of_a_configuration_are_taken_and_options_replace_them(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIGURATION)
    found = read_selection(path, {})
    assert found.operator.model_dump()["size"] == 3
    assert found.noise is not None
    assert found.ridge is not None
    other = read_selection(path, {"operator": {"name": "identity"}})
    assert other.operator.model_dump() == {}
    assert other.noise == found.noise


def test_the_weight_of_a_configuration_gives_back_its_energy(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIGURATION)
    found = read_selection(path, {})
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    unit, weight = found.energy((1, 16, 16)), 0.02
    tv, ridge = bl.regularisers.TotalVariation(weight, 0.05), bl.regularisers.Tikhonov(0.01)
    torch.testing.assert_close(weight * unit.regulariser(x), tv(x) + ridge(x))
    scaled = found.energy((1, 16, 16), 1 / weight)
    torch.testing.assert_close(weight * scaled(x, x), (unit.fidelity(x, x) + tv(x) + ridge(x)))
    assert [n for n, p in scaled.named_parameters() if p.requires_grad] == ["fidelity.log_weight"]
    log = scaled.fidelity.get_parameter("log_weight").detach()
    assert found.weight_at(log) == pytest.approx(weight, rel=1e-6)


COUNTS = "[noise]\nname = 'poisson'\npeak = 50.0\nbackground = 0.05\n"


@pytest.mark.parametrize("noise", ["poisson:peak=50,background=0.2", "gaussian:sigma=0.1"])
def test_counts_of_another_background_are_refused(noise: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.toml"
    path.write_text(COUNTS + "[fidelity]\nname = 'kullback-leibler'\nbackground = 0.05\n")
    read_selection(path, {})
    with pytest.raises(bl.InputError, match="poisson noise of the same background"):
        read_selection(path, tables(None, noise, None, None))


@pytest.mark.parametrize(
    ("noise", "sigma", "found"),
    [
        (None, None, {"peak": 50.0, "background": 0.05}),
        ("poisson:peak=9,background=0.2", None, {"peak": 9.0, "background": 0.2}),
        ("gaussian", None, None),
        ("gaussian", "0.1", {"sigma": 0.1}),
        ("gaussian:sigma=0.2", None, {"sigma": 0.2}),
        (None, "0.1", {"sigma": 0.1}),
    ],
)
def test_noise_of_the_command_line_replaces_that_of_a_file(
    noise: str | None, sigma: str | None, found: dict | None, tmp_path: Path
) -> None:
    path = tmp_path / "counts.toml"
    path.write_text(COUNTS)
    read = read_selection(path, tables(None, noise, sigma, None)).noise
    assert (read if read is None else read.model_dump()) == found


@pytest.mark.parametrize(("fidelity", "background"), [(None, 0.01), (0.3, 0.3)])
def test_counts_without_a_background_get_one_for_noise_and_fidelity(
    fidelity: float | None, background: float, tmp_path: Path
) -> None:
    path = tmp_path / "model.toml"
    given = f"[fidelity]\nname = 'kullback-leibler'\nbackground = {fidelity}\n"
    path.write_text("" if fidelity is None else given)
    found = read_selection(path, tables(None, "poisson:peak=50", None, None))
    energy = found.energy((1, 16, 16))
    assert found.noise.model_dump()["background"] == background
    assert energy.fidelity.background == background


@pytest.mark.parametrize("rule", ["gcv", "hold-out", "whiteness", "l-curve", "quasi-optimality"])
def test_rules_that_need_no_level_ask_for_none(
    rule: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def level(y: torch.Tensor) -> torch.Tensor:
        raise bl.InputError("no package for that")

    monkeypatch.setattr(bl.data, "noise_level", level)
    image, out = picture(tmp_path, size=12), tmp_path / "out"
    outcome = run("select", image, "--rule", rule, "--out", out)
    assert outcome.code == 3, outcome  # 144 data tell no weight
    assert entry(out, rule=rule)["weight"] > 0
    assert "estimated_noise" not in json.loads((out / "choices.json").read_text())["configuration"]


@pytest.mark.parametrize("command", ["select", "compare"])
def test_the_range_of_weights_may_be_given(command: str, run: Run, tmp_path: Path) -> None:
    image, out = picture(tmp_path, size=12), tmp_path / "out"
    kind = "--rule" if command == "select" else "--rules"
    options = ("--sigma", 0.1, kind, "sure", "--span", "2,3", "--out", out)
    assert run(command, image, *options).code == 3
    found = entry(out)
    assert found["outcome"] == "EDGE"
    assert found["weight"] == pytest.approx(2.0)
    assert all(1.99 < weight < 3.01 for weight in found["curve"]["weight"])


def test_the_range_of_weights_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "span.toml"
    path.write_text("span = [1e-3, 10]\n")
    assert read_selection(path, {}).span == (1e-3, 10.0)
    assert read_selection(path, {"span": (1.0, 2.0)}).span == (1.0, 2.0)
    for bad in ("[1.0, 0.5]", "[0.0, 1.0]", "[1.0]", "3.0"):
        path.write_text(f"span = {bad}\n")
        with pytest.raises(bl.InputError, match="span"):
            read_selection(path, {})


def test_what_is_wrong_is_said_in_a_line(run: Run, tmp_path: Path) -> None:
    image, out = picture(tmp_path), tmp_path / "out"
    partial = tmp_path / "partial.toml"
    partial.write_text("[operatr]\nname = 'mask'\n")
    for options, message in (
        (
            ["--operator", "gausian-blur"],
            "unknown operator \"gausian-blur\"; did you mean 'gaussian-blur'?",
        ),
        (["--operator", "gaussian-blur:size"], "--operator takes name:key=value"),
        (
            ["--operator", "gaussian-blur", "--rule", "sure", "--sigma", "1"],
            "SURE is for denoising",
        ),
        (["--sigma", "-1"], "noise.sigma"),
        (["--rule", "sur"], "unknown rule"),
        (["--regulariser", "total-variation:map=true"], "not a map"),
        (["--operator", "fourier-mask", "--sigma", "0.1"], "Fourier data are complex"),
        (
            ["--noise", "poisson:peak=50,background=0"],
            "e.g. --noise poisson:peak=50,background=0.01",
        ),
        (["--noise", "poisson:peak=50", "--sigma", "1"], "--sigma is the level of gaussian"),
        (["--span", "1,0.5"], "--span takes two positive numbers, the lower first"),
        (["--span", "1"], "--span takes two positive numbers, the lower first"),
        (["--span", "0,1"], "--span takes two positive numbers, the lower first"),
        (["--operator", "mask"], "whole images alone"),
        (["--config", partial], "unknown table or key 'operatr'; did you mean 'operator'?"),
    ):
        assert message in run("select", image, "--out", out, *options).refused()
    assert not out.exists()
    assert "overwritten" in run("select", image, "--sigma", 0.1, "--out", tmp_path).refused()
    assert (
        "no such file" in run("select", tmp_path / "no.png", "--sigma", 1, "--out", out).refused()
    )


def test_a_noise_level_that_is_not_given_is_estimated(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def level(y: torch.Tensor) -> torch.Tensor:
        return torch.full((len(y),), 0.1, dtype=torch.float64)

    monkeypatch.setattr(bl.data, "noise_level", level)
    image = picture(tmp_path)
    for out, options in (("guessed", []), ("given", ["--sigma", 0.1])):
        outcome = run("select", image, *options, "--out", tmp_path / out)
        assert outcome.code == 0, outcome
    assert entry(tmp_path / "guessed") == entry(tmp_path / "given")
    about = json.loads((tmp_path / "guessed" / "choices.json").read_text())["configuration"]
    assert about["estimated_noise"] == {"noisy.png": {"sigma": 0.1}}


def test_a_noise_level_that_cannot_be_estimated_must_be_given(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def level(y: torch.Tensor) -> torch.Tensor:
        raise bl.InputError("no package for that")

    monkeypatch.setattr(bl.data, "noise_level", level)
    said = run("select", picture(tmp_path), "--out", tmp_path / "out").refused()
    assert "no package for that; or give it, e.g. --sigma 10/255" in said


def test_counts_have_a_rule_and_a_fidelity_of_their_own(run: Run, tmp_path: Path) -> None:
    truth = 0.1 + 0.8 * bl.data.shepp_logan(24).float()
    noise = bl.data.PoissonNoise(50.0, 0.05)
    y = bl.data.simulate(truth, bl.operators.Identity(), noise).y
    bl.data.save_image(tmp_path / "noisy.npy", y)
    arguments = ("--noise", "poisson:peak=50,background=0.05", "--out", tmp_path / "out")
    outcome = run("select", tmp_path / "noisy.npy", *arguments)
    assert outcome.code == 0, outcome
    assert entry(tmp_path / "out", "noisy.npy", "pure")["outcome"] == "FOUND"


def test_a_weight_that_was_not_found_comes_with_advice(run: Run, tmp_path: Path) -> None:
    image, out = picture(tmp_path), tmp_path / "out"
    outcome = run("select", image, "--sigma", 2.0, "--rule", "discrepancy", "--out", out)
    assert outcome.code == 3, outcome
    found = entry(out, rule="discrepancy")
    assert found["outcome"] == "NO_ROOT"
    assert found["advice"]
    assert "finds no weight" in outcome.out
    page = (out / "report.html").read_text()
    assert "What needs attention" in page
    assert found["advice"].split(",")[0] in page


def test_an_interrupt_keeps_the_images_that_are_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = [picture(tmp_path, name) for name in ("a.png", "b.png")], tmp_path / "out"
    heard = choosing.WeightProgress.__call__

    def press(progress: choosing.WeightProgress, *values: torch.Tensor) -> None:
        heard(progress, *values)
        if "b.png" in progress.what:
            raise KeyboardInterrupt

    monkeypatch.setattr(choosing.WeightProgress, "__call__", press)
    outcome = run("select", *images, "--sigma", 0.1, "--out", out)
    assert outcome.code == 130
    assert "interrupted: the report" in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    written = {"a.png", "choices.json", "report.html", "results.jsonl"}
    assert {path.name for path in out.iterdir()} == written
    assert json.loads((out / "choices.json").read_text())["interrupted"]
    outcome = run("select", images[1], "--sigma", 0.1, "--out", tmp_path / "nothing")
    assert outcome.code == 130
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("mask", {"name": "mask"}),
        ("mask:fraction=0.5, seed=3", {"name": "mask", "fraction": 0.5, "seed": 3}),
        ("poisson:peak=1e2", {"name": "poisson", "peak": 100.0}),
        ("d:corrected=true,sigma=25/255", {"name": "d", "corrected": True, "sigma": "25/255"}),
    ],
)
def test_options_are_tables(text: str, table: dict) -> None:
    assert table_of(text, "--operator") == table


def test_counts_of_unknown_peak_are_judged_by_their_whiteness(tmp_path: Path) -> None:
    path = tmp_path / "counts.toml"
    path.write_text("[fidelity]\nname = 'kullback-leibler'\nbackground = 0.05\n")
    assert read_selection(path, {}).named_rule[0] == "whiteness"
