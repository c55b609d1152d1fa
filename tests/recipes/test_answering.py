"""What a run is asked, it answers by item id, one user or all, and in the way that validation found better."""

import json
import logging

import numpy as np
import polars as pl
import pytest
import tomli_w

from thinkrank.cascade import Cascade
from thinkrank.data import History, load_dataset, load_impressions, split_dataset
from thinkrank.data.candidate_lists import read_candidate_lists
from thinkrank.errors import ThinkrankError
from thinkrank.language import GenerationOptions, LoraOptions
from thinkrank.pretrained import FORMAT
from thinkrank.recipes import Layers, Preset, reporting, retrieval
from thinkrank.recipes.answering import rank_pairs, recommend, recommend_many, rerank_lists
from thinkrank.recipes.data import DataSettings, moved
from thinkrank.recipes.opening import opened
from thinkrank.recipes.retrieval import retrieve_settings
from thinkrank.rerank import Pointwise, train_network
from thinkrank.retrieve import ItemKNN, R2ec, R2ecConfig

ITEMS = [f"i{number}" for number in range(10, 20)]


def write_events(folder, items=ITEMS, *, users=12, far=lambda step: step * step):
    """Write a shop in which each user takes five items, so far from the first one."""
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text("item,title\n" + "".join(f"{item},Wine {item}\n" for item in items))
    rows = [
        f"u{user},{ITEMS[(user + far(step)) % 10]},{1_600_000_000 + 1000 * user + step}\n"
        for user in range(users)
        for step in range(5)
    ]
    (folder / "interactions.csv").write_text("user,item,timestamp\n" + "".join(rows))
    return folder


@pytest.fixture
def run(tmp_path):
    """The folder of a run that trained item-kNN on a shop."""
    shop, folder = write_events(tmp_path / "shop"), tmp_path / "run"
    ItemKNN().fit(split_dataset(load_dataset("table", shop))).save_pretrained(folder / "model")
    config = {"data": {"source": "table", "path": str(shop)}, "training": {"steps": 1}}
    (folder / "config.toml").write_text(tomli_w.dumps(config))
    return folder


def test_histories_cross_into_the_model_by_id_and_a_notice_says_what_it_lacks(run, tmp_path, caplog):
    before = recommend(run, user="u3", k=10, filter_seen=False).table()
    write_events(tmp_path / "shop", [item for item in ITEMS if item != "i10"] + ["a-new-one"])
    after = recommend(run, user="u3", k=10, filter_seen=False)
    assert before.equals(after.table())
    write_events(tmp_path / "shop", ["a-new-one", *ITEMS])
    (tmp_path / "shop" / "interactions.csv").write_text("user,item,timestamp\nu3,a-new-one,5\nu3,i12,6\n")
    with caplog.at_level(logging.WARNING, "thinkrank"):
        told = recommend(run, user="u3")
    assert [told.catalogue.ids[row] for row in told.history.items] == ["i12"]
    assert "left 1 of 2 events out of the histories" in caplog.text
    assert "'a-new-one'" in caplog.text


def test_all_users_are_answered_as_one_by_one(run):
    table = recommend_many(run, "all", k=3)
    assert table.columns == ["user", "place", "item", "title", "score"]
    assert table["user"].n_unique() == 12
    for user in ("u0", "u7"):
        alone = recommend(run, user=user, k=3).table().select("place", "item", "title", "score")
        assert table.filter(pl.col("user") == user).drop("user").equals(alone)


def test_users_of_a_file_and_new_users_with_their_own_histories_are_answered(run, tmp_path):
    (tmp_path / "some.csv").write_text("user\nu7\nu2\n")
    some = recommend_many(run, tmp_path / "some.csv", k=2)
    assert some["user"].to_list() == ["u7", "u7", "u2", "u2"]
    (tmp_path / "new.csv").write_text("user,item,timestamp\nanna,i13,200\nanna,i11,100\nbert,nothing,5\n")
    new = recommend_many(run, tmp_path / "new.csv", k=2)
    typed = recommend(run, titles=["i11", "i13"], k=2).table()
    assert new.filter(pl.col("user") == "anna")["item"].to_list() == typed["item"].to_list()
    assert new.filter(pl.col("user") == "bert").height == 2  # of an empty history


def test_reasons_stand_beside_each_item(run, tmp_path):
    rows = [  # five pairs of wines, each liked by its own twenty people
        f"v{user},{ITEMS[2 * (user % 5) + step]},{1_600_000_000 + 1000 * user + step}\n"
        for user in range(100)
        for step in range(2)
    ]
    (tmp_path / "shop" / "interactions.csv").write_text("user,item,timestamp\n" + "".join(rows))
    table = recommend_many(run, "all", k=10, reasons=True, filter_seen=False)
    assert table.columns[-3:] == ["reason", "reason_claims_checked", "reason_claims_true"]
    assert (table["reason_claims_checked"] == table["reason_claims_true"]).all()
    assert ((table["reason"] == "") == (table["reason_claims_checked"] == 0)).all()
    explained = table.filter(pl.col("user") == "v0", pl.col("reason").str.len_chars() > 0)
    assert set(explained["item"]) == {ITEMS[0], ITEMS[1]}


def test_who_asks_is_told_before_the_model_is_loaded(run):
    (run / "model" / "model.safetensors").write_bytes(b"")
    asked = []
    with pytest.raises(ThinkrankError, match="damaged"):
        recommend(run, user="u3", begin=asked.append)
    assert len(asked[0].history) == 5


def test_everything_that_may_take_long_is_shown(run, shown):
    recommend(run, user="u3", progress=shown)
    assert shown == ["loading the run", "loading the model", "answering"]
    shown.clear()
    recommend_many(run, "all", progress=shown)
    assert shown == ["loading the run", "answering"]


def test_data_that_moved_is_found_by_its_path(run, tmp_path):
    before = recommend(run, user="u3").table()
    (tmp_path / "shop").rename(tmp_path / "elsewhere")
    with pytest.raises(ThinkrankError, match="no such file"):
        recommend(run, user="u3")
    assert recommend(run, user="u3", path=str(tmp_path / "elsewhere")).table().equals(before)


def test_files_that_moved_are_found_in_the_folder_they_are_in_now(run, tmp_path):
    before = recommend(run, user="u3").table()
    named = {role: str(tmp_path / "shop" / f"{role}.csv") for role in ("interactions", "items")}
    config = {"data": {"source": "table", "options": {**named, "interactions": [named["interactions"]]}}}
    (run / "config.toml").write_text(tomli_w.dumps(config))
    (tmp_path / "shop").rename(tmp_path / "elsewhere")
    assert recommend(run, user="u3", path=str(tmp_path / "elsewhere")).table().equals(before)


def test_a_retriever_ranks_a_first_stages_lists(run, tmp_path, shown):
    (tmp_path / "pairs.csv").write_text("user,item,score\nu3,i12,.5\nu3,i11,.9\nu1,i15,.1\n")
    table = rank_pairs(run, read_candidate_lists(tmp_path / "pairs.csv"), progress=shown)
    assert shown == ["loading the run", "ranking"]
    assert table.select("request", "user", "shown_at").rows()[0][:2] == (0, "u3")
    assert table["request"].to_list() == [0, 0, 1]


@pytest.mark.parametrize(
    ("kind", "verb", "told"),
    [
        ("eglr", "retrieve", "holds a re-ranker, no retriever: ask it with `thinkrank rerank`"),
        ("r2rank", "retrieve", "holds a ranker, no retriever: ask it with `thinkrank rank`"),
        ("r2ec", "rerank", "holds a retriever, no re-ranker: ask it with `thinkrank recommend`"),
        ("eglr", "rank", "holds a re-ranker, no ranker"),
        ("cascade", "rank", "holds a cascade, no ranker: ask it with `thinkrank recommend`"),
    ],
)
def test_a_run_of_another_stage_is_named_with_the_command_that_asks_it(tmp_path, kind, verb, told):
    write_config(tmp_path / "model", kind)
    with pytest.raises(ThinkrankError, match=told):
        opened(tmp_path, verb)


def test_a_training_that_has_not_finished_is_told_from_none(tmp_path):
    with pytest.raises(ThinkrankError, match="no trained retriever here"):
        opened(tmp_path, "retrieve")
    (tmp_path / "config.toml").write_text("[training]\nsteps = 1\n")
    with pytest.raises(ThinkrankError, match="has not finished"):
        opened(tmp_path, "retrieve")


@pytest.mark.parametrize(("keep", "thinks"), [("best", False), ("last", True)])
def test_the_better_way_is_that_of_the_weights_that_were_kept(tmp_path, keep, thinks):
    write_config(tmp_path / "model", "r2ec", {"reading": "text"})
    (tmp_path / "config.toml").write_text(f'[training]\nsteps = 200\nkeep = "{keep}"\n')
    rows = [(100, 0.06, 0.03), (200, 0.05, 0.055)]  # the first is the best by the quick answer, which chooses
    log = [{"step": step, "valid_ndcg@10": plain, "valid_thinking_ndcg@10": after} for step, plain, after in rows]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    assert opened(tmp_path, "retrieve").mode(None).think == thinks


@pytest.mark.parametrize(("keep", "told"), [("best", 0.04), ("last", 0.05)])
def test_what_validation_said_is_told_of_the_weights_that_were_kept(keep, told):
    layers = Layers(source="table", assignments=[f"training.keep={keep}"])
    rows = [(100, 0.06, 0.03), (200, 0.04, 0.07), (300, 0.05, 0.05)]  # answers after a thought choose
    log = [{"step": step, "valid_thinking_ndcg@10": after, "valid_ndcg@10": plain} for step, plain, after in rows]
    settings = retrieve_settings(Preset.thinkrank, layers)
    (one,) = retrieval.RECIPE.validations(settings, {"Contrastive training": log})
    assert (one.value, one.label) == (told, f"{keep} validation NDCG@10")
    first, _ = retrieval.RECIPE.validations(settings, {"Warm start": log, reporting.RECPO: log})
    assert (first.value, first.label) == (told, f"{keep} validation NDCG@10")


@pytest.mark.parametrize(
    ("thinking", "plain", "better"),
    [([0.01, 0.05], [0.03, 0.04], True), ([0.05, 0.01], [0.06, 0.01], False), ([], [0.02], False)],
)
def test_it_answers_in_the_way_that_validation_found_better_and_says_so(tmp_path, thinking, plain, better):
    write_config(tmp_path / "model", "r2ec", {"reading": "text", "prompt": {"history_window": 7}})
    (tmp_path / "config.toml").write_text("[training]\nsteps = 1\n")
    log = [
        {"step": step, "valid_ndcg@10": without} | ({"valid_thinking_ndcg@10": thinking[step]} if thinking else {})
        for step, without in enumerate(plain)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    run = opened(tmp_path, "retrieve")
    mode = run.mode(None)
    assert (mode.think, run.window) == (better, 7)
    assert ("validation NDCG@10" in mode.told) == bool(thinking)
    assert run.mode(not better).think is not better


def test_what_cannot_think_is_not_asked_to(run):
    with pytest.raises(ThinkrankError, match="writes no thoughts"):
        recommend(run, user="u3", think=True)
    with pytest.raises(ThinkrankError, match="no thoughts that a temperature could change"):
        recommend(run, user="u3", temperature=0.5)


def test_displayed_lists_are_answered_under_their_ids_without_feedback(tmp_path, shown):
    model = Pointwise()
    (tmp_path / "old").mkdir()
    rows = [
        f"{number},u{number % 3},i{item},{item},{100 + number},{int(item == 0)}"
        for number in range(8)
        for item in range(3)
    ]
    (tmp_path / "old" / "lists.csv").write_text("list,user,item,position,time,click\n" + "\n".join(rows) + "\n")
    train_network(model, load_impressions("table", tmp_path / "old").split())
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "new").mkdir()
    new = (
        "list,user,item,position,time\nB,u1,i1,1,900\nB,u1,i0,2,900\nalone,u2,i2,1,700\nA,u1,i2,1,800\nA,u1,i9,2,800\n"
    )
    (tmp_path / "new" / "lists.csv").write_text(new)
    table = rerank_lists(tmp_path, "table", tmp_path / "new", {}, k=10**9, progress=shown)
    assert shown == ["loading the run", "reading the data", "re-ranking"]
    assert table["list"].unique(maintain_order=True).to_list() == ["B", "alone", "A"]
    assert table["request"].to_list() == [0, 0, 1, 2, 2]
    with pytest.raises(ThinkrankError, match="a Pointwise has no evaluator that could pick one of 2 lists"):
        rerank_lists(tmp_path, "table", tmp_path / "new", {}, samples=2)


def test_a_history_of_another_catalogue_is_read_by_id_in_python_too(run, tmp_path):
    model = ItemKNN.from_pretrained(run / "model")
    other = load_dataset("table", write_events(tmp_path / "other", ["a0", *ITEMS]))
    rows = other.history("u3").items
    expected = model.retrieve([[other.catalogue.ids[row] for row in rows]], 3)
    assert model.retrieve([other.history("u3")], 3).items_BK.tolist() == expected.items_BK.tolist()
    with pytest.raises(ThinkrankError, match="holds item 10"):
        model.retrieve([History(rows)], 3)  # which says nothing of whose rows they are


def write_config(folder, kind, config=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"kind": kind, "format": FORMAT, "config": config or {}}))


def test_drawn_thoughts_of_many_are_those_of_each_asked_alone(tmp_path):
    shop = write_events(tmp_path / "shop")
    dataset = load_dataset("table", shop)
    thought = GenerationOptions(max_new_tokens=4)
    config = R2ecConfig(backbone="tiny", dtype="float32", lora=LoraOptions(rank=2), thought=thought)
    R2ec.create(config, dataset.catalogue, device="cpu").save_pretrained(tmp_path / "run" / "model")
    settings = {"data": {"source": "table", "path": str(shop)}, "training": {"steps": 1}}
    (tmp_path / "run" / "config.toml").write_text(tomli_w.dumps(settings))
    (tmp_path / "who.csv").write_text("user\nu1\nu2\nu3\n")
    for temperature in (None, 1.0):
        options = {"k": 3, "think": True, "temperature": temperature}
        many = recommend_many(tmp_path / "run", tmp_path / "who.csv", every_text=True, **options)
        for user in ("u1", "u3"):
            alone = recommend(tmp_path / "run", user=user, **options)
            mine = many.filter(pl.col("user") == user)
            assert set(mine["thought"]) == {alone.ranking.thoughts[0].text}
            assert mine["item"].to_list() == alone.table()["item"].to_list()
            np.testing.assert_allclose(mine["score"], alone.table()["score"], rtol=1e-4, atol=1e-5)


def test_a_cascade_that_thinks_answers_many_as_one_and_takes_no_temperature(tmp_path):
    shop, run = write_events(tmp_path / "shop"), tmp_path / "run"
    thought = GenerationOptions(max_new_tokens=4, temperature=1.0)
    config = R2ecConfig(backbone="tiny", dtype="float32", lora=LoraOptions(rank=2), thought=thought)
    Cascade(R2ec.create(config, load_dataset("table", shop).catalogue, device="cpu")).save_pretrained(run / "model")
    settings = {
        "data": {"source": "table", "path": str(shop)},
        "training": {},
        "cascade": {},
        "model": {"backbone": "tiny"},
    }
    (run / "config.toml").write_text(tomli_w.dumps(settings))
    (tmp_path / "who.csv").write_text("user\nu1\nu2\nu3\n")
    for think in (True, None):
        many = recommend_many(run, tmp_path / "who.csv", k=3, think=think, every_text=True)
        for user in ("u1", "u3"):
            alone = recommend(run, user=user, k=3, think=think)
            mine = many.filter(pl.col("user") == user)
            assert set(mine["thought"]) == {alone.ranking.thoughts[0].text}
            assert mine["item"].to_list() == alone.table()["item"].to_list()
    with pytest.raises(ThinkrankError, match="thinks at its own temperature; leave --temperature out"):
        recommend(run, user="u1", temperature=0.9)


def test_a_prepared_data_set_may_have_moved_too(tmp_path):
    prepared = load_dataset("table", write_events(tmp_path / "shop"))
    prepared.save(tmp_path / "here")
    data = DataSettings(source=str(tmp_path / "gone"))
    assert moved(data, None) is data
    assert moved(data, tmp_path / "here").load().fingerprint == prepared.fingerprint
    with pytest.raises(ThinkrankError, match="is no prepared data set"):
        moved(data, tmp_path / "shop")
    with pytest.raises(ThinkrankError, match="no such file or folder"):
        moved(data, tmp_path / "nowhere")
    raw = DataSettings(source="table", path=str(tmp_path / "gone"))
    assert moved(raw, tmp_path / "shop").load().fingerprint == prepared.fingerprint
