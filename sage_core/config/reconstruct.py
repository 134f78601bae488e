"""Settings of the stage reconstruct."""

from __future__ import annotations

from typing import Literal

from sage_core.config._base import Section, setting, subsection
from sage_core.config.masks import MaskConfig


class GateConfig(Section):
    """Thresholds of the quality gate on COLMAP's model; pixels are those of the SfM images."""

    min_registered_share: float = setting(
        0.7, "Smallest share of key frames that are mapped, within the range of a part.", ge=0, le=1
    )
    min_part_key_frames: int = setting(
        12, "Key frames of a part at least, where not the whole clip registers.", ge=5
    )
    min_part_s: float = setting(4.0, "Seconds of such a part at least.", ge=0)
    min_points_median: int = setting(
        100, "Smallest median number of mapped points that a registered key frame sees.", ge=0
    )
    min_points_frame: int = setting(
        30, "Key frames that see fewer mapped points do not count as registered.", ge=0
    )
    min_track_length: float = setting(3.0, "Smallest mean number of frames per point.", ge=2)
    max_reprojection_px: float = setting(0.9, "Largest mean reprojection error in pixels.", gt=0)
    min_triangulation_deg: float = setting(
        3.0,
        "Smallest median over the points of the widest angle between two rays, in degrees.",
        ge=0,
    )
    min_focal_ratio: float = setting(
        0.25, "Smallest focal length as a share of the image's long side.", gt=0
    )
    max_focal_ratio: float = setting(
        2.2, "Largest focal length as a share of the image's long side.", gt=0
    )
    max_focal_sigma: float = setting(
        0.09,
        "Largest standard deviation of the focal length as a share of itself: above it the frames leave it, "
        "and with it depth, open.",
        gt=0,
    )
    min_corner_distortion: float = setting(
        -0.4,
        "Strongest barrel distortion: shift at the picture's corner as a share of its distance from "
        "the centre, negative inwards.",
        le=0,
    )
    max_corner_distortion: float = setting(
        0.06, "Strongest pincushion distortion, measured alike, positive outwards.", ge=0
    )
    principal_point_offset: float = setting(
        0.03,
        "Distance of the principal point from the middle, over the long side, above which a model is kept "
        "with the principal point that its frames tell, not in the middle.",
        ge=0,
    )
    principal_point_sigmas: float = setting(
        10.0, "So many standard deviations it must be, too: they come out small.", ge=0
    )
    max_principal_offset: float = setting(
        0.35, "Largest such distance: beyond it, something else is bent to fit.", ge=0
    )
    max_split_half_percent: float = setting(
        1.0,
        "Largest distance of the path from that by half or two thirds of its tracks (of two to four such "
        "paths the nearest), in percent of its extent.",
        gt=0,
    )
    max_split_half_deg: float = setting(
        1.0, "Largest median angle between the cameras of these two paths, in degrees.", gt=0
    )
    min_split_half_share: float = setting(
        0.7, "Smallest share of a part's frames that such a path has.", ge=0, le=1
    )
    max_zoom: float = setting(
        0.01,
        "Largest ratio, less 1, of the focal lengths of a clip's thirds, after three standard deviations.",
        gt=0,
    )
    min_rotation_residual_px: float = setting(
        1.0,
        "Smallest distance that turns and zooms on the spot, with one lens, leave between matches; below it "
        "a clip is not mapped.",
        ge=0,
    )
    min_inlier_share: float = setting(
        0.8, "Smallest median share of matches that survive verification.", ge=0, le=1
    )
    min_verified_share: float = setting(
        0.7, "Smallest share of neighbouring key frame pairs with 15 inliers or more.", ge=0, le=1
    )


class RegisterConfig(Section):
    """How frames between key frames are posed against the finished map by tracking its points."""

    window_px: int = setting(17, "Side of the tracking window in pixels.", ge=5, le=61)
    pyramid_levels: int = setting(
        3, "Image pyramid levels of the tracker above the first.", ge=0, le=8
    )
    max_point_error_px: float = setting(
        2.0, "Points with a larger mean reprojection error in pixels are not tracked.", gt=0
    )
    forward_backward_px: float = setting(
        1.0, "Largest distance in pixels after tracking there and back.", gt=0
    )
    agreement_px: float = setting(
        1.5, "Largest distance in pixels between the tracks of a point from both key frames.", gt=0
    )
    ransac_px: float = setting(4.0, "Inlier distance of the pose's RANSAC in pixels.", gt=0)
    observation_px: float = setting(
        1.5, "Largest residual in pixels of an observation that enters the model.", gt=0
    )
    min_inliers: int = setting(50, "Frames with fewer inliers are left without a pose.", ge=6)


class ReconstructConfig(Section):
    """The stage reconstruct."""

    version: int = setting(5, "Raised when the stage's code changes what it gives.", ge=1)
    recipe: Literal["fast", "paper"] = setting(
        "fast",
        "'fast' (640 px, 1,024 features, neighbouring frames and loops) or 'paper' (1,024 px, 16,384 "
        "features, every pair).",
    )
    features: Literal["sift", "sift_gpu", "aliked"] = setting(
        "sift",
        "'sift' on the CPU; 'sift_gpu' is COLMAP's on CUDA; 'aliked' with LightGlue needs a pycolmap with "
        "ONNX. What the installed pycolmap lacks is refused.",
    )
    densify_step: int = setting(
        5,
        "Source frames between the extra key frames tried around unregistered ones; 0: none.",
        ge=0,
    )
    retry_from_share: float = setting(
        0.4,
        "A clip that fails the gate with no smaller registered share than this is mapped once more "
        "with more and finer features; below it, no frames are added around lost ones either.",
        ge=0,
        le=1,
    )
    retry_below_share: float = setting(
        0.7,
        "A clip of which parts with a smaller share of its key frames pass the gate, likewise.",
        ge=0,
        le=1,
    )
    gate: GateConfig = subsection(GateConfig)
    register_between: RegisterConfig = subsection(RegisterConfig)
    masks: MaskConfig = subsection(MaskConfig)
    max_cpu_s: float = setting(
        600,
        "CPU seconds that features, matching and mapping of one clip may take.",
        gt=0,
        affects_result=False,
    )
    max_wall_s: float = setting(
        3600,
        "Seconds on the clock after which a clip's child process is stopped.",
        gt=0,
        affects_result=False,
    )
    max_memory_mb: int = setting(
        1900,
        "Memory in MiB above which a clip's child process is stopped.",
        ge=64,
        affects_result=False,
    )
