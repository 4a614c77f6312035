"""``bilevel directions``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bilevel.cli.commands.select import GreyOption

__all__ = ["directions"]

TABLE = "directions.toml"


def directions(
    picture: Annotated[
        Path, typer.Argument(help="A restored picture, or a noisy one and --sigma.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the maps.")],
    sigma: Annotated[
        str,
        typer.Option(
            "--sigma", metavar="LEVEL", help="Standard deviation of the noise in it, e.g. 5/255."
        ),
    ] = "0",
    window: Annotated[
        int, typer.Option("--window", help="Side of the squares that angles come from [pixel].")
    ] = 11,
    wide: Annotated[
        int, typer.Option("--wide", help="Side of those for the exponents [pixel].")
    ] = 21,
    convex: Annotated[
        bool, typer.Option("--convex", help="No exponent below 1, so that the energy is convex.")
    ] = False,
    grey: GreyOption = False,
) -> None:
    """Find the directions of a picture: maps for directional total variation.

    Writes angle.npy, anisotropy.npy, exponent.npy, weight.npy and directions.toml, a table
    [regulariser] that names them: for `bilevel select PICTURE --config DIR/directions.toml`, which
    chooses the factor of the weights, or for the configuration of `bilevel learn`.
    """
    import numpy as np
    import torch

    from bilevel.cli.console import check_writable, results
    from bilevel.cli.settings.base import ratio
    from bilevel.data import load_image
    from bilevel.ground.errors import InputError
    from bilevel.model.directions import LARGEST_EXPONENT, LEAST_EXPONENT
    from bilevel.select import directional_maps

    try:
        level = float(str(ratio(sigma)))
    except InputError as error:
        raise InputError(f"--sigma {error}") from error
    check_writable(out)
    image = load_image(picture, grey=True if grey else None, dtype=torch.float64)
    exponents = (1.0 if convex else LEAST_EXPONENT, LARGEST_EXPONENT)
    maps = directional_maps(image, window=window, wide=wide, exponents=exponents, sigma=level)
    part = maps.regulariser()
    arrays = {
        "angle": maps.angle[0],
        "anisotropy": maps.anisotropy[0],
        "exponent": maps.exponent[0],
        "weight": part.log_weight.detach().exp(),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, values in arrays.items():
        np.save(out / f"{name}.npy", values.numpy())
    keys = [f'{name} = "{name}.npy"' for name in arrays]
    scale = f"scale = {float(part.log_scale.exp()):.6g}"
    table = ["[regulariser]", 'name = "directional-tv"', *keys, scale]
    (out / TABLE).write_text("\n".join(table) + "\n", encoding="utf-8")
    console = results()
    for name, values in arrays.items():
        low, middle, high = (float(values.quantile(q)) for q in (0.05, 0.5, 0.95))
        console.print(f"{name}: {low:.3g}, {middle:.3g}, {high:.3g} (5 %, median, 95 %)")
    console.print(f"table: {out / TABLE}", markup=False, soft_wrap=True)
