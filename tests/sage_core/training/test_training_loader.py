"""Samples made ahead come in order, and no thread outlives who asked for them."""

import threading

import pytest
from test_training_engine import ALONE, parts, routine

from sage_core.training import engine
from sage_core.training.loader import Loader


def at_work():
    return [thread for thread in threading.enumerate() if thread.name.startswith("samples")]


def test_batches_come_in_order_whatever_is_done_first():
    first = threading.Event()

    def make(number):
        if number == 0:
            assert first.wait(60)  # until a later one is done
        else:
            first.set()
        return 10 * number

    loader = Loader(make, iter([[0, 1], [2], [3, 4]]), threads=2)
    assert [*loader] == [[0, 10], [20], [30, 40]]
    loader.close()
    assert not at_work()


def broken_after(good):
    yield from good
    raise OSError("no more ids")


def test_no_thread_outlives_a_loader_that_could_not_start():
    with pytest.raises(OSError, match="no more ids"):
        Loader(lambda number: number, broken_after([[1], [2]]), threads=4)
    assert not at_work()


def test_no_thread_outlives_a_run_whose_journal_cannot_be_opened(tmp_path, monkeypatch):
    def refused(*_inputs, **_options):
        raise OSError("no space left")

    monkeypatch.setattr(engine, "Journal", refused)
    with pytest.raises(OSError, match="no space left"):
        engine.Trainer(parts(), routine(), tmp_path, ALONE).run()
    assert not at_work()


def test_no_thread_outlives_a_run_with_a_sample_that_cannot_be_made(tmp_path):
    bad = routine().order.at(9)
    whole = parts()

    def sample(one):
        if one == bad:
            raise OSError("not to be read")
        return whole.sample(one)

    broken = engine.Parts(whole.model, whole.groups, sample, whole.losses, whole.terms)
    with pytest.raises(OSError, match="not to be read"):
        engine.Trainer(broken, routine(), tmp_path, ALONE).run()
    assert not at_work()
