"""What is published: the files of a saved stage and a card, in one commit to a hub that speaks the real protocol."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from cli.test_cli import thinkrank
from thinkrank import load, load_dataset, push_to_hub
from thinkrank.data import split_dataset
from thinkrank.data.sources import LIST_SOURCES, SOURCES
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_retrieval
from thinkrank.evaluate.results import write_results
from thinkrank.recipes.hub import model_card
from thinkrank.recipes.licences import DATA
from thinkrank.retrieve import Fused, ItemKNN, Popularity, R2ec, R2ecConfig
from thinkrank.training import Run


class Server(ThreadingHTTPServer):
    """Keeps what it was sent: requests for repositories, and files by their paths."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.made: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"


class Hub(BaseHTTPRequestHandler):
    """Takes what a hub is sent when a model is published; every file travels inside the commit."""

    server: Server
    refuses = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if self.refuses:
            return self.answer({"error": "no"}, 403)
        if path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            return self.answer({"url": f"{self.server.address}/me/model"})
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            told = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self.answer({"files": told})
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.answer({"commitUrl": f"{self.server.address}/me/model/commit/0", "commitOid": "0" * 40})
        assert path == "/api/validate-yaml", path
        return self.answer({"errors": [], "warnings": []})

    def answer(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *told):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = Server()
    monkeypatch.setattr(Hub, "refuses", False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def split():
    return split_dataset(load_dataset("synthetic", users=40, items=60, events=20))


@pytest.fixture(scope="module")
def run(split, tmp_path_factory):
    """A run's folder as `thinkrank train` and `thinkrank evaluate` leave it, with a fused model of two parts."""
    tmp_path = tmp_path_factory.mktemp("runs")
    Run(tmp_path / "films", {"data": {"source": "movielens-100k"}}, {})
    reader = R2ec.create(R2ecConfig(backbone="tiny"), split.dataset.catalogue)
    model = Fused({"popularity": Popularity().fit(split), "R²ec": reader}).fit(split)
    model.save_pretrained(tmp_path / "films" / "model")
    evaluation = evaluate_retrieval({"fused": model}, split.test.subset(20, seed=0))
    write_results(tmp_path / "films" / "results.json", evaluation.rows(dataset="films", split="test", seeds={}))
    return tmp_path / "films"


def test_what_was_published_loads_and_answers_as_before(run, split, hub, tmp_path):
    address = push_to_hub(run, "me/model", token="a token", endpoint=hub.address)
    assert address.endswith("me/model")
    assert "private" in {*hub.made[0], *map(str, hub.made[0].values())}
    for name, content in hub.files.items():
        file = tmp_path / "downloaded" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    asked = [split.test[0].history]
    ours, theirs = (load(folder).retrieve(asked, k=5) for folder in (run, tmp_path / "downloaded"))
    assert ours.items_BK.tolist() == theirs.items_BK.tolist()
    assert not [name for name in hub.files if "results" in name or "metrics" in name]


def test_the_command_uploads_what_its_dry_run_shows(run, hub, monkeypatch, tmp_path):
    shown = thinkrank("push", str(run), "me/model", "--dry-run", "--json", "--endpoint", hub.address)
    told = json.loads(shown.stdout)
    assert not hub.made  # no hub was asked
    monkeypatch.setenv("HF_TOKEN", "a token")
    done = thinkrank("push", str(run), "me/model", "--endpoint", hub.address)
    assert (done.returncode, done.stdout.strip()) == (0, f"{hub.address}/me/model")
    assert {name: len(content) for name, content in hub.files.items()} == told["files"]
    assert hub.files["README.md"].decode() == told["card"]
    for_people = thinkrank("push", str(run), "me/model", "--dry-run").stdout
    assert all(name in for_people for name in hub.files)
    assert told["terms"] in for_people
    absent = thinkrank("push", str(tmp_path / "none"), "me/model")
    assert (absent.returncode, "there is no such folder" in absent.stderr) == (2, True)


def test_the_card_has_figures_data_and_licences(run, hub):
    push_to_hub(run, "me/model", token="a token", endpoint=hub.address)
    card = hub.files["README.md"].decode()
    _, front, text = card.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["library_name"] == "thinkrank"
    (model,) = facts["model-index"]
    metrics = {metric["type"]: metric["value"] for result in model["results"] for metric in result["metrics"]}
    rows = {row["metric"]: row["value"] for row in json.loads((run / "results.json").read_bytes())}
    assert metrics["ndcg@10"] == pytest.approx(rows["ndcg@10"])
    assert "no redistribution and no commercial use without permission of GroupLens" in text
    assert f"{rows['ndcg@10']:.4f}".lstrip("0")[:4] in text


def test_a_stage_alone_has_a_card_without_figures_and_its_base_models_licence(split, tmp_path):
    config = R2ecConfig(backbone="tiny")
    R2ec.create(config, split.dataset.catalogue).save_pretrained(tmp_path / "r2ec")
    header = json.loads((tmp_path / "r2ec" / "config.json").read_bytes())
    header["config"]["backbone"] = "smollm2"
    (tmp_path / "r2ec" / "config.json").write_text(json.dumps(header))
    card = model_card(tmp_path / "r2ec")
    facts = yaml.safe_load(card.split("---\n")[1])
    assert facts["license"] == "apache-2.0"
    assert facts["base_model"] == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert "An R²ec retriever" in card
    assert "## Figures" not in card
    ItemKNN().fit(split).save_pretrained(tmp_path / "knn")
    assert "# A stage of thinkrank of kind item-knn" in model_card(tmp_path / "knn")


def test_public_data_that_may_not_be_passed_on_is_told_and_refusals_are_one_line(run, hub, caplog, monkeypatch):
    push_to_hub(run, "me/model", private=False, token="a token", endpoint=hub.address)
    assert "for all to read; the data's terms: research only" in caplog.text
    with pytest.raises(ThinkrankError, match=r"'model' is not the name of a repository: give owner/name"):
        push_to_hub(run, "model")
    monkeypatch.setattr(Hub, "refuses", True)
    with pytest.raises(ThinkrankError, match=r"^me/model: the hub did not take it: .*403"):
        push_to_hub(run, "me/model", token="a token", endpoint=hub.address)


def test_every_source_but_ones_own_tables_has_terms():
    assert {*SOURCES, *LIST_SOURCES} - {"table"} <= DATA.keys()


def test_a_prepared_folder_has_the_terms_of_the_source_it_was_made_from(split, tmp_path):
    Run(tmp_path, {"data": {"source": "/somewhere/prepared"}}, {"split": {"source": {"source": "movielens-100k"}}})
    ItemKNN().fit(split).save_pretrained(tmp_path / "model")
    assert "without permission of GroupLens" in model_card(tmp_path / "model", tmp_path)
