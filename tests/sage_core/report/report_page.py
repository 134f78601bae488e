"""A report with something in every section, and what a page's HTML holds."""

from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser

import numpy as np

from sage_core.report import (
    Curve,
    Evaluation,
    Fact,
    Gallery,
    Item,
    Report,
    Run,
    SceneCard,
    Settings,
    StageRow,
    Step,
    comparison,
    embed,
    pack_scene,
)
from sage_core.types import Figure

VOID = {"meta", "img", "link", "input", "br", "hr", "base", "line", "polyline"}


def gliding_cameras(n=12):
    poses = np.zeros((n, 3, 4))
    poses[:, :, :3] = np.eye(3)
    poses[:, 0, 3] = -np.linspace(0, 4, n)
    return poses


def scene(points=300):
    rng = np.random.default_rng(0)
    xyz = rng.uniform((-1, -1, 3), (5, 1, 5), (points, 3))
    K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    return pack_scene(
        xyz, rng.integers(0, 255, (points, 3), np.uint8), gliding_cameras(), K, (320, 240)
    )


def full_report():
    grey = np.full((40, 60, 3), 90, np.uint8)
    short = Figure(9.0, 10.0, ">=")
    steps = [
        Step("acquire", "accepted", None, "", {"bytes": Figure(1234567)}, 1, 0.5),
        Step("curate", "rejected", "duration", "lasts 9 s", {"duration_s": short}, 2, 3.0),
    ]
    broken = Step("reconstruct", "failed", "crashed", "died", {}, 3, 61.0, retryable=True)
    part = {
        "name": "kitchen",
        "protocol": "kitchen/8x224px",
        "tuples": 50,
        "mean": {"base": {"cd": 0.5, "dac@0.2": 0.25}, "adapted": {"cd": 0.25, "dac@0.2": 0.125}},
        "better": {"cd": 0.875, "dac@0.2": 0.0},
    }
    return Report(
        workspace="night",
        made="1 May 2030, 02:00 UTC",
        versions={"SAGE": "9.9"},
        headline=[Fact("frames in shards", "4,321", "so far")],
        stages=[
            StageRow(
                "curate",
                "video",
                {"accepted": 3, "rejected": 17, "failed": 0},
                {"duration": 17},
                75.0,
            )
        ],
        settings=[Settings("curate", ["0123456789abcdef"], ["9.9"])],
        items=[
            Item("v1", "A walk", "https://example.org/watch?v=1", "video", steps),
            Item("v1_0_9", "0.0–9.0 s", "https://example.org/watch?v=1", "clip", [broken], "v1"),
        ],
        items_left_out=7,
        sheets=Gallery([embed(grey, alt="sheet", caption="A walk", mark="rejected")], left_out=2),
        scenes=[
            SceneCard(
                "v1_0_9", "A walk, 0.0–9.0 s", scene(), [Fact("size", "320×240")],
                {"points": Figure(300, 100, ">=")}, [embed(grey, alt="frame", caption="frame 3")], 1.5, 6.5,
            ),
            SceneCard("v2_0_9", "Gone", problem="the shard is not there"),
        ],
        runs=[
            Run(
                "r1", "accepted", "done", [Curve("anchor", [0, 1, 2], [3.0, 2.0, 1.0])],
                Curve("learning rate", [0, 1, 2], [1e-5, 2e-5, 1e-6]), [Fact("steps", "3")],
            )
        ],
        evaluations=[
            Evaluation(
                "r1", {"base": "mini", "adapted": "runs/r1/model.safetensors"}, [comparison(part)],
                Gallery([embed(grey, alt="renders", caption="a target view")]),
            ),
            Evaluation("r2", {}, [], problem="failed (no_data): nothing to evaluate on"),
        ],
        notes=["A sheet is missing"],
    )  # fmt: skip


def filled_with(value, text):
    """The same report with every string that comes from outside replaced."""
    fixed = {"verdict", "stage", "mark", "points", "colours", "path", "frusta", "direction"}
    if isinstance(value, str):
        return text
    if isinstance(value, list | tuple):
        return [filled_with(one, text) for one in value]
    if isinstance(value, dict):
        verdicts = {"accepted", "rejected", "failed"}
        return {
            key if key in verdicts else f"{text}{place}": filled_with(one, text)
            for place, (key, one) in enumerate(value.items())
        }
    if is_dataclass(value):
        names = [f.name for f in fields(value) if f.init and f.name not in fixed]
        return replace(value, **{name: filled_with(getattr(value, name), text) for name in names})
    return value


class Page(HTMLParser):
    """Elements with their attributes, in order; the texts of scripts and styles; visible text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.styles, self.text = [], [], [], []
        self.open = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data):
        where = self.open[-1] if self.open else ""
        kinds = {"script": self.scripts, "style": self.styles}
        kinds.get(where, self.text).append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def shape(self):
        """Tags, and names of attributes."""
        return [(tag, tuple(attrs)) for tag, attrs in self.elements]
