"""What the installed pycolmap can do beyond SIFT on the CPU, and the recipe that settings ask for."""

from __future__ import annotations

from dataclasses import dataclass

from sage_core.config.reconstruct import ReconstructConfig
from sage_core.errors import SageError
from sage_core.sfm.recipes import RECIPES, Detector, Recipe
from sage_core.types import Reason

_DETECTORS: dict[str, Detector] = {"sift_gpu": "colmap_gpu", "aliked": "aliked"}


@dataclass(frozen=True)
class Backends:
    """Of the installed pycolmap: its version, whether it was built with CUDA, and with ONNX."""

    pycolmap: str
    cuda: bool
    onnx: bool


def probe() -> Backends:
    """Ask the installed pycolmap: without ONNX its options still pass their check, creating does not."""
    import pycolmap

    options = pycolmap.FeatureExtractionOptions()
    options.type = pycolmap.FeatureExtractorType.ALIKED_N16ROT
    options.use_gpu = False
    try:
        pycolmap.FeatureExtractor.create(options)
    except RuntimeError as error:
        onnx = "requires ONNX" not in str(error)
    else:
        onnx = True
    return Backends(pycolmap.__version__, bool(pycolmap.has_cuda), onnx)


def recipe_of(config: ReconstructConfig) -> Recipe:
    """The recipe with the detector that the settings ask for.

    Raises:
        SageError: a detector that the installed pycolmap was built without.
    """
    recipe = RECIPES[config.recipe]
    if config.features == "sift":
        return recipe
    found = probe()
    has, what = (found.cuda, "CUDA") if config.features == "sift_gpu" else (found.onnx, "ONNX")
    if not has:
        raise SageError(
            f"reconstruct.features is {config.features!r}, but pycolmap {found.pycolmap} was built without "
            f"{what}: install a build with it, or set reconstruct.features to 'sift'",
            reason=Reason.BAD_CONFIG,
        )
    return recipe.by(_DETECTORS[config.features])
