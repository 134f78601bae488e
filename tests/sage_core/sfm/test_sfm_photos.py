import cv2
import numpy as np
import pycolmap

from sage_core.sfm.model import frame_name
from sage_core.sfm.photos import camera_groups


def test_photos_of_one_size_share_a_camera(tmp_path):
    for index, (height, width) in enumerate([(60, 80), (80, 60), (60, 80)]):
        for folder in ("photos", "images"):
            (tmp_path / folder).mkdir(exist_ok=True)
            name = f"{index}.png" if folder == "photos" else frame_name(index)
            cv2.imwrite(str(tmp_path / folder / name), np.zeros((height, width, 3), np.uint8))
    groups = camera_groups(tmp_path / "photos", [0, 1, 2], tmp_path / "images")
    assert [group.names for group in groups] == [[frame_name(1)], [frame_name(0), frame_name(2)]]
    assert [group.prior for group in groups] == ["", ""]


def test_focal_length_of_exif_is_scaled_to_the_image(tmp_path):
    for folder, shape in (("photos", (120, 160, 3)), ("images", (60, 80, 3))):
        (tmp_path / folder).mkdir()
        name = "a.jpg" if folder == "photos" else frame_name(0)
        cv2.imwrite(str(tmp_path / folder / name), np.zeros(shape, np.uint8))
    _add_focal_length_35mm(tmp_path / "photos" / "a.jpg", 36)
    assert pycolmap.infer_camera_from_image(tmp_path / "photos" / "a.jpg").has_prior_focal_length
    (group,) = camera_groups(tmp_path / "photos", [0], tmp_path / "images")
    focal, cx, cy, k = map(float, group.prior.split(","))
    # Film measures 36 mm across, or 43 mm from corner to corner; the image 80 or 100 pixels.
    assert 70 < focal < 90
    assert (cx, cy, k) == (40, 30, 0)


def _add_focal_length_35mm(path, focal_mm):
    """Put an EXIF block with FocalLengthIn35mmFilm (tag 0xA405) behind the JPEG's first marker."""
    entry = (0xA405).to_bytes(2, "big") + b"\0\3\0\0\0\1" + focal_mm.to_bytes(2, "big") + b"\0\0"
    exif_ifd = b"\0\1" + entry + b"\0\0\0\0"
    pointer = (0x8769).to_bytes(2, "big") + b"\0\4\0\0\0\1" + (26).to_bytes(4, "big")
    tiff = b"MM\0\x2a\0\0\0\x08" + b"\0\1" + pointer + b"\0\0\0\0" + exif_ifd
    block = b"Exif\0\0" + tiff
    data = path.read_bytes()
    path.write_bytes(
        data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    )
