"""The example of the docs: the application on two replicas of Ray Serve."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from serve.test_live import THINKING
from thinkrank.cascade import Cascade
from thinkrank.retrieve import R2ec

pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install '.[ray]'", exc_type=ImportError)
SCRIPT = Path(__file__).parents[2] / "docs" / "guide" / "replicas.py"


def test_two_replicas_answer_alike(thinker, tmp_path):
    thinker.save_pretrained(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, str(SCRIPT), str(tmp_path), "--port", str(port)]
    quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    started = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=quiet)
    try:
        assert any("2 replicas at" in line for line in started.stdout)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            answers = [client.post("/v1/recommend", json={**THINKING, "k": 4}) for _ in range(6)]
        started.send_signal(signal.SIGTERM)
        assert started.wait(180) == 0
    finally:
        started.kill()
        started.stdout.close()
    assert {answer.status_code for answer in answers} == {200}
    alone = Cascade(R2ec.from_pretrained(tmp_path))
    ranking = alone.recommend([THINKING["history"]], 4, think=True).ranking
    expected = [alone.catalogue.ids[row] for row in ranking.items_BK[0]]
    for answer in answers:
        assert [item["item"] for item in answer.json()["items"]] == expected
