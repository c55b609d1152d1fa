"""Offline scoring on a cluster that loses a node and a job that is killed, against one process.

A Ray cluster of three nodes on this machine, a processor each, answers 20,000 users with item-kNN on 500 items, slowed
down to what a small language model takes without a thought. When a quarter of the parts is done, a worker node is
killed; when half is done, the process that drives the job is killed (SIGKILL). The same command then goes on. One
process answers the same users behind it. `answered_twice_share` is the share of users who were answered more than once,
counted by the model itself, `different_files` counts files whose bytes differ from those of the one process,
`job_seconds` is the time of both halves. It needs Ray Data (`pip install 'ray[data]'`); without it nothing is measured.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tomli_w

from _figures import parser, tell
from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.retrieve import ItemKNN
from thinkrank.stages import Ranking

ITEMS, SECONDS_PER_USER, NODES, STORE = 500, 0.005, 3, 120_000_000
TRACE = "OFFLINE_BENCHMARK_TRACE"


class Paced(ItemKNN):
    """Item-kNN that takes its time, and writes down how many users it was asked for."""

    def retrieve(self, requests: Any, k: int, *, filter_seen: bool = True) -> Ranking:
        with Path(os.environ[TRACE]).open("a", encoding="utf-8") as file:  # one short line is appended as a whole
            file.write(f"{len(requests)}\n")
        time.sleep(SECONDS_PER_USER * len(requests))
        return super().retrieve(requests, k, filter_seen=filter_seen)


def make(folder: Path, num_users: int) -> None:
    """Write a trained run, and users in four files."""
    random = np.random.default_rng(0)
    ids = [f"item {row}" for row in range(ITEMS)]
    taken = [random.choice(ITEMS, random.integers(5, 30), replace=False) for _ in range(2000)]
    events = [
        {"user": f"u{user}", "item": ids[item], "timestamp": 1000 * step + user}
        for user, items in enumerate(taken)
        for step, item in enumerate(items)
    ]
    catalogue = Catalogue(pl.DataFrame({"item": ids, "title": ids}))
    Paced().fit(split_dataset(Dataset("made", pl.DataFrame(events), catalogue))).save_pretrained(
        folder / "run" / "model"
    )
    config = {"training": {"steps": 1}, "retriever": {"class": "offline:Paced"}}
    (folder / "run" / "config.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
    histories = [[ids[item] for item in random.choice(ITEMS, random.integers(0, 30))] for _ in range(num_users)]
    people = pl.DataFrame({"user": [f"person {user}" for user in range(num_users)], "items": histories})
    (folder / "people").mkdir()
    for number, rows in enumerate(people.iter_slices(-(-num_users // 4))):
        rows.write_parquet(folder / "people" / f"{number}.parquet")


def started(folder: Path, out: str, engine: str, block: int, trace: str) -> subprocess.Popen[bytes]:
    """Start the command that a user would."""
    command = [sys.executable, "-c", "from thinkrank.cli import main; main()", "score", "run", "--input", "people"]
    command += ["--out", out, "--engine", engine, "--block", str(block), "--threads", "1"]
    environment = {**os.environ, TRACE: str(folder / trace)}
    with (folder / f"{out}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def wait_for(folder: Path, parts: int, job: subprocess.Popen[bytes]) -> None:
    """Wait until so many parts are done."""
    while len(list(folder.glob("*.parquet"))) < parts:
        if job.poll() is not None:
            sys.exit(f"the job ended before it was killed; see {folder}.log")
        time.sleep(0.05)


def ended(job: subprocess.Popen[bytes], log: Path) -> None:
    if job.wait() != 0:
        sys.exit(log.read_text(encoding="utf-8"))


def asked(file: Path) -> int:
    return sum(map(int, file.read_text(encoding="utf-8").split()))


def measure(folder: Path, quick: bool) -> dict[str, float]:
    from ray.cluster_utils import Cluster

    users, block = (600, 25) if quick else (20_000, 200)
    parts = users // block
    make(folder, users)
    os.environ[TRACE] = str(folder / "ray.trace")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    node = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        workers = [cluster.add_node(**node) for _ in range(NODES - 1)]
        cluster.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = cluster.address
        out, log = folder / "ray", folder / "ray.log"
        began = time.perf_counter()
        job = started(folder, "ray", "ray", block, "ray.trace")
        wait_for(out, parts // 4, job)
        cluster.remove_node(workers[-1], allow_graceful=False)
        wait_for(out, parts // 2, job)
        job.send_signal(signal.SIGKILL)
        job.wait()
        kept = len(list(out.glob("*.parquet")))
        first = time.perf_counter() - began
        time.sleep(5)  # the cluster notices that the job is gone
        began = time.perf_counter()
        ended(started(folder, "ray", "ray", block, "ray.trace"), log)
        second = time.perf_counter() - began
    finally:
        cluster.shutdown()
    began = time.perf_counter()
    ended(started(folder, "local", "local", block, "local.trace"), folder / "local.log")
    names = {file.name for where in ("ray", "local") for file in (folder / where).iterdir()}
    files = [[folder / where / name for where in ("ray", "local")] for name in sorted(names)]
    different = sum(not (a.is_file() and b.is_file() and a.read_bytes() == b.read_bytes()) for a, b in files)
    return {
        "users": users,
        "parts": parts,
        "nodes": NODES,
        "parts_kept_when_killed": kept,
        "answered_twice_share": asked(folder / "ray.trace") / users - 1,
        "different_files": different,
        "files": len(files),
        "job_seconds": first + second,
        "one_process_seconds": time.perf_counter() - began,
    }


def main() -> None:
    options = parser(__doc__, quick="600 users: a check that it runs")
    arguments = options.parse_args()
    if importlib.util.find_spec("ray") is None:
        print("Ray Data is not installed, so nothing was measured: pip install 'ray[data]'")
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.quick)
    tell(figures, arguments.json)
    if figures["different_files"]:
        sys.exit(f"{figures['different_files']:.0f} of {figures['files']:.0f} files differ: {json.dumps(figures)}")


if __name__ == "__main__":
    main()
