"""What is wrong in a configuration is said in one line that names the place and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.tiny import CONFIGURATION, Run

# What stands in the tiny configuration, what takes its place, the line that the error must name,
# and what it must say.
CASES = {
    "unknown key": ("weight = 0.02", "wieght = 0.02", "wieght = 0.02", "did you mean 'weight'?"),
    "unknown table": (
        "[regulariser]",
        "[regularizer]",
        "[regularizer]",
        "did you mean 'regulariser'?",
    ),
    "unknown operator": (
        '"gaussian-blur"',
        '"gausian-blur"',
        'name = "gausian-blur"',
        "did you mean 'gaussian-blur'?",
    ),
    "unknown regulariser": ('"total-variation"', '"tv"', 'name = "tv"', "total-variation"),
    "unknown noise": (
        'name = "gaussian"\n',
        'name = "gauss"\n',
        'name = "gauss"',
        "did you mean 'gaussian'?",
    ),
    "unknown algorithm": (
        "[budget]",
        '[algorithm]\nname = "gradient"\n[budget]',
        'name = "gradient"',
        "did you mean 'projected-gradient'?",
    ),
    "unknown schedule": (
        "[budget]",
        '[algorithm]\nname = "projected-gradient"\n'
        '[algorithm.schedule]\nname = "geometrical"\n[budget]',
        'name = "geometrical"',
        "did you mean 'geometric'?",
    ),
    "schedule of an algorithm without": (
        "[budget]",
        '[algorithm]\nname = "maid"\n[algorithm.schedule]\nname = "geometric"\n[budget]',
        "[algorithm.schedule]",
        "unknown key 'schedule' in [algorithm]",
    ),
    "name that is no text": ('"gaussian-blur"', "3", "name = 3", "gaussian-blur"),
    "no name": ('name = "total-variation"\n', "", "[regulariser]", "[regulariser] needs a name"),
    "text for a number": (
        "weight = 0.02",
        'weight = "large"',
        'weight = "large"',
        'but got "large"',
    ),
    "yes for a number": (
        "weight = 0.02",
        "weight = true",
        "weight = true",
        "must be a finite number, a list of numbers, or a file",
    ),
    "number for a truth value": (
        "weight = 0.02",
        "isotropic = 1",
        "isotropic = 1",
        "must be true or false",
    ),
    "fraction of a pixel": ("size = 16", "size = 16.5", "size = 16.5", "must be a valid integer"),
    "value for a table": ("[data]", "fidelity = 2\n[data]", "fidelity = 2", "must be a table"),
    "negative noise": ('sigma = "10/255"', "sigma = -0.1", "sigma = -0.1", "but got -0.1"),
    "negative quotient": (
        '"10/255"',
        '"-10/255"',
        'sigma = "-10/255"',
        "not negative",
    ),
    "quotient that is none": ('"10/255"', '"10:255"', 'sigma = "10:255"', "25/255"),
    "division by zero": ('"10/255"', '"10/0"', 'sigma = "10/0"', "25/255"),
    "no noise level": ('sigma = "10/255"\n', "", "[noise]", "[noise] needs 'sigma'"),
    "infinite weight": ("weight = 0.02", "weight = inf", "weight = inf", "finite"),
    "weight out of range": ("weight = 0.02", "weight = 1e35", "weight = 1e35", "1e"),
    "zero smoothing": ("smoothing = 0.05", "smoothing = 0", "smoothing = 0", "must be a positive"),
    "unknown potential": (
        "weight = 0.02",
        'potential = "hubber"',
        'potential = "hubber"',
        "did you mean 'huber'?",
    ),
    "unknown parameter": (
        "weight = 0.02",
        'learn = ["weigth"]',
        'learn = ["weigth"]',
        "did you mean 'weight'?",
    ),
    "map that is not learned": (
        "weight = 0.02",
        'map = true\nlearn = ["smoothing"]',
        "map = true",
        "leave out map",
    ),
    "grid that is not learned": (
        "weight = 0.02",
        'grid = [2, 3]\nlearn = ["smoothing"]',
        "grid = [2, 3]",
        "leave out grid",
    ),
    "grid and map": (
        "weight = 0.02",
        "grid = [2, 3]\nmap = true",
        "grid = [2, 3]",
        "leave out map or grid",
    ),
    "grid larger than the crops": (
        "weight = 0.02",
        "grid = [2, 33]",
        "[regulariser]",
        "must not exceed the image",
    ),
    "too few knots": (
        "weight = 0.02",
        'grid = [2, 3]\nbetween = "spline"',
        'between = "spline"',
        "at least 4",
    ),
    "kernel larger than the crops": ("size = 3", "size = 33", "size = 33", "33x33 kernel"),
    "uneven kernel": (
        'name = "gaussian-blur"\nsize = 3\nsigma = 0.7',
        'name = "convolution"\nkernel = [[0.5, 0.5], [1.0]]',
        "kernel = [[0.5, 0.5], [1.0]]",
        "must have one length",
    ),
    "factor that does not divide": (
        'name = "gaussian-blur"\nsize = 3\nsigma = 0.7',
        'name = "downsampling"\nfactor = 3',
        "factor = 3",
        "multiples of the factor 3",
    ),
    "acceleration without lines": (
        'name = "gaussian-blur"\nsize = 3\nsigma = 0.7',
        'name = "fourier-mask"\nacceleration = 100',
        "acceleration = 100",
        "keeps 0 of 16 lines",
    ),
    "photons in Fourier space": (
        'name = "gaussian-blur"\nsize = 3\nsigma = 0.7\n\n'
        '[noise]\nname = "gaussian"\nsigma = "10/255"',
        'name = "fourier-mask"\n\n[noise]\nname = "poisson"\npeak = 100.0',
        'name = "poisson"',
        "use gaussian noise",
    ),
    "filters for colour": (
        'name = "total-variation"\nweight = 0.02\nsmoothing = 0.05',
        'name = "fields-of-experts"\n[data.x]',
        "[data.x]",
        "unknown key 'x' in [data]",
    ),
    "too many filters": (
        'name = "total-variation"\nweight = 0.02\nsmoothing = 0.05',
        'name = "fields-of-experts"\nsize = 2\ncount = 4',
        "count = 4",
        "at most 3 filters",
    ),
    "batch without step size": (
        "[budget]",
        '[algorithm]\nname = "projected-gradient"\nbatch_size = 2\n[budget]',
        "batch_size = 2",
        "step_size = 10.0",
    ),
    "growth without a batch": (
        "[budget]",
        '[algorithm]\nname = "projected-gradient"\ngrowth = 2.0\n[budget]',
        "growth = 2.0",
        "batch_size = 8",
    ),
    "batch larger than the data": (
        "[budget]",
        '[algorithm]\nname = "projected-gradient"\nbatch_size = 8\nstep_size = 1.0\n[budget]',
        "batch_size = 8",
        "2 images of data.count",
    ),
    "decrease above eta": (
        "[budget]",
        '[algorithm]\nname = "maid"\ndecrease = 0.9\n[budget]',
        "decrease = 0.9",
        "less than eta = 0.5",
    ),
    "proximal steps for a smooth energy": (
        "[budget]",
        '[solver]\nname = "fista"\n[budget]',
        'name = "fista"',
        'take name = "automatic"',
    ),
    "dual steps without a dual term": (
        "[budget]",
        '[solver]\nname = "pdhg"\n[box]\nlower = 0.0\n[budget]',
        'name = "pdhg"',
        "the solver is for exact total variation",
    ),
    "gradients of exact total variation": (
        '"total-variation"\nweight = 0.02\nsmoothing = 0.05\n',
        '"exact-tv"\n[solver]\nname = "nesterov"\n',
        'name = "nesterov"',
        "the solver is for smooth energies alone",
    ),
    "gradients of a box": (
        "[budget]",
        '[solver]\nname = "l-bfgs"\n[box]\nupper = 1.0\n[budget]',
        'name = "l-bfgs"',
        "the solver is for smooth energies alone",
    ),
    "smoothing of exact total variation": (
        '"total-variation"\nweight = 0.02\nsmoothing = 0.05\n',
        '"exact-tv"\nsmoothing = 0.05\n',
        "smoothing = 0.05",
        "unknown key 'smoothing' in [regulariser]",
    ),
    "learning the smoothing of exact total variation": (
        '"total-variation"\nweight = 0.02\nsmoothing = 0.05\n',
        '"exact-tv"\nlearn = ["smoothing"]\n',
        'learn = ["smoothing"]',
        "but got 'smoothing'; choose one of weight",
    ),
    "dual steps with a term that is not convex": (
        '"total-variation"\nweight = 0.02\nsmoothing = 0.05\n',
        '"fields-of-experts"\nsize = 2\npotential = "student-t"\n[fidelity]\nname = "l1"\n',
        'name = "fields-of-experts"',
        "convex",
    ),
    "counts of another background": (
        "[budget]",
        '[fidelity]\nname = "kullback-leibler"\nbackground = 0.1\n[budget]',
        "background = 0.1",
        'set name = "poisson" and background = 0.1 in [noise]',
    ),
    "box without bounds": ("[budget]", "[box]\n[budget]", "[box]", "add e.g. lower = 0.0"),
    "empty box": (
        "[budget]",
        "[box]\nlower = 1.0\nupper = 0.5\n[budget]",
        "upper = 0.5",
        "must exceed lower = 1.0",
    ),
    "zero budget": ("steps = 2", "seconds = 0", "seconds = 0", "greater than 0"),
    "empty budget": ("steps = 2", "", "[budget]", "seconds = 60"),
    "no budget": ("[budget]\nsteps = 2", "", "", "the table [budget] is missing"),
    "unknown precision": ("[data]", 'precision = "half"\n[data]', 'precision = "half"', "float32"),
    "crop larger than the images": (
        "size = 16",
        "size = 4096",
        "size = 4096",
        "smaller than the crop",
    ),
    "more images than there are": (
        "size = 16\ncount = 2",
        "count = 20",
        "count = 20",
        "there are 8 images",
    ),
    "images of several sizes": (
        "size = 16\ncount = 2",
        "count = 7",
        'images = "embedded"',
        "size = 128",
    ),
    "number for a folder": ('"embedded"', "3", "images = 3", "data.images must be text"),
    "no folder": ('"embedded"', "[]", "images = []", "data.images "),
    "empty title": ("[data]", '[output]\ntitle = ""\n[data]', 'title = ""', "at least 1 character"),
    "text for a kernel": (
        'name = "gaussian-blur"\nsize = 3\nsigma = 0.7',
        'name = "convolution"\nkernel = "sharp"',
        'kernel = "sharp"',
        "operator.kernel: cannot read",
    ),
    "text in a kernel": (
        'name = "gaussian-blur"\nsize = 3\nsigma = 0.7',
        'name = "convolution"\nkernel = [["a", "b"]]',
        'kernel = [["a", "b"]]',
        "operator.kernel must be a valid number",
    ),
    "missing folder": ('"embedded"', '"nowhere"', 'images = "nowhere"', "--data DIR"),
    "no TOML": ("size = 16", "size 16", "size 16", "this is not TOML"),
    "key given twice": ("size = 16", "size = 16\nsize = 17", "size = 17", "this is not TOML"),
    "text without end": (
        '"total-variation"',
        '"total-variation',
        'name = "total-variation',
        "this is not TOML",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_configuration_is_refused_in_one_line(case: str, tmp_path: Path, run: Run) -> None:
    replaced, by, line, says = CASES[case]
    assert CONFIGURATION.count(replaced) >= 1
    text = CONFIGURATION.replace(replaced, by, 1)
    path = tmp_path / "bad.toml"
    path.write_text(text)
    refused = run("learn", path, "--out", tmp_path / "out").refused()
    assert says in refused
    named = re.match(rf"error: {re.escape(str(path))}(?:, line (\d+))?: ", refused)
    assert named is not None
    assert (text.splitlines()[int(named[1]) - 1] if named[1] else "") == line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["race", "check"])
def test_where_nothing_is_learned_nothing_can_be_raced_or_checked(
    command: str, tmp_path: Path, run: Run
) -> None:
    text = CONFIGURATION.replace("weight = 0.02", "learn = []")
    path = tmp_path / "bad.toml"
    path.write_text(text)
    options = ("--algorithms", "maid", "--out", tmp_path / "out") if command == "race" else ()
    refused = run(command, path, *options).refused()
    assert "nothing to learn" in refused
    named = re.match(rf"error: {re.escape(str(path))}, line (\d+): ", refused)
    assert named is not None
    assert text.splitlines()[int(named[1]) - 1] == "learn = []"
    assert not (tmp_path / "out").exists()
