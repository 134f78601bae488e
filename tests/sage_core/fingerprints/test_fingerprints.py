"""Copies of a walk are found however they were edited; other walks are not."""

import cv2
import numpy as np
import pytest
from filmed_room import FPS, HEIGHT, WIDTH, cropped, encoded, recorded, walk
from hypothesis import given
from hypothesis import strategies as st

from sage_core.config.duplicates import DuplicatesConfig
from sage_core.errors import MediaError
from sage_core.fingerprints import (
    CROPS,
    Fingerprint,
    HashIndex,
    Recorder,
    crop_hashes,
    distance,
    find_links,
    mirrored,
    picture_hash,
    small,
)

CONFIG = DuplicatesConfig()


def only_link(one, other):
    (link,) = find_links([one, other], CONFIG)
    return link


@pytest.mark.parametrize(
    ("edit", "flipped"),
    [
        (lambda p: encoded(p, 12), False),
        (lambda p: cv2.resize(p, (80, 60)), False),
        (lambda p: cv2.resize(p, (128, 128)), False),
        (lambda p: cropped(p, 0.15, 0.15, 0.15, 0.15), False),
        (lambda p: cropped(p, 0, 0, 0, 0.14), False),
        (lambda p: cropped(p, 0.11, 0.05, 0.03, 0.08), False),
        (lambda p: encoded(cropped(p[:, ::-1], 0.1, 0.1, 0.1, 0.1)), True),
        (lambda p: np.clip(0.8 * p + 30, 0, 255).astype(np.uint8), False),
    ],
    ids=["recoded", "smaller", "stretched", "crop", "bottom", "uneven", "mirror", "brighter"],
)
def test_an_edited_copy_is_linked_over_its_whole_length(room, edit, flipped):
    link = only_link(recorded(room), recorded([edit(p) for p in room]))
    assert link.mirrored is flipped
    assert link.rate * 7 + link.offset_s == pytest.approx(7, abs=0.3)
    assert link.rate == pytest.approx(1, abs=0.04)
    ((start, end),) = link.spans_first
    assert start <= 2
    assert end >= len(room) / FPS - 2


def test_an_intro_gives_the_offset_and_spans_of_both(room, other_room):
    copy = [*other_room[:25], *map(encoded, room[10:60]), *other_room[25:40]]
    link = only_link(recorded(room), recorded(copy))
    assert link.offset_s == pytest.approx(3, abs=0.4)
    assert link.spans_first[0] == pytest.approx((2, 12), abs=1.2)
    assert link.spans_second[0] == pytest.approx((5, 15), abs=1.2)
    back = link.turned()
    assert back.turned() == link
    assert (back.first, back.spans_first, back.offset_s) == (1, link.spans_second, -link.offset_s)


@pytest.mark.parametrize("rate", [0.85, 1.06, 1.2])
def test_a_faster_or_slower_copy_is_linked_with_its_rate(room, rate):
    link = only_link(recorded(room), recorded(room, start_s=4, step_s=rate / FPS))
    assert link.rate == pytest.approx(rate, rel=0.04)
    ((start, end),) = link.spans_first
    assert end - start > 10


def test_the_same_pair_is_found_from_either_side(room):
    crop = [cropped(p, 0.15, 0.1, 0.0, 0.1) for p in room]
    one, other = (
        only_link(recorded(room), recorded(crop)),
        only_link(recorded(crop), recorded(room)),
    )
    assert other.turned().spans_first[0] == pytest.approx(one.spans_first[0], abs=1)
    assert (one.cropped, other.cropped) == ("second", "first")
    assert one.crop == pytest.approx((0.15, 0.1, 0, 0.1), abs=0.04)


def test_a_letterbox_that_stays_is_looked_through(room):
    boxed = [cv2.copyMakeBorder(p, 16, 16, 0, 0, cv2.BORDER_CONSTANT) for p in room]
    bars = (0.0, 0.125, 0.0, 0.125)
    link = only_link(recorded(room), recorded(boxed, bars=bars))
    assert link.crop == (0, 0, 0, 0)
    assert link.distance < 3


def test_other_walks_other_rooms_and_the_rest_of_a_walk_are_not_linked(room, other_room):
    clips = [
        recorded(room[:35]),
        recorded(room[35:]),
        recorded(other_room),
        recorded(walk(31, 1)),
        recorded(walk(31, 0, "orbit")),
        recorded(walk(33)),
    ]
    assert find_links(clips, CONFIG) == []


def test_dark_blank_and_still_pictures_link_nothing(room):
    rng = np.random.default_rng(0)
    dark = [(p // 60).astype(np.uint8) for p in room]
    noise = [rng.integers(0, 4, (HEIGHT, WIDTH)).astype(np.uint8) for _ in room]
    assert [len(recorded(film)) for film in (dark, noise)] == [0, 0]
    still = recorded([room[20]] * 70)
    assert len(still) == 70
    assert find_links([recorded(dark), recorded(noise), still, still], CONFIG) == []


def test_too_short_a_stretch_in_common_is_no_link(room, other_room):
    mixed = [*room[:10], *other_room[:40]]
    assert find_links([recorded(room), recorded(mixed)], CONFIG) == []


def test_photo_folders_share_photos_not_time(room, other_room):
    def folder(pictures):
        recorder = Recorder(ordered=False)
        for number, picture in enumerate(pictures):
            recorder.add(float(number), picture)
        return recorder.fingerprint()

    photos = room[::7]
    others = [*other_room[::10], *map(encoded, photos[::-1][:7])]
    (link,) = find_links([folder(photos), folder(others)], CONFIG)
    assert [start for start, _ in link.spans_first] == [3, 4, 5, 6, 7, 8, 9]
    assert [start for start, _ in link.spans_second] == [7, 8, 9, 10, 11, 12, 13]
    assert find_links([folder(photos), folder(other_room[::7])], CONFIG) == []


def test_clips_of_a_fingerprint_are_its_parts(room):
    whole = recorded(room)
    part = whole.between(4.0, 9.0)
    assert part.times_s[0] == pytest.approx(4)
    assert part.times_s[-1] < 9
    assert (part.crops[:, 0] == part.hashes[part.view]).all()
    assert len(whole.between(0, 4)) + len(part) + len(whole.between(9, 99)) == len(whole)


def test_written_and_read_back_to_the_byte(room, tmp_path):
    whole = recorded(room)
    for name in ("a.npz", "b.npz"):
        whole.write(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = Fingerprint.read(tmp_path / "a.npz")
    assert again.ordered
    for column in ("times_s", "hashes", "view", "crops"):
        assert np.array_equal(getattr(again, column), getattr(whole, column))
    (tmp_path / "b.npz").write_bytes(b"no zip")
    with pytest.raises(MediaError, match="no fingerprint that can be read"):
        Fingerprint.read(tmp_path / "b.npz")


@given(st.integers(0, 69), st.booleans())
def test_a_mirrored_picture_has_the_mirrored_hash(number, whole):
    rng = np.random.default_rng(number)
    picture = small(cv2.resize(rng.integers(0, 255, (9, 12)).astype(np.uint8), (128, 96)))
    flipped = np.ascontiguousarray(picture[:, ::-1])
    if whole:
        one, other = (np.atleast_1d(picture_hash(p)[0]) for p in (picture, flipped))
    else:
        one = crop_hashes(picture)
        exchanged = [CROPS.index((r, t, left, b)) for left, t, r, b in CROPS]
        other = crop_hashes(flipped)[exchanged]
    assert (distance(mirrored(one), other) <= 1).all()
    assert (mirrored(mirrored(one)) == one).all()


def test_the_first_crop_is_the_whole_picture(room):
    for picture in room[::9]:
        reduced = small(picture)
        assert crop_hashes(reduced)[0] == picture_hash(reduced)[0]
        assert picture_hash(reduced)[1]


@given(st.integers(0, 2**32 - 1))
def test_the_index_finds_what_comparing_with_all_finds(seed):
    """All equal ones, most near ones, and nothing that is not near."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, 300, dtype=np.uint64)
    flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (300, 3), dtype=np.uint64), 1)
    queries = np.concatenate([hashes, hashes ^ flips])
    found = list(zip(*HashIndex(hashes).near(queries, 12), strict=True))
    pairs = {(int(q), int(h)): int(bits) for q, h, bits in found}
    assert len(pairs) == len(found)
    assert all(int(distance(queries[q], hashes[h])) == bits <= 12 for (q, h), bits in pairs.items())
    assert all((i, i) in pairs for i in range(300))
    assert sum((300 + i, i) in pairs for i in range(300)) > 250
