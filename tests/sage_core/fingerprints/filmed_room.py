"""A walk through a room as grey pictures, five a second, and what people do to films they upload again."""

import cv2
import numpy as np
import torch

from sage_core.fingerprints import Recorder
from sage_core.world import build_scene, camera_path, pinhole, render_views

FPS, SECONDS, WIDTH, HEIGHT = 5, 14, 128, 96


def walk(seed, path_seed=0, motion="walkthrough"):
    """Grey pictures of a walk, uint8 [70, 96, 128]."""
    torch.set_num_threads(1)
    scene = build_scene(seed, "V")
    poses = camera_path(scene, motion, FPS * SECONDS, FPS, path_seed)
    K = np.broadcast_to(pinhole(60, HEIGHT, WIDTH), (len(poses), 3, 3))
    images, _ = render_views(scene, poses, K, HEIGHT, WIDTH)
    return np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])


def recorded(pictures, start_s=0.0, step_s=1 / FPS, bars=(0.0, 0.0, 0.0, 0.0)):
    recorder = Recorder()
    for number, picture in enumerate(pictures):
        recorder.add(start_s + number * step_s, picture, bars)
    return recorder.fingerprint()


def encoded(picture, quality=25):
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def cropped(picture, left, top, right, bottom):
    height, width = picture.shape
    return picture[
        round(top * height) : round((1 - bottom) * height),
        round(left * width) : round((1 - right) * width),
    ]
