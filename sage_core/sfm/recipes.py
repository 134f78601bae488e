"""What COLMAP is told: the fast recipe, the paper's, and the finer one for a second try."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Detector = Literal["opencv", "colmap", "colmap_gpu", "aliked"]

_FINER_FEATURES, _FINEST_SCALE = 4096, 2.0


@dataclass(frozen=True)
class Recipe:
    """Settings of features, pairs and mapping.

    Attributes:
        long_side_px: size that frames are reduced to; smaller frames are left as they are.
        max_features: cap on key points a frame; the strongest stay.
        scale: size at which key points are sought first, as a multiple of the frame's: 2 is SIFT's own
            doubled picture (COLMAP's first octave -1), 1 is COLMAP's octave 0. Cost grows with its square.
        detector: OpenCV's SIFT takes a quarter of the time of COLMAP's at equal scale, and any scale.
        exhaustive: match every pair, instead of frames 1, 2, 4, 8, … apart and candidates for loops.
        quick_verification: RANSAC ends after 300 tries, where COLMAP goes on to 10,000.
        light_adjustment: fewer and looser bundle adjustments, and a first pair that need not see its points
            under 16 degrees; same accuracy within 3 %.
    """

    name: str
    long_side_px: int
    max_features: int
    scale: float
    detector: Detector
    exhaustive: bool
    quick_verification: bool
    light_adjustment: bool

    def finer(self) -> Recipe | None:
        """For one more try where too few frames registered; None where this is as fine already."""
        finest = replace(
            self,
            name=f"{self.name}+finer",
            max_features=max(_FINER_FEATURES, self.max_features),
            scale=_FINEST_SCALE,
            quick_verification=False,
        )
        return finest if replace(finest, name=self.name) != self else None

    def by(self, detector: Detector) -> Recipe:
        """The same with another detector."""
        return replace(self, detector=detector)


RECIPES = {
    "fast": Recipe(
        "fast",
        640,
        1024,
        1.5,
        "opencv",
        exhaustive=False,
        quick_verification=True,
        light_adjustment=True,
    ),
    "paper": Recipe(
        "paper",
        1024,
        16384,
        2.0,
        "colmap",
        exhaustive=True,
        quick_verification=False,
        light_adjustment=False,
    ),
}


def extraction_options(recipe: Recipe) -> Any:
    """``pycolmap.FeatureExtractionOptions``, one thread; for COLMAP's own detectors."""
    import pycolmap

    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = 1
    options.use_gpu = recipe.detector == "colmap_gpu"
    options.sift.max_num_features = recipe.max_features
    options.sift.first_octave = -1 if recipe.scale > 1 else 0
    if recipe.detector == "aliked":
        options.type = pycolmap.FeatureExtractorType.ALIKED_N16ROT
    return options


def matching_options(recipe: Recipe) -> Any:
    """``pycolmap.FeatureMatchingOptions``, one thread; for COLMAP's own matchers."""
    import pycolmap

    options = pycolmap.FeatureMatchingOptions()
    options.num_threads = 1
    options.use_gpu = recipe.detector == "colmap_gpu"
    if recipe.detector == "aliked":
        options.type = pycolmap.FeatureMatcherType.ALIKED_LIGHTGLUE
    return options


def verification_options(recipe: Recipe, seed: int) -> Any:
    """``pycolmap.TwoViewGeometryOptions`` with a fixed seed."""
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = seed
    if recipe.quick_verification:
        options.ransac.min_num_trials = 30
        options.ransac.max_num_trials = 300
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
        options.mapper.init_min_tri_angle = 8
        options.ba_local_max_refinements = 1
        options.ba_global_max_refinements = 1
        options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.8
        options.ba_local_function_tolerance = 1e-4
        options.ba_global_function_tolerance = 1e-5
    return options


def half_mapping_options(recipe: Recipe, n_frames: int, seed: int) -> Any:
    """The same for a map of half the tracks: fewer points are asked for, and the lens stays as it is."""
    options = mapping_options(recipe, n_frames, seed)
    options.min_num_matches = 8
    options.mapper.init_min_num_inliers = 50
    options.mapper.abs_pose_min_num_inliers = 15
    options.ba_refine_focal_length = options.ba_refine_extra_params = False
    options.mapper.abs_pose_refine_focal_length = False
    options.mapper.abs_pose_refine_extra_params = False
    return options
