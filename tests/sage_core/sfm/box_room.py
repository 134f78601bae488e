"""The inside of a textured box as pictures with exact poses: quick to render, hard to mistake."""

import cv2
import numpy as np

from sage_core.geometry import invert, pixel_centres
from sage_core.types import Clip

WIDTH, HEIGHT, FOCAL = 480, 360, 330.0
FPS = 10.0
HALF = np.array([3.0, 2.0, 3.0])
"""Half the box's extent in metres; it is centred on the origin."""


def walk(frames):
    """cam_from_world [F, 3, 4]: an arc past a corner of the box, looking into the corner's floor."""
    t = np.linspace(0, 1, frames)
    centre = np.stack([-1.0 + 2.6 * t, 0.3 * np.sin(4 * t), 1.4 - 2.4 * t], -1)
    return np.stack(
        [_look(c, np.array([2.8, 1.0, 2.6 - 0.6 * u])) for c, u in zip(centre, t, strict=True)]
    )


def turn(frames):
    """cam_from_world [F, 3, 4]: turning on the spot."""
    yaw = np.linspace(-0.5, 0.5, frames)
    return np.stack([_look(np.zeros(3), np.array([np.sin(a), 0.1, np.cos(a)])) for a in yaw])


def _look(centre, target):
    ahead = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross([0.0, 1.0, 0.0], ahead)
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(ahead, right), ahead])
    return np.concatenate([R, -(R @ centre)[:, None]], 1)


def photograph(folder, cam_from_world, seed=0, noise=2.0):
    """One PNG a frame into a new folder."""
    rng = np.random.default_rng(seed)
    walls = [_texture(rng) for _ in range(6)]
    folder.mkdir(parents=True)
    for index, pose in enumerate(cam_from_world):
        image = render(walls, pose) + rng.normal(0, noise, (HEIGHT, WIDTH))
        cv2.imwrite(str(folder / f"{index:04d}.png"), np.clip(image, 0, 255).astype(np.uint8))
    return folder


def render(walls, pose):
    """Grey float [H, W]: the wall that each pixel's ray leaves the box through."""
    world_from_cam = invert(pose)
    xy = (pixel_centres(WIDTH, HEIGHT) - (WIDTH / 2, HEIGHT / 2)) / FOCAL
    rays = np.concatenate([xy, np.ones((HEIGHT, WIDTH, 1))], -1) @ world_from_cam[:, :3].T
    centre = world_from_cam[:, 3]
    reach = (np.sign(rays) * HALF - centre) / np.where(rays == 0, 1e-12, rays)
    axis = reach.argmin(-1)
    hit = centre + rays * reach.min(-1)[..., None]
    image = np.zeros((HEIGHT, WIDTH), np.float32)
    for a in range(3):
        for side in (0, 1):
            seen = (axis == a) & ((rays[..., a] > 0) == bool(side))
            u, v = ((np.delete(hit, a, -1) / 3.0 + 1) * 500)[..., :2].transpose(2, 0, 1)
            wall = cv2.remap(
                walls[2 * a + side], u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR
            )
            image[seen] = wall[seen]
    return image


def _texture(rng):
    """Noise of several scales, so that there are features near and far: [1000, 1000]."""
    layers = [
        cv2.resize(
            rng.random((n, n)).astype(np.float32), (1000, 1000), interpolation=cv2.INTER_CUBIC
        )
        for n in (12, 30, 75, 190)
    ]
    mean = sum(layers) / len(layers)
    return np.clip((mean - 0.5) * 480 + 128, 0, 255).astype(np.float32)


def make_clip(frames, key_step, pose_step, item="v0123456789abcdef_000000_000060"):
    pose_frames = list(range(0, frames, pose_step))
    return Clip(
        item=item,
        video=item.partition("_")[0],
        start_frame=0,
        end_frame=frames,
        start_s=0.0,
        end_s=frames / FPS,
        fps=FPS,
        width=WIDTH,
        height=HEIGHT,
        key_frames=list(range(0, frames, key_step)),
        pose_frames=pose_frames,
        times_s=[frame / FPS for frame in pose_frames],
    )
