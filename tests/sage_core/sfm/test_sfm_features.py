import cv2
import numpy as np
import pycolmap
import pytest

from sage_core.config.reconstruct import ReconstructConfig
from sage_core.errors import SageError
from sage_core.sfm.backends import probe, recipe_of
from sage_core.sfm.features import CameraGroup, Workbench, extract, extract_more
from sage_core.sfm.matching import match
from sage_core.sfm.recipes import RECIPES
from sage_core.types import Reason

COUNT, SIZE = 4, (320, 240)


def _picture(seed):
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.random((n, n)).astype(np.float32), SIZE, interpolation=cv2.INTER_CUBIC)
        for n in (20, 45, 90)
    ]
    return np.clip(sum(layers) / 3 * 500 - 120, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two pictures, and both again moved by (6, 4) pixels."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(COUNT):
        moved = np.roll(_picture(index // 2), (4, 6), (0, 1)) if index % 2 else _picture(index // 2)
        cv2.imwrite(str(folder / f"frame_{index:06d}.jpg"), moved, [cv2.IMWRITE_JPEG_QUALITY, 98])
    return folder


def _names(images):
    return sorted(path.name for path in images.iterdir())


def _bench(images, folder, recipe):
    folder.mkdir(exist_ok=True)
    return Workbench(images, folder, recipe, seed=1)


def _keypoints(bench, name):
    with pycolmap.Database.open(bench.database) as database:
        image_id = database.read_image_with_name(name).image_id
        return np.asarray(database.read_keypoints(image_id))[:, :2]


@pytest.mark.parametrize("scale", [2.0, 1.5])
def test_key_points_lie_where_colmap_finds_them(images, tmp_path, scale):
    fast = RECIPES["fast"]
    ours = _bench(images, tmp_path / "ours", fast.by("opencv"))
    theirs = _bench(images, tmp_path / "theirs", fast.finer().by("colmap"))
    name = _names(images)[0]
    extract(
        Workbench(images, ours.folder, fast.finer() if scale == 2 else fast, 1),
        [CameraGroup([name])],
    )
    extract(theirs, [CameraGroup([name])])
    a, b = _keypoints(ours, name), _keypoints(theirs, name)
    miss = a[:, None] - b[None]
    nearest = miss[np.arange(len(a)), np.linalg.norm(miss, axis=-1).argmin(1)]
    same = nearest[np.linalg.norm(nearest, axis=1) < 1]
    assert len(same) > 0.5 * len(a) > 50
    assert (
        np.abs(np.median(same, 0)).max() < 0.03
    )  # a half-pixel convention would show as 0.25 and more


def test_matches_are_the_pixels_that_moved(images, tmp_path):
    bench = _bench(images, tmp_path / "bench", RECIPES["fast"])
    names = _names(images)
    extract(bench, [CameraGroup(names[:2])])
    extract_more(bench, names[2:])
    assert match(bench, ordered=True) == []
    with pycolmap.Database.open(bench.database) as database:
        ids = {str(image.name): image.image_id for image in database.read_all_images()}
        assert len(database.read_all_cameras()) == 1
        found = database.read_two_view_geometry(ids[names[0]], ids[names[1]]).inlier_matches
        assert len(found) > 50
        moved = _keypoints(bench, names[1])[found[:, 1]] - _keypoints(bench, names[0])[found[:, 0]]
        assert np.abs(moved - (6, 4)).max() < 3
        assert database.exists_matches(ids[names[0]], ids[names[2]])
        assert not database.exists_two_view_geometry(ids[names[0]], ids[names[2]])
    match(bench, ordered=True)  # pairs already there would be refused if they were written again


@pytest.mark.parametrize(("features", "lacks"), [("sift_gpu", "cuda"), ("aliked", "onnx")])
def test_what_pycolmap_lacks_is_refused_in_words(features, lacks):
    if getattr(probe(), lacks):
        pytest.skip(f"this pycolmap has {lacks}")
    with pytest.raises(SageError, match=f"built without {lacks.upper()}") as caught:
        recipe_of(ReconstructConfig(features=features))
    assert caught.value.reason is Reason.BAD_CONFIG


def test_a_second_try_is_finer_or_none():
    assert RECIPES["fast"].finer().scale == 2
    assert RECIPES["fast"].finer().finer() is None
    assert RECIPES["paper"].finer() is None
