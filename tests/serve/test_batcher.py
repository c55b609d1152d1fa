"""The queue: what is answered together, what is refused, and that nothing accepted is lost."""

import threading
import time

import pytest

from thinkrank.serve import Batcher
from thinkrank.serve.batcher import ClosedError, FullError, Job


class Answers:
    """Answers with the question, when it is let."""

    def __init__(self):
        self.calls, self.going, self.entered = [], threading.Event(), threading.Semaphore(0)

    def __call__(self, jobs):
        self.calls.append([job.ask for job in jobs])
        self.entered.release()
        assert self.going.wait(10)
        return [job.ask if job.ask != "bad" else ValueError("bad") for job in jobs]


@pytest.fixture
def made():
    answers = Answers()
    batcher = Batcher(answers, max_writing=2, max_waiting_to_write=1, max_reading=3, max_waiting_to_read=4)
    batcher.start()
    yield batcher, answers
    answers.going.set()
    batcher.close()


def submitted(batcher, *asks, kind="same"):
    jobs = [Job(ask, kind=kind) for ask in asks]
    for job in jobs:
        batcher.submit(job)
    return jobs


def test_what_waits_and_is_of_one_kind_is_answered_in_one_call(made):
    batcher, answers = made
    jobs = submitted(batcher, 0)
    answers.entered.acquire()
    jobs += submitted(batcher, 1, 2)
    jobs += submitted(batcher, "other", kind="other")
    jobs += submitted(batcher, 3)
    answers.going.set()
    assert [job.future.result(10) for job in jobs] == [0, 1, 2, "other", 3]
    assert answers.calls == [[0], [1, 2, 3], ["other"]]


def test_those_that_are_written_for_have_calls_of_their_own_at_once(made):
    batcher, answers = made
    jobs = submitted(batcher, 1, 2, kind=None)
    for _ in jobs:
        answers.entered.acquire()
    assert sorted(answers.calls) == [[1], [2]]
    assert batcher.running == 2
    answers.going.set()
    assert [job.future.result(10) for job in jobs] == [1, 2]


def test_what_finds_no_place_is_refused_and_told_when_to_come_again(made):
    batcher, answers = made
    submitted(batcher, 1, 2, kind=None)
    for _ in range(2):
        answers.entered.acquire()
    submitted(batcher, 3, kind=None)
    with pytest.raises(FullError, match="ask again in 1 s"):
        submitted(batcher, 4, kind=None)
    submitted(batcher, 0)
    answers.entered.acquire()
    submitted(batcher, 1, 2, 3, 4)
    with pytest.raises(FullError):
        submitted(batcher, 5)
    assert batcher.waiting == 5


def test_a_fault_concerns_its_own_question(made):
    batcher, answers = made
    answers.going.set()
    good, bad = submitted(batcher, "good", "bad")
    assert good.future.result(10) == "good"
    with pytest.raises(ValueError, match="bad"):
        bad.future.result(10)


def test_whoever_has_gone_is_not_answered(made):
    batcher, answers = made
    submitted(batcher, 0)
    answers.entered.acquire()
    gone, late, here = Job(1, kind="same"), Job(2, kind="same", deadline=time.monotonic()), Job(3, kind="same")
    for job in (gone, late, here):
        batcher.submit(job)
    gone.gone.set()
    answers.going.set()
    assert here.future.result(10) == 3
    assert answers.calls == [[0], [3]]
    assert gone.future.cancelled()
    assert late.future.cancelled()


def test_closing_answers_what_was_accepted_and_takes_no_more(made):
    batcher, answers = made
    jobs = [*submitted(batcher, 1, 2, 3, kind=None), *submitted(batcher, 4, 5)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._closed:
        time.sleep(0.001)
    with pytest.raises(ClosedError):
        submitted(batcher, 6)
    answers.going.set()
    assert [job.future.result(10) for job in jobs] == [1, 2, 3, 4, 5]
    closing.join(10)
    assert not closing.is_alive()


def test_changes_are_made_when_nothing_is_being_answered(made):
    batcher, answers = made
    (job,) = submitted(batcher, 1)
    answers.entered.acquire()
    seen = []

    def change():
        with batcher.exclusive():
            seen.append((job.future.done(), batcher.running))
            (waits,) = submitted(batcher, 2)
            time.sleep(0.02)
            seen.append(waits.future.done())
            return waits

    changing = threading.Thread(target=change)
    changing.start()
    answers.going.set()
    changing.join(10)
    assert seen == [(True, 0), False]
    assert submitted(batcher, 3)[0].future.result(10) == 3
