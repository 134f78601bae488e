"""Which of the copies is kept follows from the set of clips alone."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sage_core.fingerprints import Footage, Link, duplicates, shown_share


def footage(item, pixels=1000, rate=10.0):
    return Footage(item, 0.0, 20.0, pixels, rate)


def link(first, second, first_span=(0.0, 20.0), second_span=(0.0, 20.0)):
    return Link(
        first, second, 1.0, 0.0, False, (0, 0, 0, 0), "second", 3.0, (first_span,), (second_span,)
    )


def test_larger_then_richer_then_smaller_id_is_kept():
    for better, worse in (
        (footage("b", pixels=2000), footage("a")),
        (footage("b", rate=20.0), footage("a")),
        (footage("a"), footage("b")),
    ):
        found = duplicates([worse, better], [link(0, 1)], 0.5)
        assert list(found) == [0]
        assert found[0].links[0].second == 1


def test_a_copy_of_a_copy_that_went_is_kept_if_it_shows_something_else():
    """a is kept, b goes for a; c shares with b only, so nobody who is kept shows it."""
    clips = [footage("a"), footage("b"), footage("c")]
    assert list(duplicates(clips, [link(0, 1), link(1, 2)], 0.5)) == [1]
    assert sorted(duplicates(clips, [link(0, 1), link(1, 2), link(0, 2)], 0.5)) == [1, 2]


def test_several_kept_clips_together_can_show_all_of_one():
    clips = [footage("a"), footage("b"), footage("c")]
    halves = [
        link(0, 2, (10.0, 20.0), (0.0, 9.0)),
        link(1, 2, (0.0, 10.0), (8.0, 18.0)),
    ]
    found = duplicates(clips, halves, 0.5)
    assert list(found) == [2]
    assert found[2].share == 0.9
    assert {one.second for one in found[2].links} == {0, 1}
    assert duplicates(clips, halves[:1], 0.5) == {}


def test_spans_outside_of_the_clip_count_for_nothing():
    assert shown_share(footage("a"), [(-5.0, 5.0), (3.0, 6.0), (19.0, 40.0)]) == 7 / 20


@given(st.data())
def test_the_order_of_clips_and_links_changes_nothing(data):
    n = data.draw(st.integers(2, 7))
    clips = [footage(f"c{i}", data.draw(st.integers(1, 3))) for i in range(n)]
    pairs = data.draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    links = [
        link(i, j, (0.0, data.draw(st.floats(1, 20))), (0.0, data.draw(st.floats(1, 20))))
        for i, j in pairs
        if i < j
    ]
    order = data.draw(st.permutations(range(n)))
    place = {old: new for new, old in enumerate(order)}
    moved = [replace(one, first=place[one.first], second=place[one.second]) for one in links]
    before = {clips[at].item for at in duplicates(clips, links, 0.5)}
    after = duplicates([clips[old] for old in order], moved[::-1], 0.5)
    assert {clips[order[at]].item for at in after} == before
    best = min(clips, key=lambda clip: clip.rank)
    assert best.item not in before
