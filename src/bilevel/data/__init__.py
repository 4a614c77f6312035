"""Images, phantoms, noise, and training pairs keyed by sample id."""

from bilevel.data.crops import centre_crop, crops, patches
from bilevel.data.embedded import embedded_image, embedded_images, embedded_names
from bilevel.data.external import find_data
from bilevel.data.images import (
    Files,
    ImageFile,
    list_images,
    load_file,
    load_image,
    load_images,
    to_grey,
)
from bilevel.data.noise import GaussianNoise, Noise, NoNoise, PoissonNoise
from bilevel.data.noise_level import noise_level
from bilevel.data.pairs import Pairs
from bilevel.data.phantom import shepp_logan
from bilevel.data.samples import Batch, Joined, Samples
from bilevel.data.simulated import Simulated, simulate
from bilevel.data.storage import Layout, Storage
from bilevel.data.stores import InMemory, Nowhere, OnDisk, Store
from bilevel.data.writing import Format, results_path, save_image, save_results

__all__ = [
    "Batch",
    "Files",
    "Format",
    "GaussianNoise",
    "ImageFile",
    "InMemory",
    "Joined",
    "Layout",
    "NoNoise",
    "Noise",
    "Nowhere",
    "OnDisk",
    "Pairs",
    "PoissonNoise",
    "Samples",
    "Simulated",
    "Storage",
    "Store",
    "centre_crop",
    "crops",
    "embedded_image",
    "embedded_images",
    "embedded_names",
    "find_data",
    "list_images",
    "load_file",
    "load_image",
    "load_images",
    "noise_level",
    "patches",
    "results_path",
    "save_image",
    "save_results",
    "shepp_logan",
    "simulate",
    "to_grey",
]
