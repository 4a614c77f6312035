"""Images, phantoms, noise, and training pairs keyed by sample id."""

from bilevel.data.coils import birdcage as birdcage
from bilevel.data.coils import estimated_sensitivities as estimated_sensitivities
from bilevel.data.complex import load_complex as load_complex
from bilevel.data.complex import save_complex as save_complex
from bilevel.data.crops import centre_crop as centre_crop
from bilevel.data.crops import crops as crops
from bilevel.data.crops import patches as patches
from bilevel.data.embedded import embedded_image as embedded_image
from bilevel.data.embedded import embedded_images as embedded_images
from bilevel.data.embedded import embedded_names as embedded_names
from bilevel.data.external import find_data as find_data
from bilevel.data.images import Files as Files
from bilevel.data.images import ImageFile as ImageFile
from bilevel.data.images import list_images as list_images
from bilevel.data.images import load_file as load_file
from bilevel.data.images import load_image as load_image
from bilevel.data.images import load_images as load_images
from bilevel.data.images import to_grey as to_grey
from bilevel.data.noise import GaussianNoise as GaussianNoise
from bilevel.data.noise import Noise as Noise
from bilevel.data.noise import NoNoise as NoNoise
from bilevel.data.noise import PoissonNoise as PoissonNoise
from bilevel.data.noise_level import noise_level as noise_level
from bilevel.data.pairs import Pairs as Pairs
from bilevel.data.phantom import shepp_logan as shepp_logan
from bilevel.data.samples import Batch as Batch
from bilevel.data.samples import Joined as Joined
from bilevel.data.samples import Samples as Samples
from bilevel.data.simulated import Simulated as Simulated
from bilevel.data.simulated import simulate as simulate
from bilevel.data.storage import Layout as Layout
from bilevel.data.storage import Storage as Storage
from bilevel.data.stores import InMemory as InMemory
from bilevel.data.stores import Nowhere as Nowhere
from bilevel.data.stores import OnDisk as OnDisk
from bilevel.data.stores import Store as Store
from bilevel.data.writing import Format as Format
from bilevel.data.writing import results_path as results_path
from bilevel.data.writing import save_image as save_image
from bilevel.data.writing import save_results as save_results
from bilevel.ground.contents import contents as _contents

__doc__ = _contents(__name__)
