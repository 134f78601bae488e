"""Small films of known scenes, encoded for real; each is made once per session, when first asked for."""

import subprocess
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from sage_core.config.curate import CurateConfig

WIDTH, HEIGHT, FPS, SECONDS = 320, 240, 30, 4
FRAMES = FPS * SECONDS
DEPTHS = (1.0, 3.2, 1.7, 4.0, 2.4, 1.3)


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """Blobs of several sizes, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cell in (4, 9, 24):
        coarse = rng.random((height // cell + 2, width // cell + 2, 3), np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = total.min(), total.max()
    return ((total - low) / (high - low) * 235 + 10).astype(np.uint8)


def travelling(seed: int = 0, frames: int = FRAMES, speed: float = 0.6) -> Iterator[np.ndarray]:
    """A camera that slides sideways past strips at depths that no plane explains."""
    strip = HEIGHT // len(DEPTHS)
    wide = [texture(seed * 31 + i, strip, WIDTH + 700) for i in range(len(DEPTHS))]
    for t in range(frames):
        shifts = [cv2.warpAffine(w, np.float32([[1, 0, -t * speed * d], [0, 1, 0]]), (WIDTH, strip))
                  for w, d in zip(wide, DEPTHS, strict=True)]  # fmt: skip
        yield np.vstack(shifts)


def panning(frames: int = FRAMES) -> Iterator[np.ndarray]:
    """A camera that turns on the spot: K R K^-1 of one far picture."""
    wide = texture(5, 700, 1400)
    f = 0.85 * WIDTH
    K = np.array([[f, 0, WIDTH / 2], [0, f, HEIGHT / 2], [0, 0, 1]])
    onto = np.array([[1, 0, 700.0], [0, 1, 350.0], [0, 0, 1]])
    for t in range(frames):
        a = np.radians(-30 + 60 * t / frames)
        R = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        far = onto @ np.diag([f, f, 1.0])
        view = far @ R @ np.linalg.inv(K)
        yield cv2.warpPerspective(wide, np.linalg.inv(view), (WIDTH, HEIGHT))


def still() -> Iterator[np.ndarray]:
    """A tripod with a noisy sensor."""
    rng = np.random.default_rng(0)
    picture = texture(6, HEIGHT, WIDTH).astype(np.int16)
    for _ in range(FRAMES):
        noise = rng.integers(-4, 5, picture.shape)
        yield np.clip(picture + noise, 0, 255).astype(np.uint8)


def swarming() -> Iterator[np.ndarray]:
    """Many things that each move their own way in front of a sliding camera."""
    rng = np.random.default_rng(1)
    size = 60
    grid = [(x + int(rng.integers(30)), y + int(rng.integers(30)))
            for y in range(0, HEIGHT, 48) for x in range(0, WIDTH, 48)]  # fmt: skip
    things = [texture(100 + i, 400, 400) for i in range(len(grid))]
    ways = rng.normal(size=(len(grid), 2))
    ways = (
        ways / np.linalg.norm(ways, axis=1, keepdims=True) * rng.uniform(0.5, 1.3, (len(grid), 1))
    )
    for t in range(FRAMES):
        frame = np.zeros((HEIGHT + 2 * size, WIDTH + 2 * size, 3), np.uint8)
        for (x, y), thing, way in zip(grid, things, ways, strict=True):
            a, b = (200 - size / 2 + way * t).tolist()
            shift = np.float32([[1, 0, -a], [0, 1, -b]])
            frame[y : y + size, x : x + size] = cv2.warpAffine(thing, shift, (size, size))
        yield frame[:HEIGHT, :WIDTH]


def slides() -> Iterator[np.ndarray]:
    for page in range(4):
        picture = texture(20 + page, HEIGHT, WIDTH)
        yield from (picture for _ in range(FPS))


def cards() -> Iterator[np.ndarray]:
    """Text that scrolls over a plain ground."""
    for t in range(FRAMES):
        frame = np.full((HEIGHT, WIDTH, 3), 230, np.uint8)
        for line in range(12):
            y = int(40 * line + 60 - 2 * t)
            cv2.putText(
                frame, "to be read", (40, y), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (20, 20, 20), 2
            )
        yield frame


def lettered() -> Iterator[np.ndarray]:
    """White words on black that stand still, as before a video about something else."""
    frame = np.full((HEIGHT, WIDTH, 3), 12, np.uint8)
    for line, text in enumerate(("FIVE THINGS", "THAT NOBODY", "KNOWS")):
        at = (40, 80 + 50 * line)
        cv2.putText(frame, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.1, (240,) * 3, 2, cv2.LINE_AA)
    yield from (frame for _ in range(FRAMES))


def desktop() -> Iterator[np.ndarray]:
    """Two windows with lines of code that scroll, a bar of buttons, a pointer."""
    for t in range(FRAMES):
        frame = np.full((HEIGHT, WIDTH, 3), (58, 110, 165), np.uint8)
        _code(frame, (12, 12, 190, 180), t // 10)
        _code(frame, (130, 70, 170, 130), t // 7 + 100)
        frame[-18:] = 30
        for button in range(7):
            cv2.rectangle(
                frame, (6 + 24 * button, 225), (22 + 24 * button, 236), (90, 150, 170), -1
            )
        x, y = int(150 + 90 * np.sin(t / 20)), int(110 + 60 * np.cos(t / 16))
        cv2.fillPoly(frame, [np.array([[x, y], [x + 9, y + 9], [x, y + 13]])], (0, 0, 0))
        yield frame


def _code(frame: np.ndarray, box: tuple[int, int, int, int], scrolled: int) -> None:
    left, top, width, height = box
    cv2.rectangle(frame, (left, top), (left + width, top + height), (250,) * 3, -1)
    cv2.rectangle(frame, (left, top), (left + width, top + 12), (60,) * 3, -1)
    cv2.rectangle(frame, (left, top), (left + width, top + height), (40,) * 3, 1)
    for line in range((height - 24) // 12):
        rng = np.random.default_rng(line + scrolled)
        words = "def " + "".join(
            rng.choice(list("abcdefgh_(). "), int(rng.integers(4, width // 9)))
        )
        at, ink = (left + 6, top + 26 + 12 * line), rng.integers(0, 150, 3).tolist()
        cv2.putText(frame, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.3, ink, 1, cv2.LINE_AA)


def cartoon() -> Iterator[np.ndarray]:
    """Trees with outlines in three layers, past which the camera slides."""
    rng = np.random.default_rng(3)
    trees = [(layer, i, *rng.integers((30, 60, 60, 60), (55, 230, 230, 230)).tolist())
             for layer in range(3) for i in range(8)]  # fmt: skip
    for t in range(FRAMES):
        frame = np.full((HEIGHT, WIDTH, 3), (120, 190, 240), np.uint8)
        for layer, i, radius, *colour in trees:
            x, y = int(90 * i - (0.5, 1.2, 2.4)[layer] * t), (100, 150, 200)[layer]
            cv2.rectangle(frame, (x - 6, y), (x + 6, y + 60), (100, 70, 40), -1)
            cv2.circle(frame, (x, y), radius, colour, -1, cv2.LINE_AA)
            cv2.circle(frame, (x, y), radius, (20,) * 3, 2, cv2.LINE_AA)
        yield frame


def split() -> Iterator[np.ndarray]:
    """Two films side by side."""
    half = WIDTH // 2
    for one, other in zip(sliding(11, FRAMES, 0.6), sliding(12, FRAMES, -0.5), strict=True):
        yield np.hstack([one[:, :half], other[:, :half]])


def zoomed() -> Iterator[np.ndarray]:
    """Four photographs, each slowly zoomed into."""
    for number in range(4):
        photo = leaves(50 + number, 2 * HEIGHT, 2 * WIDTH)
        for t in range(45):
            scale = 0.5 * (1 + 0.004 * t)
            onto = np.float32(
                [[scale, 0, WIDTH * (0.5 - scale)], [0, scale, HEIGHT * (0.5 - scale)]]
            )
            yield cv2.warpAffine(photo, onto, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)


def quartered() -> Iterator[np.ndarray]:
    """Four films at once, as of a door with cameras."""
    ways = (0.6, -0.5, 0.4, -0.7)
    films = [sliding(13 + n, FRAMES, way) for n, way in enumerate(ways)]
    for a, b, c, d in zip(*films, strict=True):
        tiles = [cv2.resize(one, (WIDTH // 2, HEIGHT // 2)) for one in (a, b, c, d)]
        yield np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


def melted() -> Iterator[np.ndarray]:
    """Four photographs at rest, each dissolving into the next."""
    photos = [leaves(60 + page, HEIGHT, WIDTH) for page in range(4)]
    for page, photo in enumerate(photos):
        yield from (photo for _ in range(FPS))
        for t in range(FPS // 2 if page < 3 else 0):
            share = (t + 0.5) / (FPS // 2)
            yield cv2.addWeighted(photo, 1 - share, photos[page + 1], share, 0)


def approached() -> Iterator[np.ndarray]:
    """One photograph, zoomed into all the time."""
    photo = leaves(70, 2 * HEIGHT, 2 * WIDTH)
    for t in range(FRAMES):
        scale = 0.5 * 1.004**t
        onto = np.float32([[scale, 0, WIDTH * (0.5 - scale)], [0, scale, HEIGHT * (0.5 - scale)]])
        yield cv2.warpAffine(photo, onto, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)


def two_shots() -> Iterator[np.ndarray]:
    yield from travelling(1, FRAMES // 2 + 15)
    yield from travelling(2, FRAMES // 2 + 15)


def leaves(seed: int, height: int, width: int) -> np.ndarray:
    """Grainy discs of many sizes, one over the other: contrast as in photographs, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.uint8)
    for _ in range(1500):
        radius = int(min(120, 6 * rng.pareto(1.5) + 4))
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(picture, centre, radius, rng.integers(10, 245, 3).tolist(), -1)
    grain = (texture(seed, height, width).astype(np.float32) - 128) * 0.3
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.7) + grain, 0, 255).astype(np.uint8)


def sliding(seed: int, frames: int, speed: float) -> Iterator[np.ndarray]:
    wide = leaves(seed, HEIGHT, WIDTH + 200)
    for t in range(frames):
        shift = np.float32([[1, 0, -speed * t - 100], [0, 1, 0]])
        yield cv2.warpAffine(wide, shift, (WIDTH, HEIGHT))


def joined(mix) -> Iterator[np.ndarray]:
    """Two shots of 90 frames, frames 80 to 100 made of both by ``mix(a, b, share)``."""
    first, second = (list(sliding(seed, 100, way)) for seed, way in ((41, 0.4), (42, -0.4)))
    yield from first[:80]
    for t in range(20):
        yield mix(first[80 + t], second[t], (t + 0.5) / 20)
    yield from second[20:]


def dissolved() -> Iterator[np.ndarray]:
    yield from joined(lambda a, b, share: cv2.addWeighted(a, 1 - share, b, share, 0))


def wiped() -> Iterator[np.ndarray]:
    def mix(a, b, share):
        edge = round(share * WIDTH)
        return np.hstack([b[:, :edge], a[:, edge:]])

    yield from joined(mix)


def whipped() -> Iterator[np.ndarray]:
    """A slide with two fast turns, by a whole picture in eight frames each."""
    wide = texture(9, HEIGHT, 3 * WIDTH + 200)
    at = 0.0
    for t in range(FRAMES):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        speed = 40.0 if 40 <= t < 48 or 80 <= t < 88 else 0.5
        for part in range(4):  # the shutter is open all the time
            begin = round(at + speed * part / 4)
            frame += wide[:, begin : begin + WIDTH]
        at += speed
        yield (frame / 4).astype(np.uint8)


def faded() -> Iterator[np.ndarray]:
    """Black for 10 frames, then brighter for 24, then as it is."""
    for t, frame in enumerate(travelling(3, FRAMES + 34)):
        yield (frame * min(1.0, max(0.0, (t - 10) / 24))).astype(np.uint8)


def flashed() -> Iterator[np.ndarray]:
    """Two white frames in the middle, between two steps of the tracker."""
    for t, frame in enumerate(travelling(4)):
        yield np.full_like(frame, 250) if t in (62, 63) else frame


def struck() -> Iterator[np.ndarray]:
    """A white frame that the tracker meets: it looks at every sixth."""
    for t, frame in enumerate(sliding(4, FRAMES, 0.6)):
        yield np.full_like(frame, 250) if t == 60 else frame


def strobed() -> Iterator[np.ndarray]:
    """Flashes of one, two and three frames."""
    for t, frame in enumerate(travelling(5)):
        yield np.full_like(frame, 252) if t in (25, 56, 57, 88, 89, 90) else frame


def led_in() -> Iterator[np.ndarray]:
    """Black for 40 frames, then at once a shot of 90, then black for 20."""
    rng = np.random.default_rng(2)
    shot = list(travelling(8, 90))
    for t in range(150):
        black = rng.integers(0, 3, (HEIGHT, WIDTH, 3), np.uint8)
        yield shot[t - 40] if 40 <= t < 130 else black


def boxed() -> Iterator[np.ndarray]:
    for frame in travelling(0):
        inner = cv2.resize(frame, (WIDTH, HEIGHT - 60), interpolation=cv2.INTER_AREA)
        yield cv2.copyMakeBorder(inner, 30, 30, 0, 0, cv2.BORDER_CONSTANT)


def single() -> Iterator[np.ndarray]:
    yield texture(0, HEIGHT, WIDTH)


def dark() -> Iterator[np.ndarray]:
    """A lens with its cap on."""
    rng = np.random.default_rng(8)
    for _ in range(FRAMES):
        yield rng.integers(0, 5, (HEIGHT, WIDTH, 3), np.uint8)


def swaying() -> Iterator[np.ndarray]:
    """Sideways, so slowly that a second shows little."""
    yield from travelling(7, 4 * FRAMES, 0.1)


MAKERS: dict[str, Callable[[], Iterator[np.ndarray]]] = {
    maker.__name__: maker
    for maker in (
        travelling, panning, still, swarming, slides, cards, two_shots, faded, flashed, boxed, single, struck,
        dissolved, wiped, whipped, lettered, desktop, cartoon, split, zoomed, dark, swaying, strobed, led_in,
        quartered, melted, approached,
    )
}  # fmt: skip


def encode(frames: Iterator[np.ndarray], path: Path, *filters: str) -> Path:
    import imageio_ffmpeg

    data = b"".join(np.ascontiguousarray(frame).tobytes() for frame in frames)
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-",
        *filters, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-crf", "18",
        str(path),
    ]  # fmt: skip
    subprocess.run(command, input=data, check=True)
    return path


@pytest.fixture(scope="session")
def film(tmp_path_factory) -> Callable[[str], Path]:
    """``film(name)`` is the mp4 of that name; ``varied`` and ``varied_cut`` have variable rates."""
    folder = tmp_path_factory.mktemp("films")

    def make(name: str) -> Path:
        path = folder / f"{name}.mp4"
        if path.exists():
            return path
        if name == "varied":
            slower = "setpts='if(lt(N,60),N,60+(N-60)*2)/30/TB'"
            return encode(travelling(0), path, "-vf", slower, "-fps_mode", "vfr")
        if name == "varied_cut":
            thinner = "select='lt(mod(n,30),15)+not(mod(n,3))'"
            return encode(two_shots(), path, "-vf", thinner, "-fps_mode", "vfr")
        return encode(MAKERS[name](), path)

    return make


@pytest.fixture(scope="session")
def long_film(tmp_path_factory) -> Callable[[str], Path]:
    """The same films, over and over for 16 s, with a key frame every two seconds."""
    folder = tmp_path_factory.mktemp("long_films")

    def make(name: str) -> Path:
        path = folder / f"{name}.mp4"
        if not path.exists():
            frames = islice(cycle(MAKERS[name]()), 4 * FRAMES)
            encode(frames, path, "-g", "60", "-keyint_min", "60", "-sc_threshold", "0")
        return path

    return make


@pytest.fixture(scope="session")
def config() -> CurateConfig:
    """Thresholds for films of four seconds and a few hundred pixels."""
    return CurateConfig(min_duration_s=2, min_clip_s=2, max_clip_s=10, min_short_side_px=120)
