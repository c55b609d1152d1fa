import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from thinkrank.data import Catalogue
from thinkrank.errors import ThinkrankError
from thinkrank.teachers import (
    ReflectOptions,
    RuleTeacher,
    Teacher,
    Trace,
    TraceCounts,
    Verdict,
    read_traces,
    write_traces,
)

NO = Verdict("Nothing of it before. Not a match.", likely=False)
YES = Verdict("Crime again. A match.", likely=True)


@dataclass
class Script:
    """Says what it was told to, by film and try, and notes what it was asked."""

    catalogue: Catalogue
    lines: dict[str, list[Verdict | None]]
    name: str = "script"
    asked: list = field(default_factory=list)

    def answer(self, pairs, reflections):
        self.asked.append(list(zip(pairs, reflections, strict=True)))
        answers = []
        for pair, earlier in zip(pairs, reflections, strict=True):
            lines = self.lines[self.catalogue.titles[pair.item]]
            answers.append(lines[0 if earlier is None else lines.index(earlier) + 1])
        return answers


def num_words(text):
    return len(text.split())


@pytest.fixture
def write(catalogue, tmp_path):
    """`write_traces` into the test's folder; options by name."""

    def run(pairs, teacher, *, name="traces.jsonl", **options):
        return write_traces(pairs, teacher, catalogue, tmp_path / name, ReflectOptions(**options), num_tokens=num_words)

    return run


def test_a_right_verdict_is_kept_at_once(write, catalogue, pair, tmp_path):
    teacher = Script(catalogue, {"Fargo": [YES], "Alien": [NO]})
    assert isinstance(teacher, Teacher)
    counts = write([pair(["Heat"], "Fargo", position=7), pair([], "Alien", label=False, position=9)], teacher)
    none = {"no_answer": 0, "inconsistent": 0, "leak": 0, "foreign_title": 0, "too_long": 0}
    assert counts == TraceCounts(kept=2, kept_likely=1, reflected=0, dropped=none)
    fargo, alien = catalogue.titles.index("Fargo"), catalogue.titles.index("Alien")
    assert read_traces(tmp_path / "traces.jsonl", catalogue) == [
        Trace(7, fargo, True, YES.reasoning, 1, "script"),
        Trace(9, alien, False, NO.reasoning, 1, "script"),
    ]


def test_a_wrong_verdict_is_shown_until_it_is_right(write, catalogue, pair, tmp_path):
    still = Verdict("Still nothing. Not a match.", likely=False)
    teacher = Script(catalogue, {"Fargo": [NO, still, YES], "Alien": [NO]})
    asked = [pair(["Heat"], "Fargo"), pair([], "Alien", label=False)]
    counts = write(asked, teacher)
    assert (counts.kept, counts.reflected) == (2, 1)
    assert read_traces(tmp_path / "traces.jsonl", catalogue)[0].tries == 3
    assert [[earlier for _, earlier in call] for call in teacher.asked] == [[None, None], [NO], [still]]


@pytest.mark.parametrize(("max_tries", "kept"), [(1, 0), (2, 0), (3, 1)])
def test_it_is_asked_so_often_and_no_more(write, catalogue, pair, max_tries, kept):
    still = Verdict("Still nothing. Not a match.", likely=False)
    teacher = Script(catalogue, {"Fargo": [NO, still, YES]})
    counts = write([pair([], "Fargo")], teacher, max_tries=max_tries)
    assert (counts.kept, counts.dropped["inconsistent"]) == (kept, 1 - kept)
    assert len(teacher.asked) == max_tries


def test_without_reflection_a_first_answer_is_kept_whatever_the_label(write, catalogue, pair, tmp_path):
    teacher = Script(catalogue, {"Fargo": [NO, YES], "Alien": [YES], "Heat": [NO]})
    asked = [pair([], "Fargo"), pair([], "Alien", label=False), pair([], "Heat", label=False)]
    counts = write(asked, teacher, reflect=False, max_tries=3)
    assert (counts.kept, counts.kept_likely, counts.reflected) == (3, 1, 0)
    assert len(teacher.asked) == 1
    traces = read_traces(tmp_path / "traces.jsonl", catalogue)
    assert [(trace.label, trace.reasoning) for trace in traces] == [
        (True, NO.reasoning), (False, YES.reasoning), (False, NO.reasoning),
    ]  # fmt: skip


def test_the_teacher_sees_neither_the_label_nor_more_history_than_is_shown(write, catalogue, pair):
    teacher = Script(catalogue, {"Fargo": [YES], "Alien": [NO]})
    history = ["Heat", "Casino", "Clueless", "Rambo"]
    write([pair(history, "Fargo"), pair(history, "Alien", label=False)], teacher, history_window=3)
    seen = [question for call in teacher.asked for question, _ in call]
    assert {question.label for question in seen} == {False}
    assert [[catalogue.titles[row] for row in question.history.items] for question in seen] == [history[1:]] * 2


def test_a_teacher_that_copies_the_label_knows_nothing(write, pairs):
    class Cheat:
        name = "cheat"

        def answer(self, pairs, reflections):
            return [Verdict("It fits.", pair.label) for pair in pairs]

    counts = write(pairs, Cheat(), max_tries=3)
    assert (counts.kept_likely, counts.reflected) == (0, 0)
    assert counts.kept == sum(not pair.label for pair in pairs)


def test_every_reason_to_drop_a_trace_is_counted(write, catalogue, pair, tmp_path):
    lines = {
        "Fargo": [YES],
        "Heat": [None],
        "Casino": [NO, None],
        "Alien": [Verdict("\u200b \n", likely=True)],
        "Brazil": [Verdict("By the ground truth a match.", likely=True)],
        "Psycho": [Verdict("As close as Casablanca. A match.", likely=True)],
        "Rambo": [Verdict("word " * 20, likely=True)],
        "Clueless": [NO, NO],
    }
    counts = write([pair(["Heat"], title) for title in lines], Script(catalogue, lines), max_tokens=19, max_tries=2)
    expected = {"no_answer": 3, "inconsistent": 1, "leak": 1, "foreign_title": 1, "too_long": 1}
    assert counts == TraceCounts(kept=1, kept_likely=1, reflected=0, dropped=expected)
    written = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert [line["dropped"] for line in written] == [
        *(None, "no_answer", "no_answer", "no_answer", "leak", "foreign_title", "too_long", "inconsistent")
    ]
    assert [trace.item for trace in read_traces(tmp_path / "traces.jsonl", catalogue)] == [0]


def test_titles_of_the_history_that_is_shown_may_be_named_and_no_others(write, catalogue, pair):
    teacher = Script(catalogue, {"Fargo": [Verdict("Near to Heat. A match.", likely=True)]})
    asked = [pair(["Heat", "Clueless"], "Fargo")]
    assert write(asked, teacher, history_window=2, name="two").kept == 1
    assert write(asked, teacher, history_window=1, name="one").dropped["foreign_title"] == 1


def test_a_text_becomes_one_line(write, catalogue, pair, tmp_path):
    teacher = Script(catalogue, {"Fargo": [Verdict(' Crime\nagain,\t"so"\u202e.\x00 ', likely=True)]})
    write([pair([], "Fargo")], teacher)
    assert read_traces(tmp_path / "traces.jsonl", catalogue)[0].reasoning == 'Crime again, "so".'


def test_a_token_more_than_allowed_is_too_long(write, catalogue, pair):
    teacher = Script(catalogue, {"Fargo": [Verdict("one two three", likely=True)]})
    assert write([pair([], "Fargo")], teacher, max_tokens=3, name="3").kept == 1
    assert write([pair([], "Fargo")], teacher, max_tokens=2, name="2").dropped["too_long"] == 1


class Interrupted:
    """A teacher of rules that is stopped after so many calls."""

    def __init__(self, teacher, calls):
        self.teacher, self.calls, self.name = teacher, calls, teacher.name

    def answer(self, pairs, reflections):
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        return self.teacher.answer(pairs, reflections)


@pytest.fixture(scope="session")
def teacher(split):
    return RuleTeacher(split)


@pytest.mark.parametrize("calls", [0, 1, 2, 5, 9])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_file(write, teacher, pairs, tmp_path, calls):
    counts = write(pairs, teacher, name="whole", chunk_size=7)
    with pytest.raises(KeyboardInterrupt):
        write(pairs, Interrupted(teacher, calls), chunk_size=7)
    assert not (tmp_path / "traces.jsonl").exists()
    recorder = Interrupted(teacher, 10**6)
    assert write(pairs, recorder, chunk_size=7) == counts
    assert (tmp_path / "traces.jsonl").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["traces.jsonl", "whole"]


def test_a_run_cut_at_any_byte_ends_with_the_same_file(write, teacher, pairs, tmp_path):
    asked = pairs[::7]
    counts = write(asked, teacher, name="whole", chunk_size=3)
    whole = (tmp_path / "whole").read_bytes()
    for cut in [*range(0, len(whole), 119), len(whole) - 1, len(whole)]:
        (tmp_path / ".traces.jsonl.part").write_bytes(whole[:cut])
        assert write(asked, teacher, chunk_size=3) == counts
        assert (tmp_path / "traces.jsonl").read_bytes() == whole
        (tmp_path / "traces.jsonl").unlink()


def test_whole_chunks_are_not_asked_about_again(write, catalogue, pair, tmp_path):
    teacher = Script(catalogue, {"Fargo": [YES]})
    asked = [pair([], "Fargo", position=position) for position in range(7)]
    write(asked, teacher, chunk_size=3)
    done = (tmp_path / "traces.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "traces.jsonl").rename(tmp_path / ".traces.jsonl.part")
    (tmp_path / ".traces.jsonl.part").write_bytes(b"".join(done[:5]) + done[5][:10])
    teacher.asked.clear()
    write(asked, teacher, chunk_size=3)
    assert [[question.position for question, _ in call] for call in teacher.asked] == [[3, 4, 5], [6]]


def test_a_finished_file_is_only_counted(write, catalogue, pair):
    teacher = Script(catalogue, {"Fargo": [YES]})
    counts = write([pair([], "Fargo")], teacher)
    teacher.lines.clear()
    assert write([pair([], "Fargo")], teacher) == counts


SCRIPT = """
import os, sys, thinkrank
from thinkrank.data import split_dataset
from thinkrank.teachers import Pair, ReflectOptions, RuleTeacher, write_traces

path, calls = sys.argv[1], int(sys.argv[2])
split = split_dataset(thinkrank.load_dataset("synthetic", users=30, events=8))
pairs = [Pair(i, s.history, row, row < 60) for i, s in enumerate(split.train.subset(8, 0)) for row in range(0, 200, 9)]

class Killed(RuleTeacher):
    def answer(self, pairs, reflections):
        global calls
        if calls == 0:
            os._exit(9)
        calls -= 1
        return super().answer(pairs, reflections)

def write(teacher, name):
    options = ReflectOptions(chunk_size=16)
    return write_traces(pairs, teacher, split.dataset.catalogue, name, options, num_tokens=len)

counts = write(Killed(split), path)
assert write(RuleTeacher(split), path + "-whole") == counts
"""


def test_a_killed_process_leaves_what_the_next_one_needs(tmp_path):
    def run(calls):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "traces"), str(calls)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run(13).returncode == 9
    assert [path.name for path in tmp_path.iterdir()] == [".traces.part"]
    done = run(-1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "traces").read_bytes() == (tmp_path / "traces-whole").read_bytes()


def test_what_another_run_wrote_is_left_alone(write, split, teacher, pairs, tmp_path):
    write(pairs, teacher, chunk_size=7)
    done = tmp_path / "traces.jsonl"
    before = done.read_bytes()
    others = [
        lambda: write(pairs, teacher, chunk_size=7, max_tokens=50),
        lambda: write(pairs[:-1], teacher, chunk_size=7),
        lambda: write([replace(pair, label=not pair.label) for pair in pairs], teacher, chunk_size=7),
        lambda: write([replace(pair, history=pair.history[1:]) for pair in pairs], teacher, chunk_size=7),
        lambda: write(pairs, RuleTeacher(split, teacher.options.model_copy(update={"seed": 1})), chunk_size=7),
        lambda: write(pairs, teacher, chunk_size=64),
    ]
    for path in (done, tmp_path / ".traces.jsonl.part"):
        done.rename(path)
        for other in others:
            with pytest.raises(ThinkrankError, match=r"about other pairs, by another teacher or with other options"):
                other()
            assert path.read_bytes() == before
        path.rename(done)


def test_what_is_not_shown_does_not_make_another_run(write, teacher, pair):
    past = ["Heat", "Casino", "Rambo"]
    counts = write([pair(past, "Fargo")], teacher, history_window=2)
    assert write([pair(past[1:], "Fargo")], teacher, history_window=2) == counts


def test_an_unfinished_file_is_not_read(write, catalogue, teacher, pairs, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(pairs, Interrupted(teacher, 2), chunk_size=7)
    with pytest.raises(ThinkrankError, match="is not finished yet"):
        read_traces(tmp_path / "traces.jsonl", catalogue)
    with pytest.raises(ThinkrankError, match="cannot be read"):
        read_traces(tmp_path / "absent.jsonl", catalogue)


def test_a_damaged_line_is_named(write, catalogue, pair, tmp_path):
    write([pair([], "Fargo"), pair([], "Fargo")], Script(catalogue, {"Fargo": [YES]}))
    path = tmp_path / "traces.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second.replace('f0', 'f99')}\n")
    with pytest.raises(ThinkrankError, match=r"traces\.jsonl, row 2: item is 'f99', not the id of an item"):
        read_traces(path, catalogue)


def test_without_pairs_there_is_nothing_to_write(write, teacher):
    with pytest.raises(ThinkrankError, match="no pairs"):
        write([], teacher)


def test_a_teacher_that_answers_too_little_is_at_fault(write, pair):
    class Mute:
        name = "mute"

        def answer(self, pairs, reflections):
            return []

    with pytest.raises(ValueError, match="shorter"):
        write([pair([], "Fargo")], Mute())


def test_progress_counts_every_pair_also_those_of_earlier_calls(catalogue, teacher, pairs, tmp_path):
    shown = []

    @contextmanager
    def progress(title, total):
        shown.append([total])
        yield lambda n=1, note="": shown[-1].append((n, note))

    def run(whom):
        options = ReflectOptions(chunk_size=20)
        return write_traces(pairs, whom, catalogue, tmp_path / "t", options, progress, num_tokens=num_words)

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(teacher, 4))
    counts = run(teacher)
    assert [row[0] for row in shown] == [64, 64]
    assert sum(n for n, _ in shown[1][1:]) == 64
    assert shown[1][1][0] in (20, 40)
    assert shown[1][-1] == (4, f"{counts.kept / 64:.0%} kept")
