"""A server in a process of its own, or in a thread, asked over loopback: streams, crowds, signals."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from serve.conftest import served_thinker
from thinkrank.serve import create_app
from thinkrank.serve.served import Served


@contextmanager
def listening(app):
    """Serve on a free port in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def live(thinker, dataset):
    served, options = served_thinker(thinker, dataset)
    with listening(create_app(served, options)) as address:
        yield address, served


def events_of(response):
    """Read typed events and their ids."""
    kind = number = None
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "id":
            number = int(value)
        elif name == "data":
            data = json.loads(value)
        elif not line and kind:
            yield kind, number, data
            kind = None


THINKING = {"history": ["i00", "i01"], "k": 3, "think": True}


def test_a_thought_is_streamed_as_it_is_written(live, plain):
    address, _ = live
    with httpx.stream("POST", f"{address}/v1/recommend/stream", json=THINKING, timeout=30) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = list(events_of(response))
    assert [number for _, number, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for kind, _, _ in events]
    assert (kinds[0], kinds[-1], {*kinds[1:-1]}) == ("accepted", "answer", {"thought"})
    text = "".join(data["text"] for kind, _, data in events if kind == "thought")
    expected = plain.recommend([["i00", "i01"]], 3, think=True).ranking
    assert text.strip() == expected.thoughts[0].text
    assert events[-1][2]["items"][0]["item"] == plain.catalogue.ids[expected.items_BK[0, 0]]
    assert events[-1][2]["id"] == events[0][2]["id"]


def test_what_is_wrong_with_a_stream_is_told_before_it_begins(live):
    address, _ = live
    assert httpx.post(f"{address}/v1/recommend/stream", json={**THINKING, "k": 0}).status_code == 422
    assert httpx.post(f"{address}/v1/recommend/stream", json={"user": "nobody"}).status_code == 404


def slowly(engine, seconds=0.02):
    """Let an engine take its time for each token."""
    step = engine._step

    def slow(writer):
        time.sleep(seconds)
        step(writer)

    engine._step = slow


def test_a_closed_connection_ends_the_writing(live):
    address, served = live
    (engine,) = served.engines
    slowly(engine)
    asked = {**THINKING, "temperature": 1.0, "seed": 3}
    with httpx.stream("POST", f"{address}/v1/recommend/stream", json=asked, timeout=30) as response:
        for kind, _, _ in events_of(response):
            if kind == "thought":
                break
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/v1/recommend", json={**asked, "seed": 4}, timeout=0.1)
    for _ in range(200):
        if not engine.num_writing and "thinkrank_running 0.0" in httpx.get(f"{address}/metrics").text:
            break
        time.sleep(0.01)
    shown = httpx.get(f"{address}/metrics").text
    assert "thinkrank_cancelled_total 2.0" in shown
    assert engine.tokens == 0


def test_a_deadline_ends_a_request(live):
    address, served = live
    slowly(served.engines[0])
    answer = httpx.post(f"{address}/v1/recommend", json={**THINKING, "timeout_ms": 80})
    assert answer.status_code == 504
    assert "no answer within 80 ms" in answer.json()["error"]
    with httpx.stream("POST", f"{address}/v1/recommend/stream", json={**THINKING, "timeout_ms": 80}) as response:
        assert [kind for kind, _, _ in events_of(response)][-1] == "fault"


def test_a_crowd_is_answered_as_the_cascade_answers_each(live, plain, dataset):
    address, _ = live
    histories = [["i00", "i01"], ["i05"], ["i06", "i07", "i08"], [], ["i02", "i04"]] * 6
    asked = [
        {"history": history, "k": 4, "think": bool(n % 2), "temperature": 0.8 if n % 3 == 0 and n % 2 else None}
        for n, history in enumerate(histories)
    ]

    async def ask():
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            return await asyncio.gather(*(client.post("/v1/recommend", json=one) for one in asked))

    answers = [answer.json() for answer in asyncio.run(ask())]
    for one, answer in zip(asked, answers, strict=True):
        if one["temperature"] is None:
            expected = plain.recommend([one["history"]], 4, think=one["think"]).ranking
            assert [item["item"] for item in answer["items"]] == [
                dataset.catalogue.ids[i] for i in expected.items_BK[0]
            ]
            assert [item["score"] for item in answer["items"]] == pytest.approx(
                expected.scores_BK[0].tolist(), abs=1e-3
            )
        if one["think"] and one["temperature"] is None:
            assert answer["thought"]["text"] == expected.thoughts[0].text
    before = told(address)
    assert before["thinkrank_calls"] < before["thinkrank_calls_requests"] == len(asked)
    longer = {"history": ["i06", "i07", "i08", "i09"], "k": 4, "think": True}
    assert httpx.post(f"{address}/v1/recommend", json=longer, timeout=60).status_code == 200
    assert told(address)["thinkrank_histories_hits"] > before["thinkrank_histories_hits"]


def told(address):
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    shown = (line.rsplit(" ", 1) for line in lines if line[0] != "#" and "{" not in line)
    return {name: float(value) for name, value in shown}


def test_too_many_are_told_to_come_again_and_the_accepted_are_answered(thinker, dataset):
    served, options = served_thinker(thinker, dataset, max_writing=2, max_waiting_to_write=1)
    slowly(served.engines[0], 0.01)

    async def ask(address):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            return await asyncio.gather(
                *(client.post("/v1/recommend", json={**THINKING, "temperature": 1, "seed": n}) for n in range(8))
            )

    with listening(create_app(served, options)) as address:
        answers = asyncio.run(ask(address))
    codes = [answer.status_code for answer in answers]
    assert {*codes} == {200, 429}
    assert codes.count(200) >= 3
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)


def test_a_run_is_loaded_anew_and_no_request_fails(thinker, dataset):
    def opened():
        served = served_thinker(thinker, dataset)[0]
        served.version = f"v{time.monotonic_ns()}"
        return served

    _, options = served_thinker(thinker, dataset)

    async def ask(address):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def one(n):
                await asyncio.sleep(0.02 * n)
                return await client.post("/v1/recommend", json={**THINKING, "temperature": 1, "seed": n})

            before = await one(0)
            reloads = (client.post("/v1/reload") for _ in range(2))
            return [before, *await asyncio.gather(*(one(n) for n in range(10)), *reloads), await one(0)]

    with listening(create_app(opened(), options, opened=opened)) as address:
        answers = asyncio.run(ask(address))
    assert [answer.status_code for answer in answers] == [200] * 14
    first, last = (answer.json()["model"]["version"] for answer in (answers[0], answers[-1]))
    assert first != last


@pytest.fixture(scope="module")
def run(thinker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    thinker.save_pretrained(folder)
    return folder


@contextmanager
def process(run, *arguments):
    """Start `thinkrank serve` and wait for its address."""
    program = [sys.executable, "-c", "from thinkrank.cli import main; main()", "serve", str(run), "--port", "0"]
    started = subprocess.Popen([*program, *arguments], stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        while "http://" not in (line := started.stderr.readline()):
            assert started.poll() is None, line
        yield started, line.split(" at ")[1].split()[0]
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_to_end_loses_no_accepted_request(run):
    codes = []

    async def ask(address, started):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def one(n):
                try:
                    asked = {**THINKING, "temperature": 1, "seed": n, "max_tokens": 200}
                    codes.append((await client.post("/v1/recommend", json=asked)).status_code)
                except httpx.ConnectError:
                    codes.append(0)  # came too late to be accepted

            first = [asyncio.create_task(one(n)) for n in range(16)]
            while "thinkrank_running 0.0" in (await client.get("/metrics")).text:
                await asyncio.sleep(0.005)
            started.send_signal(signal.SIGTERM)
            await asyncio.gather(*first)

    with process(run) as (started, address):
        asyncio.run(ask(address, started))
        assert started.wait(20) is not None
        rest = started.stderr.read()
    assert codes.count(200) >= 1
    assert {*codes} <= {200, 0, 429, 503}
    assert "Traceback" not in rest


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_a_signal_to_load_anew_fails_no_request(thinker, tmp_path):
    thinker.save_pretrained(tmp_path)

    async def ask(address, started):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def one(n):
                answer = await client.post("/v1/recommend", json={**THINKING, "temperature": 1, "seed": n})
                return answer.status_code, answer.json()["model"]["version"]

            before = await one(0)
            (tmp_path / "note.txt").write_text("a file more: another version", encoding="utf-8")
            beside = [asyncio.create_task(one(n)) for n in range(1, 9)]
            started.send_signal(signal.SIGHUP)
            while 'reloads_total{result="done"} 1.0' not in (await client.get("/metrics")).text:
                beside.append(asyncio.create_task(one(len(beside) + 1)))
                await asyncio.sleep(0.05)
            return before, await asyncio.gather(*beside), await one(0)

    with process(tmp_path) as (started, address):
        before, beside, after = asyncio.run(ask(address, started))
        started.send_signal(signal.SIGTERM)
        started.wait(20)
    assert {status for status, _ in (before, *beside, after)} <= {200}
    assert before[1] != after[1]
    assert {version for _, version in beside} <= {before[1], after[1]}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_after_a_kill_the_next_start_answers_with_all_that_was_kept(run, tmp_path):
    kept = ("--items-file", str(tmp_path / "items.json"))
    with process(run, *kept) as (started, address):
        new = {"items": [{"item": "n1", "title": "Book of tomorrow"}]}
        assert httpx.post(f"{address}/v1/items", json=new).status_code == 200
        started.send_signal(signal.SIGKILL)
    with process(run, *kept) as (_, address):
        assert httpx.get(f"{address}/v1/items", params={"query": "tomorrow"}).json()["total"] == 1
        assert (
            httpx.post(f"{address}/v1/recommend", json={**THINKING, "history": ["n1"]}, timeout=30).status_code == 200
        )


def test_half_a_request_harms_nobody(live):
    address, _ = live
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /v1/recommend HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
    assert httpx.post(f"{address}/v1/recommend", json={**THINKING, "think": False}).status_code == 200
    assert isinstance(live[1], Served)
