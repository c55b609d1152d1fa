"""A stage of one's own, in a module where the command line is called, and its way through all commands."""

import json

import polars as pl
import pytest

from cli.test_cli import WINES, thinkrank, write_shop
from cli.test_cli_rerank import WORLD

RETRIEVER = '''
import numpy as np

from thinkrank.stages.order import top_k


class Following:
    """Recommend what others took after the newest item, counted."""

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def fit(self, split):
        num_items = len(split.dataset.catalogue)
        self.counts = np.full((num_items, num_items), self.smoothing, dtype=np.float32)
        for history in split.train_histories():
            np.add.at(self.counts, (history.items[:-1], history.items[1:]), 1)

    def retrieve(self, requests, k, *, filter_seen=True):
        newest = [history.items[-1] for history in requests.histories]
        return top_k(self.counts[newest], requests.histories, k, filter_seen=filter_seen)

    def save_pretrained(self, folder):
        np.save(folder / "counts.npy", self.counts)

    @classmethod
    def from_pretrained(cls, folder):
        model = cls()
        model.counts = np.load(folder / "counts.npy")
        return model
'''

RANKER = '''
import json

import numpy as np

from thinkrank.stages.order import order_candidates


class Newest:
    """Rank by how near in the catalogue an item is to the newest one, and log that it was trained."""

    def train(self, split, run):
        run.log({"step": 1, "loss": 0.5})

    def rank(self, requests, candidates):
        newest = np.array([history.items[-1] for history in requests.histories])
        return order_candidates(candidates, -np.abs(candidates.items_BN - newest[:, None]).astype(np.float32))

    def save_pretrained(self, folder):
        (folder / "config.json").write_text(json.dumps({"format": 2, "kind": "newest", "config": {}}))

    @classmethod
    def from_pretrained(cls, folder, *, device="auto"):
        assert device == "cpu"
        return cls()
'''

RERANKER = """
from thinkrank.stages.order import order_candidates


class Reversed:
    def fit(self, split):
        assert len(split.train)

    def rerank(self, requests, candidates, k):
        return order_candidates(candidates, candidates.mask_BN.cumsum(axis=1).astype("float32"), k)

    def save_pretrained(self, folder):
        pass

    @classmethod
    def from_pretrained(cls, folder):
        return cls()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with modules, a shop, and a run of each class."""
    folder = tmp_path_factory.mktemp("own")
    for name, code in (("mine", RETRIEVER), ("ours", RANKER), ("theirs", RERANKER)):
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    write_shop(folder, WINES)
    return folder


def do(place, *arguments):
    done = thinkrank(*arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def retrieving(place):
    command = ["train", "retrieve", "table", "--path", ".", "--out", "run"]
    command += ["--set", "retriever.class=mine:Following", "--set", "retriever.options.smoothing=0.5"]
    return command, do(place, *command)


def test_a_retriever_of_twenty_lines_is_trained_kept_and_reported(place, retrieving):
    command, done = retrieving
    assert done.stdout == f"the model is in {'run/model'}\nreport: {'run/report.html'}\n"
    config = (place / "run" / "config.toml").read_text(encoding="utf-8")
    assert '[retriever]\nclass = "mine:Following"\n\n[retriever.options]\nsmoothing = 0.5\n' in config
    page = (place / "run" / "report.html").read_text(encoding="utf-8")
    assert f"Following on {place.name}" in page
    assert "mine:Following, smoothing 0.5" in page
    assert "reusing it" in do(place, *command).stderr
    other = thinkrank(*command, "--set", "retriever.options.smoothing=1.0", cwd=place)
    assert "its retriever.options.smoothing is 0.5, not 1.0" in other.stderr


def test_it_is_evaluated_beside_the_usual_baselines(place, retrieving):
    done = do(place, "evaluate", "run", "--samples", "40")
    rows = json.loads((place / "run" / "results.json").read_text(encoding="utf-8"))
    figures = {row["system"]: row["value"] for row in rows if row["metric"] == "hit@5"}
    assert set(figures) == {"popularity", "item-kNN", "Following"}
    assert figures["Following"] == 1.0 > figures["popularity"]  # everyone walks through the wines in order
    assert "Following" in done.stdout
    compared = json.loads((place / "run" / "comparisons.json").read_text(encoding="utf-8"))
    assert {row["reference"] for row in compared["comparisons"]} == {"popularity", "item-kNN"}
    assert compared["protocol"]["ties"].startswith("pessimistic")
    assert "Users</h2>" in (place / "run" / "report.html").read_text(encoding="utf-8")
    asked = thinkrank("evaluate", "run", "--think", cwd=place)
    assert asked.returncode == 2
    assert "mine:Following" in asked.stderr


def test_it_recommends(place, retrieving):
    answer = json.loads(do(place, "recommend", "run", "-H", "white wine 1", "-k", "3", "--json").stdout)
    first, second = answer["items"][:2]
    assert (first["item"], first["title"]) == ("w6", "white wine 2")
    assert first["score"] > 10 > second["score"] == 0.5  # the smoothing, as it was given
    assert answer["thought"] is None
    assert "rosé wine" in do(place, "recommend", "run", "--user", "c3", "--seen").stdout
    warm = thinkrank("recommend", "run", "-H", "white wine 1", "--temperature", "1", cwd=place)
    assert "Following writes no thoughts" in warm.stderr
    assert (
        "is a run of `thinkrank train retrieve`, not of rank"
        in thinkrank("rank", "run", str(write_pairs(place)), cwd=place).stderr
    )


def write_pairs(place):
    pairs = place / "pairs.csv"
    pairs.write_text("user,item\nc1,w3\nc1,w9\nc2,w0\n", encoding="utf-8")
    return pairs


def test_a_ranker_with_a_training_of_its_own_goes_the_same_way(place):
    command = ["train", "rank", "table", "--path", ".", "--out", "ranks", "--device", "cpu"]
    do(place, *command, "--set", "ranker.class=ours:Newest", "--set", "candidates.size=4")
    assert json.loads((place / "ranks" / "metrics.jsonl").read_text(encoding="utf-8")) == {"step": 1, "loss": 0.5}
    rows = json.loads(do(place, "evaluate", "ranks", "--samples", "9", "--device", "cpu", "--json").stdout)
    assert list(dict.fromkeys(row["system"] for row in rows)) == ["random", "popularity", "item-kNN", "Newest"]
    do(place, "rank", "ranks", str(write_pairs(place)), "--out", "ranked.parquet", "--device", "cpu")
    table = pl.read_parquet(place / "ranked.parquet")
    assert table["item"].to_list() == ["w9", "w3", "w0"]
    assert table["shown_at"].to_list() == [2, 1, 1]


def test_a_re_ranker_goes_the_same_way(place):
    options = [part for key, value in WORLD.items() for part in ("-o", f"{key}={value}")]
    command = ["train", "rerank", "synthetic", "--out", "lists", *options]
    do(place, *command, "--set", "reranker.class=theirs:Reversed")
    systems = {row["system"] for row in json.loads((place / "lists" / "results.json").read_text(encoding="utf-8"))}
    assert systems == {"displayed order", "best possible order", "Reversed"}
    rows = json.loads(do(place, "evaluate", "lists", "--samples", "20", "--json").stdout)
    assert {row["n"] for row in rows if row["metric"] == "ndcg@10"} == {20}


@pytest.mark.parametrize(
    ("assignments", "fault"),
    [
        (["retriever.class=nowhere:Thing"], "nowhere:Thing: cannot be imported"),
        (["retriever.class=mine"], "not a dotted name of the form package.module:Name"),
        (["retriever.class=ours:Newest"], "ours:Newest has no method retrieve"),
        (["retriever.class=mine:Following", "retriever.options.smothing=1"], "unexpected keyword argument 'smothing'"),
        (["retriever.class=mine:Following", "retriever.optoins.x=1"], "did you mean retriever.options?"),
    ],
)
def test_a_class_that_does_not_fit_is_told_in_one_line(place, assignments, fault):
    given = [part for assignment in assignments for part in ("--set", assignment)]
    done = thinkrank("train", "retrieve", "table", "--path", ".", "--out", "other", *given, cwd=place)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert fault in done.stderr
