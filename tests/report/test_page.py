from __future__ import annotations

import math
import platform
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import bilevel as bl
from bilevel.learn import Fit, Status
from bilevel.report import Samples, evaluation_page, learning_page, write_page
from bilevel.solve import Status as SolveStatus
from report.examples import make_samples, unproved

VOID = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """Its text; and a check that elements nest and pictures have a text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.words, self.open = html, "", []
        self.feed(html)
        assert not self.open
        self.words = re.sub(r"\s+", " ", self.words.replace("\u202f", " "))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            assert values["alt"]
            assert (values["src"] or "").startswith("data:image/png;base64,")
        assert tag not in ("link", "iframe", "object")
        assert "src" not in values or tag == "img"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data


def read(html: str) -> Page:
    """A page that fetches nothing and tells nothing of the machine."""
    assert not re.search(r"https?:|//www|@import|url\((?!#)", html)
    visible = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"(?<![\w<])/(home|root|tmp|usr|work|Users)\b", visible)
    assert str(Path.cwd()) not in visible
    assert not re.search(r"\b(None|nan|inf|undefined)\b", Page(visible_words(html)).words)
    return Page(html)


def visible_words(html: str) -> str:
    return re.sub(r"<title>.*?</title>|<pre.*?</pre>", "", html, flags=re.DOTALL)


def test_what_a_learning_page_says(tiny_fit: Fit) -> None:
    fit = replace(tiny_fit, configuration={"data": {"images": "/home/x/secret/bsds", "sigma": 0.1}})
    page = read(learning_page(fit, training=make_samples(2), title="Denoising <b>"))
    for part in (
        "Denoising <b>",
        "2 parameters of total variation learned in",
        "raises PSNR on 2 training images by +13.98 dB on average, from 20.00 dB to 33.98 dB",
        "Every reconstruction is proved to lie within 1.00 × 10⁻⁴ grey values (rms)",
        fit.reason,
        "What was learned",
        "smoothing [grey value]",
        "How learning went",
        "Gradient evaluations",
        f"{fit.cost.hvps}",
        "What is proved, and what is not",
        "not convex in θ",
        'images = "…/bsds"',
        f"PyTorch {torch.__version__}",
        "sample-0",
        "SSIM",
    ):
        assert part in page.words, part
    assert "secret" not in page.html
    assert "<b>" not in page.html.split("<h1>")[1].split("</h1>")[0]
    assert page.html.count('<svg class="chart"') == 7
    assert "held-out" not in page.words


def test_overfitting_is_said_only_where_it_is(tiny_fit: Fit) -> None:
    theta = {"regulariser.terms.0.log_weight": torch.zeros(480, 1)}
    weights = replace(tiny_fit, theta=theta)
    training, poor = make_samples(1), make_samples(3, after=0.09, prefix="other")
    page = read(learning_page(weights, training=training, held_out=poor))
    assert "This is overfitting: 1 training image gained +13.98 dB, 3 held-out" in page.words
    assert "480 parameters were fitted to 480 grey values" in page.words
    assert 'class="wide verdict warning"' in page.html
    good = make_samples(3, after=0.02, prefix="other")
    page = read(learning_page(weights, training=training, held_out=good))
    assert "no sign of overfitting" in page.words
    assert "This is overfitting" not in page.words
    assert 'class="wide verdict warning"' not in page.html
    assert "On 3 images that it has never seen, the gain is +13.98 dB" in page.words


def test_nothing_is_proved(tiny_fit: Fit) -> None:
    fit = replace(tiny_fit, history=tuple(map(unproved, tiny_fit.history)))
    page = read(learning_page(fit, training=make_samples(2, certificate=math.inf)))
    assert "Reconstructions are not certified" in page.words
    assert "No strong convexity is proved" in page.words
    assert "Proved accuracy none a distance is proved for 0 of 2" in spaced(page)
    assert "proved to lie" not in page.words.replace("is proved to lie.", "")


def spaced(page: Page) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.html))


@pytest.mark.parametrize("count", [0, 1])
def test_short_histories(tiny_fit: Fit, count: int) -> None:
    fit = replace(tiny_fit, history=tiny_fit.history[:count], status=Status.INTERRUPTED)
    page = read(learning_page(fit, training=make_samples(1)))
    assert "interrupted" in page.words
    assert ("before its first outer step" in page.words) == (count == 0)


def test_a_diverged_history(tiny_fit: Fit) -> None:
    bad = replace(tiny_fit.history[-1], value=math.nan, corrected=math.nan, gradient_norm=math.nan)
    fit = replace(tiny_fit, history=(*tiny_fit.history, bad), status=Status.DIVERGED)
    assert "no longer finite" in read(learning_page(fit, training=make_samples(1))).words


@pytest.mark.parametrize("shape", [(3, 20, 24), (2, 12, 12), (1, 4, 5)])
def test_colour_complex_and_tiny_images(tiny_fit: Fit, shape: tuple[int, int, int]) -> None:
    page = read(learning_page(tiny_fit, training=make_samples(2, shape=shape)))
    assert ("SSIM 0." in page.words) == (shape[1] >= 11)


def test_filters_and_maps_are_shown() -> None:
    experts = bl.regularisers.FieldsOfExperts(bl.regularisers.dct_filters(3), potential="huber")
    tv = bl.regularisers.TotalVariation(torch.full((24, 20), 0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts + tv)
    theta = {n: p.detach() for n, p in energy.named_parameters() if p.requires_grad}
    fit = Fit(energy, theta, (), Status.BUDGET, bl.Cost())
    page = read(learning_page(fit, training=make_samples(1)))
    assert page.html.count('alt="filter ') == 8
    assert "each with its weight, the largest first" in page.words
    assert "one weight a pixel [1]" in page.words


def test_learned_potentials_are_drawn_as_curves() -> None:
    experts = bl.regularisers.FieldsOfExperts(bl.regularisers.dct_filters(2), potential="spline")
    ridge = bl.regularisers.SplineRidge([torch.randn(2, 1, 3, 3)])
    energy = bl.Variational(bl.fidelities.SquaredL2(), experts + ridge)
    theta = {n: p.detach() for n, p in energy.named_parameters() if p.requires_grad}
    fit = Fit(energy, theta, (), Status.BUDGET, bl.Cost())
    page = read(learning_page(fit, training=make_samples(1)))
    assert 'aria-label="Potential of Fields of experts: 3 curves from 0 to' in page.html
    assert 'aria-label="Potential of Spline ridge: 1 curve from ' in page.html
    assert "what a response costs" in page.words


def test_an_evaluation_page(tiny_fit: Fit) -> None:
    batches = [make_samples(2), make_samples(1, shape=(1, 30, 12), prefix="tall", after=0.01)]
    page = read(evaluation_page(tiny_fit, batches, title="On two sizes"))
    for part in (
        "On two sizes",
        "3 images reconstructed with learned total variation: PSNR rises by +15.99 dB on average",
        "tall-0",
        "sample-1",
        "3 of 3 certified",
        "What learning it cost",
    ):
        assert part in page.words, part
    assert page.html.count('<article class="card">') == 3


def test_solves_that_stopped_early_are_not_passed_over(tiny_fit: Fit) -> None:
    status = torch.tensor([SolveStatus.CONVERGED, SolveStatus.MAX_STEPS])
    page = read(evaluation_page(tiny_fit, replace(make_samples(2), status=status)))
    assert "1 of 2 stopped before the accuracy asked for" in page.words
    assert "max steps" in page.words
    assert "stopped before" not in read(evaluation_page(tiny_fit, make_samples(2))).words


def test_names_are_escaped(tiny_fit: Fit) -> None:
    samples = replace(make_samples(1), ids=['<script>"&'])
    html = evaluation_page(tiny_fit, samples)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_many_large_noisy_images_stay_below_ten_megabytes(tiny_fit: Fit) -> None:
    target = torch.rand(6, 3, 400, 400)
    before = (target + 0.1 * torch.randn_like(target)).clamp(0, 1)
    samples = Samples(list("abcdef"), before, 0.5 * (before + target), target, torch.ones(6))
    html = learning_page(tiny_fit, training=samples, held_out=samples)
    assert 1e6 < len(html) < 8e6
    assert "of 400 × 400 pixels" in html


def test_no_images(tiny_fit: Fit) -> None:
    with pytest.raises(bl.InputError, match="at least one sample"):
        evaluation_page(tiny_fit, [])


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_page(tmp_path / "deep" / "report.html", "<p>ε</p>")
    assert path.read_text(encoding="utf-8") == "<p>ε</p>"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(bl.InputError, match="cannot write"):
        write_page(path / "below-a-file.html", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(bl.InputError, match="cannot write"):
        write_page(tmp_path / "folder", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "folder"]
    write_page(path, "a file name that is no text: \udcff")
    assert path.read_text(encoding="utf-8") == "a file name that is no text: ?"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_host_and_user_are_not_named(tiny_fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    for name in ("USER", "LOGNAME", "HOSTNAME", "HOME"):
        monkeypatch.setenv(name, "secret-user")
    assert "secret" not in learning_page(tiny_fit, training=make_samples(1))
