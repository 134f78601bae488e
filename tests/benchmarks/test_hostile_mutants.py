"""Hostile files in small: each kind of mutant gets a verdict with a reason and touches nothing outside."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import hostile
from benchmarks.mutations import (
    CRAFTED,
    EBML_MUTATIONS,
    MP4_MUTATIONS,
    MUTATIONS,
    Bases,
    mutant,
)
from benchmarks.traps import SetTraps
from data_catalog import Workspace
from sage_core.acquisition.check import check_video
from sage_core.config.acquire import AcquireConfig
from sage_core.types import Reason, Verdict

KINDS = [*MUTATIONS, *MP4_MUTATIONS, *EBML_MUTATIONS, *CRAFTED]
COSTLY = ("expansion", "repeated chunks", "many samples")
CHOSEN = [n for n in range(2 * len(KINDS)) if n < len(KINDS) or KINDS[n % len(KINDS)] not in COSTLY]


@pytest.fixture(scope="module")
def traps(tmp_path_factory):
    with SetTraps(tmp_path_factory.mktemp("outside")) as traps:
        yield traps


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return Bases(tmp_path_factory.mktemp("bases"))


def test_the_traps_tell(traps):
    assert traps.opened == 0
    traps.traps.file.read_bytes()
    assert traps.opened > 0
    assert traps.opened == 0


def test_a_number_and_a_seed_make_a_mutant(traps, bases):
    for number in range(len(KINDS)):
        one = mutant(number, 3, bases, traps.traps)
        assert one == mutant(number, 3, bases, traps.traps)
        assert one.kind == KINDS[number]
    many = {mutant(n, seed, bases, traps.traps).data for n in range(8) for seed in range(4)}
    assert len(many) == 32


@pytest.mark.slow
def test_forty_mutants_get_verdicts_and_touch_nothing(traps, bases, tmp_path):
    def judged(number):
        made = mutant(number, 1, bases, traps.traps)
        file = tmp_path / f"{number:03d}{made.name}"
        file.write_bytes(made.data)
        return made, check_video(file, AcquireConfig())

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(judged, CHOSEN))
    assert len(found) >= 40
    for made, (judgement, facts) in found:
        if judgement.verdict is Verdict.ACCEPTED:
            assert facts.n_frames > 0
        else:
            assert judgement.reason not in (Reason.INTERNAL_ERROR, Reason.CRASHED), (
                judgement.message
            )
            assert judgement.message
        if made.kind == "playlist":
            assert judgement.reason is Reason.NOT_VIDEO
    assert {j.verdict for _, (j, _) in found} == {
        Verdict.ACCEPTED,
        Verdict.REJECTED,
        Verdict.FAILED,
    }
    assert traps.opened == traps.called == 0


@pytest.mark.slow
def test_the_harness_goes_on_where_it_was(tmp_path, capsys):
    arguments = [
        "--seed",
        "7",
        "--workspace",
        str(tmp_path / "ws"),
        "--json",
        str(tmp_path / "out.json"),
    ]
    hostile.main([*arguments, "--videos", "1", "--first", "2"])
    with pytest.raises(SystemExit):
        hostile.main([*arguments, "--videos", "2"])
    hostile.main([*arguments, "--videos", "2", "--first", "2", "--resume"])
    told = capsys.readouterr().out
    assert "tried now: 1" in told
    assert "traps touched: 0" in told
    assert len(Workspace.open(tmp_path / "ws").catalog.latest("acquire")) == 2
