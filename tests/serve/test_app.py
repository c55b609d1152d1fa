"""What is answered over HTTP, and how faults are told."""

import json

import pytest
from starlette.testclient import TestClient

from serve.conftest import HOSTS, served_thinker
from thinkrank.cascade import Cascade
from thinkrank.errors import ThinkrankError
from thinkrank.rerank import (
    EGLR,
    PRM,
    EGLRConfig,
    EvaluatorOptions,
    GeneratorOptions,
    PRMOptions,
    ReasoningOptions,
    train_network,
)
from thinkrank.rerank.lists import ListEncoderOptions
from thinkrank.retrieve import ItemKNN, Popularity, R2ec, R2ecConfig
from thinkrank.serve import Served, ServeOptions, auth, create_app
from thinkrank.testing import random_lists

ASKED = {"history": ["i00", "Cook book 1"], "k": 3, "think": False}


def test_recommendations_are_those_of_the_cascade_and_tell_how_they_came_about(client, plain):
    answer = client.post("/v1/recommend", json=ASKED).json()
    expected = plain.recommend([["i00", "i01"]], 3, think=False)
    assert [item["item"] for item in answer["items"]] == [plain.catalogue.ids[i] for i in expected.ranking.items_BK[0]]
    assert [item["score"] for item in answer["items"]] == pytest.approx(
        expected.ranking.scores_BK[0].tolist(), abs=1e-4
    )
    assert [item["place"] for item in answer["items"]] == [1, 2, 3]
    assert answer["thought"] is None
    assert [one["title"] for one in answer["history"]] == ["Cook book 0", "Cook book 1"]
    assert answer["model"] == {"name": "thinker", "version": "v1", "stages": {"retrieve": "r2ec"}}
    assert answer["catalogue"]["items"] == 11
    assert [(stage["stage"], stage["tokens"]) for stage in answer["stages"]] == [("retrieve", 0)]
    assert not answer["degraded"]
    assert 0 <= answer["waited_ms"] <= answer["total_ms"]


def test_a_thought_is_written_and_the_same_one_is_kept(client, plain):
    asked = {**ASKED, "think": True}
    first, second = (client.post("/v1/recommend", json=asked).json() for _ in range(2))
    expected = plain.recommend([["i00", "i01"]], 3, think=True)
    assert first["thought"]["text"] == expected.ranking.thoughts[0].text
    assert first["items"] == second["items"]
    assert [item["item"] for item in first["items"]] == [plain.catalogue.ids[i] for i in expected.ranking.items_BK[0]]
    assert first["stages"][0]["tokens"] == len(expected.ranking.thoughts[0].token_ids)
    shown = client.get("/metrics").text
    assert "thinkrank_thoughts_hits 1.0" in shown
    assert 'thinkrank_requests_total{route="/v1/recommend",status="200"} 2.0' in shown


def test_settings_of_thoughts_and_a_thought_of_ones_own_change_the_answer(client):
    asked = {**ASKED, "think": True}
    greedy = client.post("/v1/recommend", json=asked).json()
    short = client.post("/v1/recommend", json={**asked, "max_tokens": 2}).json()
    assert short["thought"]["tokens"] <= 2 < greedy["thought"]["tokens"]
    drawn = [
        client.post("/v1/recommend", json={**asked, "temperature": 2, "seed": seed}).json()["thought"]["text"]
        for seed in (1, 2)
    ]
    assert len({*drawn, greedy["thought"]["text"]}) == 3
    own = client.post("/v1/recommend", json={**ASKED, "think": None, "thought": "films about space"}).json()
    assert own["thought"]["text"] == "films about space"
    assert [item["score"] for item in own["items"]] != [item["score"] for item in greedy["items"]]


def test_a_known_user_has_his_history_and_counted_reasons(client, dataset):
    answer = client.post("/v1/recommend", json={"user": "u003", "k": 20, "think": False}).json()
    past = [dataset.catalogue.ids[row] for row in dataset.history("u003").items]
    assert [one["item"] for one in answer["history"]] == past
    assert answer["user"] == "u003"
    assert not {item["item"] for item in answer["items"]} & set(past)
    reasons = [reason for item in answer["items"] for reason in item["reasons"]]
    assert {reason["source"] for reason in reasons} == {"counted"}
    assert all(claim["true"] for reason in reasons for claim in reason["claims"])
    assert any(reason["claims"] for reason in reasons)
    none = client.post("/v1/recommend", json={"user": "u003", "k": 5, "think": False, "reasons": 0}).json()
    assert not any(item["reasons"] for item in none["items"])


def test_somebody_unknown_is_answered(client):
    assert len(client.post("/v1/recommend", json={"k": 2, "think": False}).json()["items"]) == 2


def test_items_are_left_out_and_seen_ones_let_in(client):
    best = client.post("/v1/recommend", json=ASKED).json()["items"][0]["item"]
    again = client.post("/v1/recommend", json={**ASKED, "exclude": [best]}).json()
    assert best not in [item["item"] for item in again["items"]]
    everything = client.post("/v1/recommend", json={**ASKED, "k": 20, "filter_seen": False}).json()
    assert len(everything["items"]) == 11


def test_a_budget_leaves_something_out_and_says_so(client):
    client.post("/v1/recommend", json={**ASKED, "think": True})  # now it is known what a thought takes
    answer = client.post("/v1/recommend", json={**ASKED, "think": True, "budget_tokens": 1}).json()
    assert answer["degraded"]
    assert answer["left_out"] == ["retriever without a thought"]
    assert answer["thought"] is None


@pytest.mark.parametrize(
    ("status", "asked", "says"),
    [
        (422, {"history": ["i00", "Cook bok 1"]}, "Cook book 1"),
        (422, {"history": ["Cook book"]}, "fits 5 items"),
        (404, {"user": "u03"}, "no user has the id 'u03'"),
        (422, {"k": 0}, "k: Input should be greater than 0"),
        (422, {"k": 1000}, "k: 1000 is more than the 200"),
        (422, {"kk": 1}, "kk: Extra inputs are not permitted"),
        (422, {"history": ["i00"] * 2001}, "2000 may be given"),
        (422, {"exclude": ["nothing"]}, "no item is called 'nothing'"),
        (422, {"max_tokens": 500}, "more than the 256"),
        (422, {"think": "auto"}, "threshold"),
        (422, {"temperature": -1}, "temperature"),
        (422, {"think": False, "thought": "films about space"}, "think is false"),
        (422, {"samples": 4, "thought": "films about space"}, "samples is 4"),
        (422, [1], "valid dictionary"),
    ],
)
def test_a_fault_is_told_in_one_line(client, status, asked, says):
    answer = client.post("/v1/recommend", json=asked)
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_what_a_run_cannot_do_is_told(counting):
    for asked, says in (
        ({"think": True}, "can think"),
        ({"temperature": 1}, "writes"),
        ({"thought": "x"}, "no thought"),
    ):
        answer = counting.post("/v1/recommend", json=asked)
        assert answer.status_code == 422
        assert says in answer.json()["error"]
    assert counting.post("/v1/slates", json={"candidates": [{"item": "i00"}]}).status_code == 409
    assert counting.post("/v1/reload").status_code == 409


def test_a_fault_of_our_own_is_counted_as_one_and_leaves_with_all_headers(dataset, caplog):
    stage = ItemKNN().fit(dataset)
    stage.retrieve = lambda *asked, **options: 1 / 0
    app = create_app(Served.of(stage, dataset=dataset), ServeOptions(hosts=HOSTS))
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/v1/recommend", json=ASKED)
        assert answer.status_code == 500
        assert "the log tells what" in answer.json()["error"]
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert 'thinkrank_requests_total{route="/v1/recommend",status="500"} 1.0' in client.get("/metrics").text
        streamed = client.post("/v1/recommend/stream", json=ASKED).text
    assert "event: fault" in streamed
    assert '"status":500' in streamed.replace(" ", "")
    assert "ZeroDivisionError" in caplog.text


def test_bodies_are_limited_before_they_are_read(thinker, dataset):
    served, options = served_thinker(thinker, dataset, max_body_bytes=1000)
    with TestClient(create_app(served, options)) as client:
        large = client.post("/v1/recommend", content=b"[" * 2000, headers={"content-type": "application/json"})
        assert large.status_code == 413

        def pieces():
            for _ in range(20):
                yield b"[" * 100

        streamed = client.post("/v1/recommend", content=pieces(), headers={"content-type": "application/json"})
        assert streamed.status_code == 413
        assert client.post("/v1/recommend", json=ASKED).status_code == 200


def test_only_json_of_the_own_host_is_heard(client):
    form = client.post("/v1/recommend", content=json.dumps(ASKED), headers={"content-type": "text/plain"})
    assert form.status_code in (415, 422)
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/healthz", headers={"host": "localhost:8000"}).status_code == 200
    assert client.post("/v1/recommend", content=b"{", headers={"content-type": "application/json"}).status_code == 422


def test_keys_open_the_server_and_nothing_else_does(thinker, dataset):
    key = auth.new_key()
    served, options = served_thinker(thinker, dataset, key_hashes=(auth.hash_of(key), "0" * 64))
    with TestClient(create_app(served, options)) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": f"Basic {key}"}):
            answer = client.get("/v1/items", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/v1/items", headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert client.get("/v1/items", headers={"x-api-key": key}).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_hashes_of_keys_are_read_from_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{auth.hash_of('a')}  # the first\n\n{auth.hash_of('b').upper()}\n")
    assert auth.read_hashes(file) == (auth.hash_of("a"), auth.hash_of("b"))
    file.write_text("tr-secret\n")
    with pytest.raises(ValueError, match="line 1: not the SHA-256"):
        auth.read_hashes(file)
    file.write_text("# none\n")
    with pytest.raises(ValueError, match="holds no hash"):
        auth.read_hashes(file)
    file.write_text(auth.hash_of("a"), encoding="utf-8-sig")  # as an editor on Windows does
    assert auth.read_hashes(file) == (auth.hash_of("a"),)
    file.write_text(auth.hash_of("a"), encoding="utf-16")
    with pytest.raises(ThinkrankError, match="keys: no text in UTF-8"):
        auth.read_hashes(file)


def test_headers_keep_browsers_safe(client):
    for path in ("/healthz", "/v1/items", "/nowhere"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert client.get("/v1/items").headers["cache-control"] == "no-store"
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/healthz", headers={"x-request-id": "a b\tc"}).headers["x-request-id"] != "a b\tc"


def test_the_log_tells_of_requests_and_not_what_they_hold(thinker, dataset, caplog):
    caplog.set_level("INFO", "thinkrank.serve.requests")
    for log_histories in (False, True):
        served, options = served_thinker(thinker, dataset, log_histories=log_histories)
        with TestClient(create_app(served, options)) as client:
            client.post("/v1/recommend", json={**ASKED, "user": "u003"})
    quiet, told = (json.loads(record.message) for record in caplog.records)
    assert (quiet["route"], quiet["status"], quiet["k"], quiet["events"]) == ("/v1/recommend", 200, 3, 2)
    assert "i00" not in json.dumps(quiet)
    assert "u003" not in json.dumps(quiet)
    assert (told["user"], told["history"]) == ("u003", ["i00", "i01"])


def test_items_are_searched_added_and_withdrawn(client):
    found = client.get("/v1/items", params={"query": "boo cook", "limit": 2}).json()
    assert (found["total"], [item["item"] for item in found["items"]]) == (5, ["i00", "i01"])
    assert client.get("/v1/items", params={"query": "ook"}).json()["total"] == 0
    assert client.get("/v1/items", params={"query": "i07"}).json()["items"][0]["title"] == "Space film 2"
    before = client.get("/readyz").json()["catalogue"]
    new = {"items": [{"item": "n1", "title": "Cook book of tomorrow", "year": 2031}]}
    added = client.post("/v1/items", json=new).json()
    assert (added["added"], added["catalogue"]["items"]) == (1, 12)
    assert client.get("/readyz").json()["catalogue"] == added["catalogue"]["version"] != before
    assert client.get("/v1/items", params={"query": "tomorrow"}).json()["items"][0]["year"] == 2031
    everything = {**ASKED, "k": 20}
    assert "n1" in [item["item"] for item in client.post("/v1/recommend", json=everything).json()["items"]]
    assert client.post("/v1/recommend", json={"history": ["n1"], "k": 3}).status_code == 200
    taken = client.post("/v1/items", json=new)
    assert (taken.status_code, "'n1' occurs more than once" in taken.json()["error"]) == (422, True)
    gone = client.request("DELETE", "/v1/items", json={"items": ["n1", "i02"]}).json()
    assert (gone["withdrawn"], gone["catalogue"]["items"]) == (2, 10)
    left = [item["item"] for item in client.post("/v1/recommend", json=everything).json()["items"]]
    assert not {"n1", "i02"} & set(left)
    assert client.get("/v1/items", params={"query": "tomorrow"}).json()["total"] == 0
    assert client.request("DELETE", "/v1/items", json={"items": ["zz"]}).status_code == 422


def test_candidates_are_ranked_as_clients_of_rerankers_ask(client, counting, dataset):
    asked = {
        "model": "rerank-v3.5",
        "query": "Cook book 0\nCook book 1",
        "documents": ["Space film 1", {"text": "Cook book 3"}, "Never heard of", "i04"],
        "top_n": 4,
        "return_documents": True,
    }
    answer = counting.post("/v1/rerank", json=asked).json()
    assert [result["index"] for result in answer["results"]][2:] == [0, 2]
    assert {result["index"] for result in answer["results"][:2]} == {1, 3}
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert (scores[-1], max(scores) < 1) == (0, True)
    assert answer["results"][3]["document"] == {"text": "Never heard of"}
    assert answer["usage"]["total_tokens"] == 0
    assert "document" not in counting.post("/v1/rerank", json={**asked, "return_documents": False}).json()["results"][0]
    assert len(client.post("/v1/rerank", json={**asked, "top_n": 1}).json()["results"]) == 1
    strangers = client.post("/v1/rerank", json={"query": "", "documents": ["a", "b"]}).json()
    assert [(result["index"], result["relevance_score"]) for result in strangers["results"]] == [(0, 0), (1, 0)]
    assert client.post("/v1/rerank", json={"query": "", "documents": []}).status_code == 422


def test_documents_that_mean_one_item_share_its_relevance(counting):
    asked = {"query": "Cook book 0", "documents": ["Cook book 3", "Cook", "Space film 1", "i03"]}  # Cook fits five
    results = counting.post("/v1/rerank", json=asked).json()["results"]
    found = {result["index"]: result["relevance_score"] for result in results}
    assert found[0] == found[3] > found[2] > 0
    assert [results[-1]["index"], found[1]] == [1, 0]
    counting.request("DELETE", "/v1/items", json={"items": ["i03"]})
    results = counting.post("/v1/rerank", json=asked).json()["results"]
    assert [result["index"] for result in results if result["relevance_score"] > 0] == [2]


def test_documents_are_ranked_after_a_thought_only_where_thoughts_were_learnt(client, counting, dataset):
    asked = {"query": "Cook book 0", "documents": ["Cook book 3", "Space film 1"], "think": True}
    assert client.post("/v1/rerank", json=asked).json()["usage"]["total_tokens"] > 0
    late = R2ecConfig(backbone="tiny", dtype="float32", reading="late", lora={"rank": 2, "top_layers": 1})
    served = Served.of(R2ec.create(late, dataset.catalogue), name="late")
    with TestClient(create_app(served, ServeOptions(hosts=HOSTS))) as client:
        for one, path in ((client, "rerank"), (client, "recommend"), (counting, "rerank")):
            wish = asked if path == "rerank" else {"think": True}
            told = one.post(f"/v1/{path}", json=wish)
            assert (told.status_code, "can think; leave it out" in told.json()["error"]) == (422, True)


def test_the_server_says_whether_it_lives_and_answers(thinker, dataset):
    served, options = served_thinker(thinker, dataset)
    app = create_app(served, options)
    client = TestClient(app)  # not started
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").status_code == 503
    with client:
        assert client.get("/readyz").json()["status"] == "ready"
    assert client.get("/readyz").status_code == 503


def test_the_description_of_the_interface_has_examples_and_every_route(client):
    described = client.get("/openapi.json").json()
    routes = {(method, path) for path, methods in described["paths"].items() for method in methods}
    assert {
        ("post", "/v1/recommend"), ("post", "/v1/recommend/stream"), ("post", "/v1/rerank"), ("post", "/v1/slates"),
        ("get", "/v1/items"), ("post", "/v1/items"), ("delete", "/v1/items"), ("get", "/metrics"), ("get", "/healthz"),
    } <= routes  # fmt: skip
    assert described["components"]["schemas"]["RecommendRequest"]["examples"]
    assert client.get("/docs").status_code == 404  # its page would load scripts of others


def test_items_that_came_and_went_are_kept_over_restarts_and_reloads(thinker, dataset, tmp_path):
    file = tmp_path / "items.json"
    served, options = served_thinker(thinker, dataset, items_file=str(file))
    with TestClient(create_app(served, options)) as client:
        client.post("/v1/items", json={"items": [{"item": "n1", "title": "Cook book of tomorrow"}]})
        client.request("DELETE", "/v1/items", json={"items": ["i02"]})

    def opened():
        return served_thinker(thinker, dataset)[0]

    with TestClient(create_app(opened(), options, opened=opened)) as client:
        assert client.get("/v1/items", params={"query": "tomorrow"}).json()["total"] == 1
        assert client.get("/v1/items", params={"query": "cook"}).json()["total"] == 5
        assert client.post("/v1/reload").json()["name"] == "thinker"
        assert client.get("/v1/items", params={"query": "tomorrow"}).json()["total"] == 1
    file.write_text("{")
    with pytest.raises(ValueError, match="not a file of added and withdrawn items"):
        create_app(opened(), options)
    with pytest.raises(ThinkrankError, match=r"items.json cannot be written into .*: give another --items-file"):
        create_app(opened(), ServeOptions(items_file=str(file / "below.json")))


def test_what_cannot_be_kept_does_not_come_about(thinker, dataset, tmp_path, monkeypatch):
    served, options = served_thinker(thinker, dataset, items_file=str(tmp_path / "items.json"))
    new = {"items": [{"item": "n1", "title": "Cook book of tomorrow"}]}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with TestClient(create_app(served, options), raise_server_exceptions=False) as client:
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            assert client.post("/v1/items", json=new).status_code == 507
            assert client.request("DELETE", "/v1/items", json={"items": ["i02"]}).status_code == 507
        assert (served.num_items, served.withdrawn) == (11, {})
        assert client.post("/v1/items", json=new).status_code == 200
        kept = (tmp_path / "items.json").read_bytes()
        assert client.post("/v1/items", json=new).status_code == 422  # its id is taken
        assert (tmp_path / "items.json").read_bytes() == kept
    assert [file.name for file in tmp_path.iterdir()] == ["items.json"]


def test_a_run_that_cannot_be_loaded_anew_is_counted_and_told(thinker, dataset, caplog):
    def opened():
        raise RuntimeError("CUDA out of memory")

    served, options = served_thinker(thinker, dataset)
    with TestClient(create_app(served, options, opened=opened)) as client:
        told = client.post("/v1/reload")
        assert (told.status_code, "present one goes on: CUDA out of memory" in told.json()["error"]) == (409, True)
        assert 'thinkrank_reloads_total{result="failed"} 1.0' in client.get("/metrics").text
        assert client.post("/v1/recommend", json=ASKED).status_code == 200
    assert "Traceback" in caplog.text


def test_hosts_may_be_any_behind_a_proxy(thinker, dataset):
    served, _ = served_thinker(thinker, dataset)
    with TestClient(create_app(served, ServeOptions(hosts=("*",)))) as client:
        assert client.get("/healthz", headers={"host": "shop.example"}).status_code == 200
    assert HOSTS[0] == "testserver"
    with TestClient(create_app(served, ServeOptions(hosts=("Shop.Example",)))) as client:
        assert client.get("/healthz", headers={"host": "shop.example:80"}).status_code == 200
        assert "--allow-host" in client.get("/healthz", headers={"host": "other.example"}).json()["error"]


def test_a_list_writer_writes_slates_and_says_where_it_thought():
    lists = random_lists(num_lists=40)
    small = ListEncoderOptions(width=8, embedding_width=3, max_history=3)
    config = EGLRConfig(
        lists=small,
        generator=GeneratorOptions(width=8, encoder_width=8, heads=2, pointer_width=4),
        reasoning=ReasoningOptions(max_steps=2, threshold=0.5),
        evaluator=EvaluatorOptions(lists=small, width=8, heads=2, length=6),
    )
    model = EGLR.create(config, lists, device="cpu")
    (part,) = [lists.candidates[:1]]
    count = int(part.lengths_B[0])
    candidates = [
        {
            "item": lists.catalogue.ids[part.items_BN[0, n]],
            "numeric": dict(zip(part.numeric_names, part.numeric_BNF[0, n].tolist(), strict=True)),
            "categorical": {"kind": ("", *part.categorical_values[0])[part.categorical_BNC[0, n, 0]]},
        }
        for n in range(count)
    ]
    hour = float(lists.requests.context_BX[0, 0])
    history = [lists.catalogue.ids[row] for row in lists.requests.histories[0].items]
    asked = {"candidates": candidates, "context": {"hour": hour}, "history": history, "k": 3}
    expected = model.rerank(lists.requests[:1], part, 3)
    with TestClient(create_app(Served.of(model, name="lists"), ServeOptions(hosts=HOSTS))) as client:
        answer = client.post("/v1/slates", json=asked).json()
        assert [item["item"] for item in answer["items"]] == [lists.catalogue.ids[row] for row in expected.items_BK[0]]
        assert [item["steps"] for item in answer["items"]] == expected.latent.steps_BK[0].tolist()
        entropies = [item["entropy_before"] for item in answer["items"]]
        assert entropies == pytest.approx(expected.latent.entropies_before_BK[0].tolist(), abs=1e-5)
        never = client.post("/v1/slates", json={**asked, "think": False}).json()
        assert {item["steps"] for item in never["items"]} == {0}
        for wrong, says in (
            ({"context": {}}, "no 'hour'"),
            ({"candidates": [{"item": "i00"}]}, "no numeric 'price'"),
            ({"candidates": candidates[:1] * 2}, "i"),
            ({"samples": 4}, "needs an evaluator that was trained"),
        ):
            refused = client.post("/v1/slates", json={**asked, **wrong})
            assert (refused.status_code, says in refused.json()["error"]) == (422, True)
        assert client.post("/v1/recommend", json={}).status_code == 409
        assert client.get("/").status_code == 200


def test_a_network_that_orders_lists_is_served_with_the_features_it_reads():
    lists = random_lists(num_lists=40)
    model = PRM(PRMOptions(lists=ListEncoderOptions(width=8, embedding_width=3, max_history=3), max_epochs=1))
    train_network(model, lists.split())
    part = lists.candidates[:1]
    candidates = [
        {
            "item": lists.catalogue.ids[part.items_BN[0, n]],
            "numeric": dict(zip(part.numeric_names, part.numeric_BNF[0, n].tolist(), strict=True)),
            "categorical": {"kind": ("", *part.categorical_values[0])[part.categorical_BNC[0, n, 0]]},
        }
        for n in range(int(part.lengths_B[0]))
    ]
    context = dict(zip(lists.requests.context_names, lists.requests.context_BX[0].tolist(), strict=True))
    history = [lists.catalogue.ids[row] for row in lists.requests.histories[0].items]
    asked = {"candidates": candidates, "context": context, "history": history, "k": len(candidates)}
    expected = model.rerank(lists.requests[:1], part, len(candidates))
    with TestClient(create_app(Served.of(model), ServeOptions(hosts=HOSTS))) as client:
        answer = client.post("/v1/slates", json=asked).json()
        assert [item["item"] for item in answer["items"]] == [lists.catalogue.ids[row] for row in expected.items_BK[0]]
        refused = client.post("/v1/slates", json={**asked, "candidates": [{"item": candidates[0]["item"]}]})
        assert "has no numeric 'price'" in refused.json()["error"]
        several = client.post("/v1/slates", json={**asked, "samples": 2})
        assert (several.status_code, "no evaluator that could pick" in several.json()["error"]) == (422, True)
        gone = candidates[0]["item"]
        client.request("DELETE", "/v1/items", json={"items": [gone]})
        refused = client.post("/v1/slates", json=asked)
        assert (refused.status_code, refused.json()["error"]) == (422, f"candidate '{gone}' was withdrawn")


def test_a_cascade_of_stages_ranks_documents_as_it_recommends(dataset):
    cascade = Cascade(ItemKNN().fit(dataset), Popularity().fit(dataset))
    with TestClient(create_app(Served.of(cascade, dataset=dataset), ServeOptions(hosts=HOSTS))) as client:
        asked = {"history": ["i00", "i01"], "k": 11, "filter_seen": False}
        whole = [item["item"] for item in client.post("/v1/recommend", json=asked).json()["items"]]
        documents = ["i09", "i03", "i06", "i00"]
        answer = client.post("/v1/rerank", json={"query": "i00\ni01", "documents": documents}).json()
    ranked = [documents[result["index"]] for result in answer["results"]]
    assert ranked == [item for item in whole if item in documents]
