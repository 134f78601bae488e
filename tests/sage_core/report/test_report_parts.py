import base64
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_page import gliding_cameras

from sage_core.report import Curve, comparison, depth_range, embed, pack_scene, with_anchors
from sage_core.report.charts import HEIGHT, WIDTH, plot
from sage_core.report.figures import decisive, duration, holds, shown
from sage_core.report.metrics import lower_is_better
from sage_core.report.render import delta
from sage_core.report.scene import MAX_POINTS
from sage_core.types import Figure

K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])


def points_of(scene):
    raw = np.frombuffer(base64.b64decode(scene.points), "<u2").reshape(-1, 3)
    return raw / 65535 * 3.2 - 1.6


def path_of(scene):
    return np.frombuffer(base64.b64decode(scene.path), "<f4").reshape(-1, 3)


def packed(xyz, poses=None):
    rgb = np.zeros((len(xyz), 3), np.uint8)
    return pack_scene(xyz, rgb, gliding_cameras() if poses is None else poses, K, (320, 240))


def test_a_packed_scene_keeps_its_shape_and_stands_upright():
    rng = np.random.default_rng(1)
    xyz = rng.uniform((-1, -1, 3), (5, 1, 5), (500, 3))
    scene = packed(xyz)
    centres = np.stack([np.linspace(0, 4, 12), np.zeros(12), np.zeros(12)], 1)
    before, after = (
        np.concatenate([xyz, centres]),
        np.concatenate([points_of(scene), path_of(scene)]),
    )
    distances = np.linalg.norm(before[:, None] - before[None], axis=-1)
    found = np.linalg.norm(after[:, None] - after[None], axis=-1)
    scale = found.sum() / distances.sum()
    np.testing.assert_allclose(found, distances * scale, atol=2e-4)
    # OpenCV's y looks down, the viewer's z up; and it is no mirror image.
    np.testing.assert_allclose(
        after[:500, 2] - after[0, 2], -scale * (xyz[:, 1] - xyz[0, 1]), atol=2e-4
    )
    four = [0, 1, 2, 3]
    volume = [np.linalg.det(cloud[four][1:] - cloud[four][0]) for cloud in (before, after)]
    assert math.copysign(1, volume[0]) == math.copysign(1, volume[1])
    assert (scene.half_width, scene.half_height) == pytest.approx((160 / 300, 120 / 300))


def test_the_first_look_goes_where_the_cameras_look():
    scene = packed(np.random.default_rng(2).uniform((-1, -1, 3), (5, 1, 5), (50, 3)))
    frusta = np.frombuffer(base64.b64decode(scene.frusta), "<f4").reshape(-1, 12)
    np.testing.assert_allclose(
        frusta[0, 9:], [math.cos(scene.yaw), math.sin(scene.yaw), 0], atol=1e-6
    )


def test_far_outliers_neither_set_the_scale_nor_are_hidden():
    xyz = np.random.default_rng(3).uniform((-1, -1, 3), (5, 1, 5), (400, 3))
    plain = packed(xyz)
    stray = packed(np.concatenate([xyz, [[1e4, 0, 0], [0, -1e5, 0]]]))
    assert (stray.drawn, stray.far, stray.total) == (400, 2, 402)
    assert np.abs(points_of(stray)).max() > 0.5
    assert plain.far == 0


def test_scenes_are_thinned_and_may_be_tiny():
    many = packed(np.random.default_rng(4).uniform(-1, 1, (MAX_POINTS + 5000, 3)))
    assert many.drawn == MAX_POINTS
    assert many.total == MAX_POINTS + 5000
    none = packed(np.zeros((0, 3)), gliding_cameras(1))
    assert (none.drawn, none.cameras) == (0, 1)
    assert np.isfinite(path_of(none)).all()


@given(st.lists(st.floats(-1e12, 1e12) | st.just(float("nan")), min_size=1, max_size=60))
def test_any_curve_stays_inside_its_picture(values):
    drawn = plot(Curve("loss", list(range(len(values))), values))
    if drawn is None:
        assert all(math.isnan(v) for v in values)
        return
    for line in (drawn.raw, drawn.smooth):
        for point in line.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert -0.1 <= y <= HEIGHT
    assert all(0 <= t.at <= WIDTH for t in drawn.x_ticks)


def test_a_long_curve_is_thinned_but_keeps_its_extremes():
    values = [1.0] * 20_000
    values[777], values[15_001] = 9.0, -4.0
    drawn = plot(Curve("loss", list(range(20_000)), values))
    ys = [float(p.split(",")[1]) for p in drawn.raw.split()]
    assert len(ys) <= 410
    assert min(ys) < ys[0] < max(ys)


def test_rules_are_judged_as_the_stages_do():
    assert holds(Figure(5, 5, ">=")) is True
    assert holds(Figure(4.9, 5, ">=")) is False
    assert holds(Figure("nan", 5, ">=")) is False
    assert holds(Figure("inf", 5, "<=")) is False
    assert holds(Figure(True, True, "==")) is True
    assert holds(Figure(False, True, "==")) is False
    # Durations agree to some tolerance that only the stage knows.
    assert holds(Figure(33.333, 33.334, "==")) is None
    assert holds(Figure(5)) is None
    figures = {"a": Figure(1, 0, ">="), "b": Figure(1, 2, ">="), "c": Figure(3)}
    assert [name for name, _ in decisive(figures)] == ["b"]
    assert [name for name, _ in decisive({"a": figures["a"], "c": figures["c"]})] == ["a"]


def test_numbers_are_short():
    values = [None, True, 1234567, 0.123456, 33.3333, 1e-9, "nan", 12345.6, float("inf")]
    assert [shown(v) for v in values] == [
        "–", "yes", "1,234,567", "0.1235", "33.33", "1.00e-09", "nan", "12,346", "∞",
    ]  # fmt: skip
    assert [duration(s) for s in (0.04, 59.4, 59.6, 3599.6, 7260)] == [
        "0.0 s", "59 s", "1 min 00 s", "1 h 00 min", "2 h 01 min",
    ]  # fmt: skip


def test_better_and_worse_go_the_way_of_the_metric():
    mean = {
        "base": {"cd": 1.0, "target_psnr": 10.0, "dac@0.2": 0.5, "novel": 1.0, "nd": 2.0},
        "adapted": {"cd": 2.0, "target_psnr": 12.0, "dac@0.2": 0.25, "novel": 2.0, "nd": 2.0},
    }
    part = {"name": "n", "protocol": "p", "tuples": 3, "mean": mean, "better": {"cd": 0.0}}
    cells = {cell.metric: cell for cell in comparison(part).cells}
    assert [cells[m].better for m in mean["base"]] == [False, True, False, None, None]
    assert delta(cells["cd"]) == "+1 (+100 %) worse"
    assert delta(cells["target_psnr"]) == "+2 better"
    assert delta(cells["novel"]) == "+1"
    assert delta(cells["nd"]) == "none"
    assert cells["novel"].direction == ""


def test_directions_agree_with_the_evaluation():
    from sage_core.evaluation.compare import LOWER_IS_BETTER

    assert all(lower_is_better(metric) is True for metric in LOWER_IS_BETTER)
    higher = ["dac@0.5", "pixels_within_m@0.1", "rra15", "rta15", "maa30", "target_psnr"]
    assert all(lower_is_better(metric) is False for metric in higher)


def test_pictures_are_scaled_down_and_never_up():
    small = embed(np.zeros((30, 50, 3), np.uint8), alt="a")
    assert (small.width, small.height) == (50, 30)
    data = cv2.imencode(".jpg", np.full((300, 2000, 3), 200, np.uint8))[1].tobytes()
    large = embed(data, alt="a", max_side=500)
    assert (large.width, large.height) == (500, 75)
    for broken in (b"", b"no picture"):
        with pytest.raises(ValueError, match="no picture"):
            embed(broken, alt="a")


def test_anchors_are_red_when_near_and_blue_when_far():
    picture = np.full((100, 400, 3), 128, np.uint8)
    xy = np.array([[50.5, 50.5], [200.5, 50.5], [350.5, 50.5]])
    depth = np.array([1.0, 3.0, 9.0])
    drawn = with_anchors(picture, xy, depth, *depth_range(depth)).astype(int)
    near, middle, far = drawn[50, 50], drawn[50, 200], drawn[50, 350]
    assert near[0] > near[2] + 100
    assert far[2] > far[0] + 100
    assert middle[1] > max(middle[0], middle[2])
    assert (picture == 128).all()
    assert with_anchors(picture, xy[:0], depth[:0], 0.0, 0.0).shape == picture.shape
