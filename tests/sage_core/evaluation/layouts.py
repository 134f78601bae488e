"""A rendered room written to disk as each data set lays its files out, with exact truth."""

import json
import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from sage_core.geometry import invert
from sage_core.world import build_scene, camera_path, render_views

GL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Rendered:
    """Pictures [N, H, W, 3], depth [N, H, W] m, K (+0.5 rule), cam_from_world [N, 3, 4]."""

    images: np.ndarray
    depth: np.ndarray
    K: np.ndarray
    poses: np.ndarray

    @property
    def world_from_cam(self):
        pose = np.tile(np.eye(4), (len(self.poses), 1, 1))
        pose[:, :3] = invert(self.poses)
        return pose


def rendered(frames, K, height, width, seed=4, step_m=2.0):
    scene = build_scene(seed, "V")
    poses = camera_path(scene, "walkthrough", frames, step_m, 0)
    K = np.asarray(K, float)
    images, depth = render_views(scene, poses, np.repeat(K[None], frames, 0), height, width)
    return Rendered(images, depth, K, poses)


def picture(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def depth_picture(path, depth, per_metre):
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.round(depth.astype(np.float64) * per_metre)
    assert cv2.imwrite(str(path), np.where(steps < 65535, steps, 0).astype(np.uint16))


def words(matrix):
    return " ".join(f"{x:.9g}" for x in np.asarray(matrix).ravel())


def seven_scenes(root, r, name="chess/seq-03", depth_name="depth", own_camera=True):
    folder = root / name
    for i in range(len(r.images)):
        picture(folder / f"frame-{i:06d}.color.png", r.images[i])
        depth_picture(folder / f"frame-{i:06d}.{depth_name}.png", r.depth[i], 1000)
        np.savetxt(folder / f"frame-{i:06d}.pose.txt", r.world_from_cam[i])
    if own_camera:
        np.savetxt(folder.parent / "camera-intrinsics.txt", r.K)
    return folder


def tum(root, r, name="rgbd_dataset_freiburg3_room", clock=0.004):
    folder = root / name
    lists = {"rgb": [], "depth": [], "groundtruth": ["# ground truth"]}
    for i in range(len(r.images)):
        time = 100 + i / 30
        picture(folder / f"rgb/{time:.6f}.png", r.images[i])
        depth_picture(folder / f"depth/{time + clock:.6f}.png", r.depth[i], 5000)
        lists["rgb"].append(f"{time:.6f} rgb/{time:.6f}.png")
        lists["depth"].append(f"{time + clock:.6f} depth/{time + clock:.6f}.png")
        pose = r.world_from_cam[i]
        lists["groundtruth"].append(f"{time - clock:.6f} {words(pose[:3, 3])} {words(_xyzw(pose))}")
    for kind, lines in lists.items():
        (folder / f"{kind}.txt").write_text("\n".join(lines) + "\n")
    return folder


def _xyzw(pose):
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(pose[:3, :3]).as_quat()


def scannet(root, r, name="scene0000_00"):
    folder = root / name
    height, width = r.depth.shape[1:]
    for i in range(len(r.images)):
        image = cv2.resize(r.images[i], (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
        picture(folder / f"color/{i}.jpg", image)
        depth_picture(folder / f"depth/{i}.png", r.depth[i], 1000)
        (folder / "pose").mkdir(exist_ok=True)
        np.savetxt(folder / f"pose/{i}.txt", r.world_from_cam[i])
    (folder / "intrinsic").mkdir()
    np.savetxt(folder / "intrinsic/intrinsic_depth.txt", _from_0(r.K, 4))
    return folder


def _from_0(K, size=3):
    """K with pixel centres counted from 0, in a matrix of that size."""
    out = np.eye(size)
    out[:3, :3] = K
    out[:2, 2] -= 0.5
    return out


def sens(path, r):
    height, width = r.depth.shape[1:]
    eye, K = np.eye(4, dtype="<f4"), _from_0(r.K, 4).astype("<f4")
    parts = [struct.pack("<IQ", 4, 6) + b"sensor", *(m.tobytes() for m in (K, eye, K, eye))]
    parts.append(struct.pack("<iiIIIIfQ", 2, 1, width, height, width, height, 1000, len(r.images)))
    for i in range(len(r.images)):
        jpeg = cv2.imencode(".jpg", r.images[i][..., ::-1])[1].tobytes()
        packed = zlib.compress(np.round(r.depth[i] * 1000).astype("<u2").tobytes())
        parts.append(r.world_from_cam[i].astype("<f4").tobytes())
        parts.append(struct.pack("<QQQQ", 0, 0, len(jpeg), len(packed)) + jpeg + packed)
    path.write_bytes(b"".join(parts))
    return path


def matterport(root, r, name="17DRP5sb8fy", from_bottom=True):
    folder = root / name
    height = r.depth.shape[1]
    K = _from_0(r.K)
    if from_bottom:
        K[1, 2] = height - 1 - K[1, 2]
    lines = ["dataset matterport", f"n_images {len(r.images)}", f"intrinsics_matrix {words(K)}"]
    for i in range(len(r.images)):
        picture(folder / f"undistorted_color_images/a_i0_{i}.jpg", r.images[i])
        depth_picture(folder / f"undistorted_depth_images/a_d0_{i}.png", r.depth[i], 4000)
        lines.append(f"scan a_d0_{i}.png a_i0_{i}.jpg {words(r.world_from_cam[i] @ GL)}")
    conf = folder / f"undistorted_camera_parameters/{name}.conf"
    conf.parent.mkdir()
    conf.write_text("\n".join(lines) + "\n")
    return folder


def uasol(root, r, name="walk"):
    folder = root / name
    entries = []
    for i in range(len(r.images)):
        picture(folder / f"Images/left{i}.png", r.images[i])
        depth_picture(folder / f"Images/depth{i}.png", r.depth[i], 1000)
        pose = r.world_from_cam[i].copy()
        pose[:3, 3] *= 1000
        entries.append(
            {"color_frame_left": f"left{i}", "depth_frame": f"depth{i}", "m": pose.tolist()}
        )
    (folder / "complete.json").write_text(json.dumps({"Data": entries}))
    K = _from_0(r.K)
    (folder / "log.txt").write_text(
        "RIGHT CAMERA PARAMETERS\nFocal length in pixels alog x axis: 1.\n"
        "LEFT CAMERA PARAMETERS\nResolution: [160, 120].\n"
        f"Focal length in pixels alog x axis: {K[0, 0]}.\nFocal length in pixels alog y axis: {K[1, 1]}.\n"
        f"Optical center along x axis, defined in pixels: {K[0, 2]}.\n"
        f"Optical center along y axis, defined in pixels: {K[1, 2]}.\n"
    )
    return folder


def neural_rgbd(root, r, name="whiteroom", lost=()):
    folder = root / name
    lines = []
    for i in range(len(r.images)):
        picture(folder / f"images/img{i}.png", r.images[i])
        depth_picture(folder / f"depth/depth{i}.png", r.depth[i], 1000)
        pose = np.full((4, 4), np.nan) if i in lost else r.world_from_cam[i] @ GL
        lines += [words(row) for row in pose]
    (folder / "poses.txt").write_text("\n".join(lines) + "\n")
    (folder / "focal.txt").write_text(f"{r.K[0, 0]}\n")
    return folder
