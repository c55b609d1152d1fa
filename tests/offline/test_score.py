"""A table of users is answered in parts, as `recommend` would, and a job that stopped goes on where it was."""

import logging
from contextlib import contextmanager

import polars as pl
import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.offline import Job, Worker, estimate_users, parts_of, score_users
from thinkrank.recipes.answering import Manner, recommend, recommend_many

HOW = Manner(k=3)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def read(folder):
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])


def test_known_users_are_answered_as_recommend_answers_them_in_the_order_of_the_input(run, tmp_path):
    users = ["u7", "u2", "u30", "u9", "u21"]
    pl.DataFrame({"user": users}).write_parquet(tmp_path / "users.parquet")
    told = score_users(run, tmp_path / "users.parquet", tmp_path / "out", HOW, block=2)
    assert (told.parts, told.kept, told.users) == (3, 0, 5)
    found = read(tmp_path / "out")
    assert found["user"].unique(maintain_order=True).to_list() == users
    assert found.equals(recommend_many(run, tmp_path / "users.parquet", k=3))


def test_lists_of_items_and_events_of_the_same_people_have_the_same_answers(run, people, tmp_path):
    score_users(run, people, tmp_path / "lists", HOW, block=30)
    lists = pl.read_parquet(people / "*.parquet")
    events = lists.explode("items").rename({"items": "item"}).drop_nulls()
    events.write_csv(tmp_path / "events.csv")
    score_users(run, tmp_path / "events.csv", tmp_path / "events", HOW)
    met = read(tmp_path / "lists").filter(pl.col("user").is_in(events["user"].unique().to_list()))
    assert read(tmp_path / "events").equals(met)
    assert recommend_many(run, people / "a.parquet", k=3).equals(read(tmp_path / "lists").head(3 * 64))
    typed = recommend(run, titles=lists["items"][7].to_list(), k=3).table()["item"].to_list()
    assert read(tmp_path / "lists").filter(user="p7")["item"].to_list() == typed
    assert read(tmp_path / "lists").filter(user="p0").height == 3  # who took nothing


def test_tables_are_found_whatever_the_case_of_their_names(tmp_path):
    for name in ("USERS.CSV", "a.csv", "notes.txt"):
        (tmp_path / name).write_text("user\nu1\n")
    assert [part.file.name for part in parts_of(tmp_path, 10)] == ["USERS.CSV", "a.csv"]


def test_a_job_that_was_killed_goes_on_to_the_same_bytes(run, people, tmp_path):
    score_users(run, people, tmp_path / "whole", HOW, block=20)
    first = next(parts_of(people, 20))
    score_users(run, people, tmp_path / "out", HOW, block=20)
    names = sorted(file.name for file in (tmp_path / "out").glob("*.parquet"))
    assert names[0] == first.name
    for name in names[2:]:
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / f".{names[2]}.123.part").write_bytes(b"half")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in names[:2]}
    told = score_users(run, people, tmp_path / "out", HOW, block=20)
    assert (told.parts, told.kept, told.users) == (6, 2, 60)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert times == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in names[:2]}


def test_answers_of_another_job_are_not_mixed_with_these(run, people, tmp_path):
    score_users(run, people, tmp_path / "out", HOW)
    for changed, told in (
        ({"how": Manner(k=4)}, "its k differs \\(3 then, 4 now\\)"),
        ({"block": 7}, "its block differs"),
        ({"users": people / "a.parquet"}, "its users differs"),
    ):
        given = {"users": people, "how": HOW, **changed}
        with pytest.raises(ThinkrankError, match=told):
            score_users(run, given.pop("users"), tmp_path / "out", given.pop("how"), **given)
    table = (people / "a.parquet").read_bytes()
    (people / "a.parquet").write_bytes(table[:-9] + bytes([table[-9] ^ 1]) + table[-8:])  # as long as it was
    with pytest.raises(ThinkrankError, match="its users differs"):
        score_users(run, people, tmp_path / "out", HOW)
    (people / "a.parquet").write_bytes(table)
    (run / "model" / "more.txt").write_text("another model")
    with pytest.raises(ThinkrankError, match="its model differs"):
        score_users(run, people, tmp_path / "out", HOW)
    (people / "score.json").unlink(missing_ok=True)
    with pytest.raises(ThinkrankError, match="holds Parquet files of something else"):
        score_users(run, people, people, HOW)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"user": ["u1", "nobody"]}, "no user has the id 'nobody'"),
        ({"user": ["u1", None]}, "row 2 has an empty cell: fill its user"),
        ({"user": ["a"], "items": [["i10", None]]}, "row 1 has an empty cell: fill its items"),
        ({"user": ["a"], "items": ["i10"]}, "give a list of item ids in each row"),
        ({"usr": ["a"]}, "no column 'user'"),
    ],
)
def test_a_fault_in_the_input_ends_the_job_and_names_the_row(run, tmp_path, table, told):
    pl.DataFrame(table).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(ThinkrankError, match=told):
        score_users(run, tmp_path / "users.parquet", tmp_path / "out", HOW)
    pl.DataFrame({"user": ["u1"]}).write_parquet(tmp_path / "users.parquet")
    assert score_users(run, tmp_path / "users.parquet", tmp_path / "out", HOW).users == 1  # nobody was answered before


def test_items_that_the_model_lacks_are_counted_over_all_parts(run, tmp_path, caplog):
    table = pl.DataFrame({"user": ["a", "b", "c"], "items": [["i10", "new"], ["new"], ["i11"]]})
    table.write_parquet(tmp_path / "users.parquet")
    with caplog.at_level(logging.WARNING, "thinkrank"):
        score_users(run, tmp_path / "users.parquet", tmp_path / "out", HOW, block=1)
    assert [record.getMessage() for record in caplog.records] == [
        "left 2 of 4 events out of the histories: the model's catalogue lacks their items"
    ]


def test_a_worker_leaves_a_part_that_has_its_file(run, people, tmp_path):
    worker, part = Worker(Job(run, tmp_path, HOW)), next(parts_of(people, 10))
    assert worker(part).answered == 10
    (tmp_path / part.name).write_bytes(b"kept")
    worker(part)
    assert (tmp_path / part.name).read_bytes() == b"kept"


def test_a_plan_counts_users_parts_and_bytes_and_writes_nothing(run, people, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    plan = estimate_users(run, people, HOW, block=50, workers=2)
    assert sorted(tmp_path.rglob("*")) == before
    assert (plan.users, plan.parts, plan.tokens) == (100, 3, 0)
    score_users(run, people, tmp_path / "out", HOW, block=50)
    written = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.parquet"))
    assert 0.6 < plan.disk_bytes / written < 1.7
    assert "50 users for each of 2 workers" in plan.told()


def test_a_plan_counts_the_rows_that_are_known_and_estimates_the_others(run, people, tmp_path):
    lists = pl.read_parquet(people / "b.parquet")
    lists.explode("items").rename({"items": "item"}).drop_nulls().write_csv(people / "c.csv")
    plan = estimate_users(run, people, HOW, block=50)
    unread = (people / "c.csv").stat().st_size / (people / "a.parquet").stat().st_size
    assert plan.users == 100 + round(64 * unread)


def test_a_plan_of_nobody_is_refused(run, tmp_path):
    pl.DataFrame({"user": []}, schema={"user": pl.String}).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(ThinkrankError, match="holds no user"):
        estimate_users(run, tmp_path / "users.parquet", HOW)


def test_the_bar_moves_inside_of_a_part(run, people, tmp_path):
    moved = []

    @contextmanager
    def seen(title, total):
        moved.append((title, total))
        yield lambda done=1, note="": moved.append(done)

    score_users(run, people, tmp_path / "out", HOW, block=1000, progress=seen)
    whole = moved[0][1]
    assert moved[0][0] == "answering"
    assert sum(moved[1:]) == whole > 64
    assert max(moved[1:]) <= 64 < len(people_of(people))
    moved.clear()
    pl.DataFrame({"user": ["u1"] * 70, "item": ["i10"] * 70}).write_csv(tmp_path / "events.csv")
    score_users(run, tmp_path / "events.csv", tmp_path / "other", HOW, progress=seen)
    assert moved[0] == ("answering", 0)  # nobody has counted who is in a CSV


def people_of(folder):
    return pl.read_parquet(folder / "*.parquet")["user"].unique().to_list()
