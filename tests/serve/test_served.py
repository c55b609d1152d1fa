"""A run's folder becomes what is served: it answers as the run does, with the users of its data and what they chose."""

import importlib
import json
import sys
import tomllib

import pytest
import tomli_w

from recipes.test_answering import ITEMS, write_events
from thinkrank.data import load_dataset, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.language import GenerationOptions, LoraOptions
from thinkrank.recipes.answering import recommend
from thinkrank.recipes.opening import opened
from thinkrank.retrieve import ItemKNN, R2ec, R2ecConfig
from thinkrank.serve import open_served

OWN = """
import json

import numpy as np

from thinkrank.retrieve import ItemKNN
from thinkrank.stages.order import top_k


class Neighbours(ItemKNN):
    kind = "served_here:Neighbours"


class Newest:
    '''Recommend the items beside the newest one, by their rows alone.'''

    def fit(self, split):
        return self

    def retrieve(self, requests, k, *, filter_seen=True):
        newest = np.array([history.items[-1] for history in requests.histories])
        scores = -np.abs(np.arange(10)[None] - newest[:, None]).astype(np.float32)
        return top_k(scores, requests.histories, k, filter_seen=filter_seen)

    def save_pretrained(self, folder):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"format": 2, "kind": "served_here:Newest", "config": {}}))

    @classmethod
    def from_pretrained(cls, folder):
        return cls()
"""


def shop_of(folder, items=ITEMS):
    """Write a shop in which everyone takes five neighbours in order."""
    return write_events(folder, items, users=40, far=lambda step: step)


def run_of(folder, shop, model, **tables):
    """Write the folder of a run that trained this model on a shop."""
    model.save_pretrained(folder / "model")
    settings = {"data": {"source": "table", "path": str(shop)}, "training": {}, "model": {"backbone": "tiny"}}
    (folder / "config.toml").write_text(tomli_w.dumps(settings | tables))
    return folder


def test_users_and_reasons_are_served_though_the_data_has_got_a_new_item(tmp_path, caplog):
    shop = shop_of(tmp_path / "shop")
    run = run_of(tmp_path / "run", shop, ItemKNN().fit(split_dataset(load_dataset("table", shop))))
    before = open_served(run)
    shop_of(tmp_path / "shop", ["a-new-one", *ITEMS])  # whose row comes first
    with (shop / "interactions.csv").open("a") as file:
        file.write("u3,a-new-one,1700000000\n")
    served = open_served(run)
    caplog.clear()
    ids = [served.catalogue.ids[row] for row in served.known_history("u3").items]
    assert not caplog.messages  # nobody's history is logged
    assert ids == ["i13", "i14", "i15", "i16", "i17"]  # without what the model does not know
    found = served.cascade.recommend([served.known_history("u3")], 3)
    assert found.ranking.items_BK.tolist() == recommend(run, user="u3", k=3).ranking.items_BK.tolist()
    past = served.known_history("u3")
    said, expected = (
        [[reason.text for reason in one.reasons.reasons(past, item)] for item in range(10)] for one in (served, before)
    )
    assert said == expected
    texts = [(item, text) for item, of in enumerate(said) if item not in past.items for text in of]
    assert texts
    assert all(served.checker.check(text, past, item).may_be_shown for item, text in texts)


@pytest.mark.parametrize(("thinking", "think"), [(None, "never"), (0.01, "never"), (0.05, "always")])
def test_it_thinks_where_the_command_line_would(tmp_path, thinking, think):
    shop = shop_of(tmp_path / "shop")
    config = R2ecConfig(backbone="tiny", dtype="float32", lora=LoraOptions(rank=2))
    catalogue = load_dataset("table", shop).catalogue
    run = run_of(tmp_path / "run", shop, R2ec.create(config, catalogue, device="cpu"))
    row = {"step": 1, "valid_ndcg@10": 0.03} | ({} if thinking is None else {"valid_thinking_ndcg@10": thinking})
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    served = open_served(run, device="cpu")
    assert served.can_think
    assert served.cascade.config.think == think
    assert opened(run, "retrieve").mode(None).think == (think == "always")


@pytest.mark.parametrize("learnt", [True, False])
def test_a_late_reader_thinks_where_it_learnt_to(tmp_path, learnt):
    shop = shop_of(tmp_path / "shop")
    lora, thought = LoraOptions(rank=2, top_layers=1), GenerationOptions(max_new_tokens=4)
    config = R2ecConfig(
        backbone="tiny", dtype="float32", reading="late", lora=lora, thought=thought, learnt_thoughts=learnt
    )
    model = R2ec.create(config, load_dataset("table", shop).catalogue, device="cpu")
    run = run_of(tmp_path / "run", shop, model)
    row = {"step": 1, "valid_ndcg@10": 0.03} | ({"valid_thinking_ndcg@10": 0.05} if learnt else {})
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    served = open_served(run, device="cpu")
    assert served.can_think == learnt
    found = served.cascade.recommend([["i10", "i11"]], 3).ranking
    expected = recommend(run, titles=["i10", "i11"], k=3, device="cpu").ranking
    assert found.items_BK.tolist() == expected.items_BK.tolist()
    written = None if found.thoughts is None else found.thoughts[0].text
    assert written == (expected.thoughts[0].text if learnt else None)
    assert opened(run / "model", "retrieve").mode(None).think == learnt


def test_a_run_of_a_class_of_ones_own_is_served(tmp_path, monkeypatch):
    (tmp_path / "served_here.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("served_here")
    shop = shop_of(tmp_path / "shop")
    for name in ("Neighbours", "Newest"):  # the latter keeps no catalogue of its own
        model = getattr(mine, name)().fit(split_dataset(load_dataset("table", shop)))
        run = run_of(tmp_path / name, shop, model, retriever={"class": f"served_here:{name}", "options": {}})
        served = open_served(run)
        assert type(served.stages["retrieve"]) is getattr(mine, name)
        assert len(served.version) == 12
        expected = recommend(run, titles=["i10", "i11"], k=3).ranking.items_BK.tolist()
        assert served.cascade.recommend([["i10", "i11"]], 3).ranking.items_BK.tolist() == expected


def test_a_folder_alone_never_says_what_code_is_run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"format": 2, "kind": "this:s", "config": {}}))
    with pytest.raises(ThinkrankError, match="a folder alone never says what code is run"):
        open_served(tmp_path)
    with pytest.raises(ThinkrankError, match="a folder alone never says what code is run"):
        recommend(tmp_path, titles=["i10"])
    assert "this" not in sys.modules


def test_without_its_data_a_run_still_knows_whether_things_are_taken_again(tmp_path):
    shop = shop_of(tmp_path / "shop")
    dataset = load_dataset("table", shop)
    run = run_of(tmp_path / "run", shop, ItemKNN().fit(split_dataset(dataset)))
    settings = tomllib.loads((run / "config.toml").read_text())
    settings["data"]["repeats"] = True
    (run / "config.toml").write_text(tomli_w.dumps(settings))
    shop.rename(tmp_path / "elsewhere")
    served = open_served(run)
    assert (served.dataset, served.repeats) == (None, True)


def test_data_that_has_moved_is_served_from_where_it_is_now(tmp_path):
    shop = shop_of(tmp_path / "shop")
    run = run_of(tmp_path / "run", shop, ItemKNN().fit(split_dataset(load_dataset("table", shop))))
    shop.rename(tmp_path / "elsewhere")
    served = open_served(run, path=str(tmp_path / "elsewhere"))
    assert len(served.known_history("u3")) == 5
    assert served.reasons is not None
    with pytest.raises(ThinkrankError, match="shop: no such file or folder"):
        open_served(run, path=str(shop))
