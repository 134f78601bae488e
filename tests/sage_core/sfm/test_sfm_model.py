import numpy as np
import pycolmap
import pytest
from test_sfm_anchors import made_model

from sage_core.errors import SageError
from sage_core.sfm import read_model
from sage_core.sfm.model import frame_name, frame_of, write_model
from sage_core.types import Reason


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    model = made_model(7)
    folder = tmp_path_factory.mktemp("model") / "sparse" / "0"
    write_model(model, folder)
    return model, folder


def test_what_was_written_is_read(written):
    model, folder = written
    # k1 alone: reconstruct estimates SIMPLE_RADIAL.
    again = read_model(folder)
    np.testing.assert_allclose(again.xyz, model.xyz)
    np.testing.assert_array_equal(again.ids, model.ids)
    for ours, theirs in zip(model.frames, again.frames, strict=True):
        assert ours.frame == theirs.frame
        assert ours.camera == theirs.camera
        np.testing.assert_allclose(ours.cam_from_world, theirs.cam_from_world, atol=1e-12)
        np.testing.assert_allclose(ours.xy, theirs.xy)
        np.testing.assert_array_equal(ours.point, theirs.point)


def test_colmap_reads_the_same(written):
    model, folder = written
    colmap = pycolmap.Reconstruction(folder)
    assert colmap.num_reg_images() == len(model.frames)
    assert [colmap.image(i + 1).name for i in range(5)] == [frame_name(i) for i in range(5)]
    assert colmap.compute_num_observations() == sum(len(frame.xy) for frame in model.frames)
    third = colmap.image(3)
    np.testing.assert_allclose(third.cam_from_world().matrix(), model.frames[2].cam_from_world)
    assert model.ids[model.frames[2].point[4]] == third.points2D[4].point3D_id


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_files_cut_off_are_refused(written, tmp_path, name, share):
    _, folder = written
    for path in folder.iterdir():
        data = path.read_bytes()
        cut = data[: int(len(data) * share)] if path.name == name else data
        (tmp_path / path.name).write_bytes(cut)
    with pytest.raises(SageError, match="reconstruct the clip again") as caught:
        read_model(tmp_path)
    assert caught.value.reason is Reason.MISSING_INPUT


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(SageError, match="no readable COLMAP model"):
        read_model(tmp_path / "nowhere")


def test_names_sort_as_frames_do():
    frames = [0, 7, 99, 100, 12345]
    assert [frame_of(name) for name in sorted(map(frame_name, frames))] == frames
