"""What training minimises, as pure functions: anchors, rendering, labels; and the scales they share.

Points and images keep the conventions of the project (images 0..1, pixel centres at +0.5, pointmaps
in the camera frame of view 0).
"""

from sage_core.losses._anchor import (
    AnchorReduction,
    AnchorSampling,
    SparseAnchors,
    anchor_loss,
    anchor_scales,
    sample_at,
)
from sage_core.losses._confidence import HIT_ERROR, conf_weight, confident_loss
from sage_core.losses._exposure import ExposureModel, match_exposure
from sage_core.losses._perceptual import Perceptual, PerceptualNetwork, load_perceptual
from sage_core.losses._photometric import PhotometricForm, photometric_loss
from sage_core.losses._quality import AnchorQuality
from sage_core.losses._rendering import (
    RenderedViews,
    RenderingOptions,
    RenderingTerms,
    rendering_loss,
)
from sage_core.losses._reprojection import ReprojectionInto, reprojection_loss
from sage_core.losses._robust import RobustKernel, robust
from sage_core.losses._scale import mean_distance
from sage_core.losses._scene import (
    SCALE_BOUNDS_AT_224,
    GaussianGradient,
    GaussianScene,
    gaussian_scene,
    scale_bounds,
    scaled_cameras,
)
from sage_core.losses._supervised import (
    by_reference,
    normalised_errors,
    points_by_reference,
    supervised_loss,
)
from sage_core.losses._teacher import teacher_loss
from sage_core.losses._vggt import (
    CameraTerms,
    LabelledScenes,
    VGGTTerms,
    camera_loss,
    vggt_loss,
)
from sage_core.losses._vggt_dense import DenseTerms, ShapeTerm, dense_loss

__all__ = [
    "HIT_ERROR",
    "SCALE_BOUNDS_AT_224",
    "AnchorQuality",
    "AnchorReduction",
    "AnchorSampling",
    "CameraTerms",
    "DenseTerms",
    "ExposureModel",
    "GaussianGradient",
    "GaussianScene",
    "LabelledScenes",
    "Perceptual",
    "PerceptualNetwork",
    "PhotometricForm",
    "RenderedViews",
    "RenderingOptions",
    "RenderingTerms",
    "ReprojectionInto",
    "RobustKernel",
    "ShapeTerm",
    "SparseAnchors",
    "VGGTTerms",
    "anchor_loss",
    "anchor_scales",
    "by_reference",
    "camera_loss",
    "conf_weight",
    "confident_loss",
    "dense_loss",
    "gaussian_scene",
    "load_perceptual",
    "match_exposure",
    "mean_distance",
    "normalised_errors",
    "photometric_loss",
    "points_by_reference",
    "rendering_loss",
    "reprojection_loss",
    "robust",
    "sample_at",
    "scale_bounds",
    "scaled_cameras",
    "supervised_loss",
    "teacher_loss",
    "vggt_loss",
]
