"""What COLMAP is told: the fast recipe, the paper's, and the finer one for a second try."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Settings of features, pairs and mapping.

    Attributes:
        long_side_px: size that frames are reduced to; smaller frames are left as they are.
        max_features: cap on SIFT key points a frame.
        first_octave: 0 starts at the image's size, -1 at twice its size (3.5 times the cost).
        exhaustive: match every pair, instead of offsets 1, 2, 4, 8, … along the clip.
        light_adjustment: fewer and looser bundle adjustments; same accuracy within 3 %.
    """

    name: str
    long_side_px: int
    max_features: int
    first_octave: int
    exhaustive: bool
    light_adjustment: bool

    def finer(self) -> Recipe:
        """For one more try where too few frames registered: twice the size, twice the features."""
        return replace(
            self,
            name=f"{self.name}+finer",
            max_features=max(4096, self.max_features),
            first_octave=-1,
        )


RECIPES = {
    "fast": Recipe("fast", 640, 2048, 0, exhaustive=False, light_adjustment=True),
    "paper": Recipe("paper", 1024, 16384, -1, exhaustive=True, light_adjustment=False),
}


def extraction_options(recipe: Recipe) -> Any:
    """``pycolmap.FeatureExtractionOptions``, one thread, on the CPU."""
    import pycolmap

    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = 1
    options.use_gpu = False
    options.sift.max_num_features = recipe.max_features
    options.sift.first_octave = recipe.first_octave
    return options


def matching_options() -> Any:
    """``pycolmap.FeatureMatchingOptions``, one thread, on the CPU."""
    import pycolmap

    options = pycolmap.FeatureMatchingOptions()
    options.num_threads = 1
    options.use_gpu = False
    return options


def verification_options(seed: int) -> Any:
    """``pycolmap.TwoViewGeometryOptions`` with a fixed seed."""
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = seed
    return options


def mapping_options(recipe: Recipe, n_frames: int, seed: int) -> Any:
    """``pycolmap.IncrementalPipelineOptions``, one thread, with a fixed seed.

    ``multiple_models`` stays on: the first initial pair may stall at two frames, and without it the
    run would end there.
    """
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 1
    options.mapper.num_threads = 1
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    options.extract_colors = False
    options.multiple_models = True
    options.max_num_models = 5
    options.min_model_size = min(options.min_model_size, max(3, n_frames // 2))
    options.init_num_trials = 30
    if recipe.light_adjustment:
        options.ba_local_max_refinements = 1
        options.ba_global_max_refinements = 2
        options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.8
        options.ba_local_function_tolerance = 1e-4
        options.ba_global_function_tolerance = 1e-5
    return options
