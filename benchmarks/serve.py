"""What a served run bears, asked over loopback: crowds, overload, first tokens, histories that grow, memory.

    python benchmarks/serve.py --json benchmarks/results/serve.json
    python benchmarks/serve.py --soak 30 --json benchmarks/results/serve.json

About 8 minutes on two free cores (estimated from single requests), and those of `--soak`; OMP_NUM_THREADS, if set,
bounds server and reading alike. With `--quick` overhead outweighs reading, so its ratios say nothing of a real model.

An untrained R²ec that reads prompts (SmolLM2-135M in fp32; a tiny model with `--quick`) and 500 made titles are served
by `thinkrank serve` in a process of its own. Thoughts have 32 tokens at most and are drawn with a seed of their own for
each request, so that none is kept. 48 users come again and again, each time with one event more behind the 24 of the
first time.

- `throughput_32_over_1`: thinking requests per second of 32 clients, each of which asks as soon as it is answered, over
  those of one client; users have been there before. `requests_per_second_32_new` is what 32 clients reach with users
  who have not.
- `overload_p99_ratio`: 99th percentile of the time of accepted requests that come at twice the rate that 32 clients
  reached, over that of those 32 clients. `overload_refused_share` was answered 429.
- `accepted_failed`: requests in all of this that were accepted and not answered.
- `first_token_ms_ratio`: time from asking to the first text of the streamed thought, over the time that one reading of
  the same prompt takes outside of the server; medians of requests one after the other.
- `warm_history_speedup`: time of the first request of a history, over that of the request after one event more, without
  thoughts; medians.
- `--soak MINUTES`: 32 clients for so long. `soak_memory_ratio` is the server's highest memory in the second half of
  that time over the highest in the first; `soak_errors` counts requests that were neither answered nor refused.
"""

import asyncio
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import torch

from _figures import parser, tell
from thinkrank.data import Catalogue, History
from thinkrank.language import Packing, PrefixTree, packed_states
from thinkrank.retrieve import R2ec, R2ecConfig

CLIENTS, TOKENS, ITEMS, EVENTS, USERS = 32, 32, 500, 24, 48
WORDS = (
    "red",
    "blue",
    "deep",
    "last",
    "first",
    "silent",
    "golden",
    "lost",
    "winter",
    "summer",
    "river",
    "city",
    "king",
)


def made(quick: bool) -> R2ec:
    """An untrained retriever whose titles look like titles."""
    chance = random.Random(0)
    titles = [f"The {' '.join(chance.sample(WORDS, 3)).title()} {row}" for row in range(ITEMS)]
    catalogue = Catalogue(pl.DataFrame({"item": [f"i{row}" for row in range(ITEMS)], "title": titles}))
    config = R2ecConfig(
        backbone="tiny" if quick else "smollm2",
        dtype="float32",
        thought={"max_new_tokens": TOKENS},
        prompt={"history_window": 50, "history_tokens": 2048},
    )
    return R2ec.create(config, catalogue)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """Serve a saved model in a process of its own; its address and process id."""
    program = [sys.executable, "-c", "from thinkrank.cli import main; main()", "serve", str(folder), "--port", "0"]
    log = (folder / "log.txt").open("w+")
    started = subprocess.Popen(
        [*program, "--set", "deadline_seconds=600", "--set", "kept_tokens=24000"], stderr=log, env=os.environ
    )
    try:
        while "http://" not in (folder / "log.txt").read_text():
            if started.poll() is not None:
                raise SystemExit((folder / "log.txt").read_text())
            time.sleep(0.1)
        yield (folder / "log.txt").read_text().partition(" at ")[2].split()[0], started.pid
    finally:
        started.terminate()
        started.wait(600)
        log.close()


class Clients:
    """Ask a server, and note how long each answer took."""

    def __init__(self, address: str) -> None:
        self.address, self._numbers = address, itertools.count()
        self.failed = 0

    def renew(self) -> None:
        """Let only users come who were not there before."""
        life = 24 * USERS
        self._numbers = itertools.count(life * (1 + next(self._numbers) // life))

    def asked(self) -> dict[str, Any]:
        """A question that nobody asked before."""
        number = next(self._numbers)
        visit, user = divmod(number, USERS)
        life, visit = divmod(visit, 24)  # then somebody new takes the place
        chance = random.Random(USERS * life + user)
        history = [f"i{row}" for row in chance.sample(range(ITEMS), EVENTS + 24)][: EVENTS + visit]
        return {"history": history, "k": 10, "think": True, "temperature": 1.0, "seed": number, "reasons": 0}

    async def ask(self, client: httpx.AsyncClient) -> tuple[int, float]:
        """The status and the seconds of one request."""
        began = time.perf_counter()
        try:
            status = (await client.post("/v1/recommend", json=self.asked())).status_code
        except httpx.HTTPError:
            status = 0
        self.failed += status not in (200, 429)
        return status, time.perf_counter() - began

    def closed(self, clients: int, goes_on: Callable[[int], bool]) -> tuple[float, list[float]]:
        """Requests per second, and the seconds of each, of clients that ask as soon as they are answered."""

        async def run() -> tuple[float, list[float]]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=self.address, timeout=600, limits=limits) as client:
                seconds: list[float] = []
                sent = itertools.count()

                async def one() -> None:
                    while goes_on(next(sent)):
                        status, took = await self.ask(client)
                        if status == 200:
                            seconds.append(took)

                began = time.perf_counter()
                await asyncio.gather(*(one() for _ in range(clients)))
                return len(seconds) / (time.perf_counter() - began), seconds

        return asyncio.run(run())

    def open(self, rate: float, count: int) -> list[tuple[int, float]]:
        """The status and the seconds of requests that come at random times, so many a second."""

        async def run() -> list[tuple[int, float]]:
            chance = random.Random(1)
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=self.address, timeout=600, limits=limits) as client:
                tasks = []
                for _ in range(count):
                    tasks.append(asyncio.create_task(self.ask(client)))
                    await asyncio.sleep(chance.expovariate(rate))
                return await asyncio.gather(*tasks)

        return asyncio.run(run())


def p99(seconds: list[float]) -> float:
    """The time within which 99 of 100 were answered."""
    return sorted(seconds)[min(len(seconds) - 1, int(0.99 * len(seconds)))]


def crowds(clients: Clients, rounds: int) -> dict[str, float]:
    """Throughput of one and of many, and what overload does to those who are let in."""
    new, _ = clients.closed(CLIENTS, lambda sent: sent < USERS)
    alone, _ = clients.closed(1, lambda sent: sent < 4 * (1 + rounds))
    together, seconds = clients.closed(CLIENTS, lambda sent: sent < CLIENTS * (1 + rounds))
    over = clients.open(2 * together, CLIENTS * (2 + 2 * rounds))
    accepted = [took for status, took in over if status == 200]
    clients.renew()
    alone_new, _ = clients.closed(1, lambda sent: sent < 2 + rounds)
    return {
        "throughput_32_over_1": together / alone,
        "throughput_32_over_1_new": new / alone_new,
        "requests_per_second_1_new": alone_new,
        "requests_per_second_32_new": new,
        "requests_per_second_1": alone,
        "requests_per_second_32": together,
        "p99_ms_at_capacity": 1000 * p99(seconds),
        "p99_ms_at_twice": 1000 * p99(accepted),
        "overload_p99_ratio": p99(accepted) / p99(seconds),
        "overload_refused_share": 1 - len(accepted) / len(over),
    }


def first_tokens(clients: Clients, model: R2ec, rounds: int) -> dict[str, float]:
    """Time to the first streamed text against one reading of the prompt."""
    first, reading = [], []
    with httpx.Client(base_url=clients.address, timeout=600) as client:
        for turn in range(rounds):
            asked = clients.asked()
            rows = random.Random(f"first {turn}").sample(range(ITEMS), EVENTS)  # nobody has read this history
            asked["history"] = [f"i{row}" for row in rows]
            began = time.perf_counter()
            with client.stream("POST", "/v1/recommend/stream", json=asked) as response:
                for line in response.iter_lines():
                    if line == "event: thought":
                        first.append(time.perf_counter() - began)
                        break
            while "thinkrank_running 0.0" not in client.get("/metrics").text:
                time.sleep(0.01)
            rows = [model.catalogue.row(item) for item in asked["history"]]
            ids = model.prompts.user(History.of(rows)).prompt.ids
            began = time.perf_counter()
            with torch.inference_mode():
                packed_states(model.backbone, Packing(PrefixTree.rows([ids])))
            reading.append(time.perf_counter() - began)
    return {
        "first_token_ms": 1000 * statistics.median(first),
        "prefill_ms": 1000 * statistics.median(reading),
        "first_token_ms_ratio": statistics.median(first) / statistics.median(reading),
    }


def growing(clients: Clients, rounds: int) -> dict[str, float]:
    """The first request of a history against the one after an event more."""
    cold, warm = [], []
    with httpx.Client(base_url=clients.address, timeout=600) as client:
        for turn in range(rounds + 1):
            rows = random.Random(f"new {turn}").sample(range(ITEMS), EVENTS + 1)
            asked = {"history": [f"i{row}" for row in rows], "k": 10, "reasons": 0}
            for seconds, history in ((cold, asked["history"][:-1]), (warm, asked["history"])):
                began = time.perf_counter()
                client.post("/v1/recommend", json={**asked, "history": history, "think": False}).raise_for_status()
                if turn:
                    seconds.append(time.perf_counter() - began)
    return {
        "cold_history_ms": 1000 * statistics.median(cold),
        "warm_history_ms": 1000 * statistics.median(warm),
        "warm_history_speedup": statistics.median(cold) / statistics.median(warm),
    }


def memory(pid: int) -> float:
    """The memory of a process now, in MiB, as Linux counts it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def soak(clients: Clients, pid: int, minutes: float) -> dict[str, float]:
    """Memory while 32 clients ask for so long; a first tenth of the time fills what is kept."""
    failed, began = clients.failed, time.monotonic()
    seen: list[tuple[float, float]] = []

    def goes_on(sent: int) -> bool:
        share = (time.monotonic() - began) / (60 * minutes)
        if share > 0.1:
            seen.append((share, memory(pid)))
        return share < 1

    rate, _ = clients.closed(CLIENTS, goes_on)
    first = [mib for share, mib in seen if share <= 0.55]
    second = [mib for share, mib in seen if share > 0.55]
    return {
        "soak_requests_per_second": rate,
        "soak_memory_mib": max(second),
        "soak_memory_ratio": max(second) / max(first),
        "soak_errors": clients.failed - failed,
    }


def main() -> None:
    options = parser(__doc__, quick="a tiny model and few requests: a check that it runs")
    options.add_argument("--soak", type=float, metavar="MINUTES", help="also ask for so long, and watch the memory")
    arguments = options.parse_args()
    rounds = 1 if arguments.quick else 4
    model = made(arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with served(Path(folder)) as (address, pid):
            clients = Clients(address)
            figures = growing(clients, 5 * rounds)
            figures |= first_tokens(clients, model, 4 * rounds)
            figures |= crowds(clients, rounds)
            if arguments.soak:
                figures |= soak(clients, pid, arguments.soak)
            figures["accepted_failed"] = clients.failed
            shown = httpx.get(f"{address}/metrics").text.splitlines()
            counts = dict(line.rsplit(" ", 1) for line in shown if not line.startswith("#"))
            hits, misses = (float(counts[f"thinkrank_histories_{name}"]) for name in ("hits", "misses"))
            figures["kept_histories_hit_share"] = hits / max(1.0, hits + misses)
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()
