"""Images, phantoms, noise, and training pairs keyed by sample id."""

from bilevel.data.crops import centre_crop, crops, patches
from bilevel.data.embedded import embedded_image, embedded_images, embedded_names
from bilevel.data.external import find_data
from bilevel.data.images import list_images, load_image, load_images, to_grey
from bilevel.data.noise import GaussianNoise, Noise, NoNoise, PoissonNoise
from bilevel.data.noise_level import noise_level
from bilevel.data.pairs import Pairs, simulate
from bilevel.data.phantom import shepp_logan
from bilevel.data.writing import save_image

__all__ = [
    "GaussianNoise",
    "NoNoise",
    "Noise",
    "Pairs",
    "PoissonNoise",
    "centre_crop",
    "crops",
    "embedded_image",
    "embedded_images",
    "embedded_names",
    "find_data",
    "list_images",
    "load_image",
    "load_images",
    "noise_level",
    "patches",
    "save_image",
    "shepp_logan",
    "simulate",
    "to_grey",
]
