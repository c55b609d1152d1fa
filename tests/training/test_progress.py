"""What a person who waits is told: that it is alive, how far it is, and when the whole run ends."""

import io
import time
from unittest.mock import patch

import pytest
from rich.console import Console

from thinkrank.training import progress as module
from thinkrank.training.progress import Expected, console_progress, duration, estimated, no_progress, retitled


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""

    class Clock:
        now = 100.0

    monkeypatch.setattr("thinkrank.training.progress.time.monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def log(monkeypatch):
    """What is written where there is no terminal, line by line."""
    written = io.StringIO()
    with patch.object(module, "Console", lambda **_: Console(file=written, width=200)):
        yield lambda: written.getvalue().splitlines()


def test_a_line_at_the_end_and_at_least_every_five_seconds(clock, log):
    with console_progress("warm start", 4) as advance:
        for _ in range(4):
            clock.now += 3
            advance(1, note="loss 2")
    assert log() == ["warm start: 2 of 4 · loss 2 · 6.0 s left", "warm start: 4 of 4 · loss 2 · took 12 s"]


def test_work_that_does_not_advance_is_said_to_be_alive(log, monkeypatch):
    monkeypatch.setattr(module, "SILENCE", 0.05)
    with console_progress("RecPO", 3), console_progress("loading", 0):
        time.sleep(0.2)
    assert log()[0].startswith("loading: 0.1 s so far")  # what is innermost


def test_nothing_is_told_of_work_that_was_interrupted_or_cannot_be_counted(clock, log):
    with pytest.raises(KeyboardInterrupt), console_progress("warm start", 4):
        raise KeyboardInterrupt
    with console_progress("starting", 0):
        clock.now += 2
    assert log() == []


def test_of_several_processes_the_first_one_shows_it(clock, log, monkeypatch):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with console_progress(f"in process {rank}", 1) as advance:
            clock.now += 6
            advance(1)
    assert [line.partition(":")[0] for line in log()] == ["in process 0"]


def test_one_estimate_for_the_whole_run(clock, log):
    """Of 10 steps of 2 s, two validations of 4 samples and 60 s at the end: corrected by what steps really take."""
    pieces = {
        "warm start": Expected(10, 2.0),
        "warm start, validating": Expected(8, 1.0),
        "joining": Expected(1, 60.0),
    }
    with estimated(pieces), console_progress("warm start", 10) as advance:
        with console_progress("warm start, validating", 4) as validated:
            clock.now += 4
            validated(4)
        for _ in range(5):
            clock.now += 6
            advance(1)
    assert log()[0] == "warm start, validating: 4 of 4 · took 4.0 s"
    # one step in: 9 more of (2 + 6) / 2 s, 4 samples of 1 s, and the end
    assert log()[1] == f"warm start: 1 of 10 · about {duration(9 * 4.0 + 4 + 60)} left in all"
    assert log()[-1].startswith("warm start: 5 of 10")


def test_what_an_earlier_start_did_is_not_taken_for_speed(clock, log):
    pieces = {"warm start": Expected(10, 2.0), "warm start, validating": Expected(8, 1.0)}
    with estimated(pieces), console_progress("warm start", 10) as advance:
        advance(5)
        clock.now += 6
        advance(1)
    left = 4 * (2 + 6) / 2 + 4 * 1.0  # half of the validations were made then, too
    assert log()[0] == f"warm start: 6 of 10 · about {duration(left)} left in all"


def test_a_training_that_ends_early_leaves_nothing_to_wait_for(clock, log):
    pieces = {"training": Expected(100, 1.0), "training, validating": Expected(50, 1.0), "joining": Expected(1, 30.0)}
    with estimated(pieces):
        with console_progress("training", 100) as advance:
            advance(3)
        with console_progress("joining", 1) as advance:
            clock.now += 6
            with console_progress("settings of EASE", 4) as tried:
                clock.now += 6
                tried(1)
    assert "about 30 s left in all" in "\n".join(log())


def test_nothing_is_told_of_the_whole_run_while_what_nobody_foresaw_goes_on(clock, log):
    with estimated({"training": Expected(2, 1.0), "joining": Expected(1, 30.0)}):
        with console_progress("training", 2) as advance:
            advance(2)
        with console_progress("networks", 3) as advance:
            clock.now += 6
            advance(1)
    assert log()[1:] == ["networks: 1 of 3 · 12 s left", "networks: 1 of 3 · took 6.0 s"]


def test_a_limit_bounds_what_is_foreseen():
    piece = Expected(1000, 2.0, limit=60.0)
    assert piece.seconds() == piece.left() == 60.0
    piece.done, piece.counted, piece.spent = 20, 20, 40.0
    assert piece.left() == 20.0


def test_a_training_and_what_is_in_it_go_by_the_name_of_the_phase(clock, log):
    shown = retitled(console_progress, "RecPO")
    for title in ("training", "training, validating", "writing traces"):
        with shown(title, 1) as advance:
            advance(1)
    assert [line.partition(":")[0] for line in log()] == ["RecPO", "RecPO, validating", "writing traces"]


def test_times_are_written_for_people():
    written = [duration(seconds) for seconds in (0.0, 4.26, 42.4, 125.0, 5000.0, 7200.0)]
    assert written == ["0.1 s", "4.3 s", "42 s", "2.1 min", "83 min", "2.0 h"]


def test_no_progress_shows_nothing(capsys):
    with no_progress("work", 3) as advance:
        advance(1, note="x")
    assert capsys.readouterr() == ("", "")
