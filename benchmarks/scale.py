"""What grows with the data, and what must not: large catalogues, many users, logs that take gigabytes.

Every part runs in a process of its own. Seconds are those of the processor (user and system), of one thread, so that
they hardly depend on what else the machine does; GiB are the peak of resident memory as Linux counts it (VmHWM): memory
of the process's own and every page of a mapped file that it holds at that time.

exact_topk_over_faiss   the 10 best of 1 M x 576 for 256 queries: `ItemTable.search` over faiss's flat index
ten_million_gib         10 M x 576 in half precision, mapped from the disk, answering with the 10 best
table_step_ratio        an update of SASRec (1,000 sampled negatives, `row_updates`) at 1 M items over one at 10 k
growth_exponent_max     the largest slope of log time over log size, of four sizes each: users asked at once, candidates
                        and places of a re-ranked list, items searched
prepare_growth          time per interaction of `thinkrank data prepare`: 20 M over 2 M interactions with 50,000 items
prepare_gib             its peak with 20 M interactions, Parquet partitions in, a prepared folder out

Answers are checked: against faiss, against best items that were put there, against requests asked alone.

    python benchmarks/scale.py --json figures.json            # a quarter of an hour; 12 GB of disk
    python benchmarks/scale.py --json figures.json --quick    # sizes a hundredth: a check that it runs
    python benchmarks/scale.py --part prepare --json FILE     # this part alone; FILE keeps the other figures
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from _figures import parser, tell

GIB = 2**30
WIDTH, K = 576, 10


def peak_gib() -> float:
    """Read the peak of this process's resident memory; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / GIB


def seconds_of(work: Callable[[], object]) -> float:
    """Measure the processor's seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def in_turn(ways: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Measure each, the fastest of some rounds in which they take turns, after one that is not counted."""
    took = [[seconds_of(way) for way in ways] for _ in range(rounds + 1)]
    return [min(seconds) for seconds in zip(*took[1:], strict=True)]


def exact(quick: bool, _: Path) -> dict[str, float]:
    """Search a table and faiss's flat index of the same vectors."""
    import faiss

    from thinkrank.retrieve.item_table import ItemTable

    faiss.omp_set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    rows_ID = torch.randn(10_000 if quick else 1_000_000, WIDTH, generator=random)
    queries_BD = torch.randn(256, WIDTH, generator=random)
    table, index = ItemTable(rows_ID), faiss.IndexFlatIP(WIDTH)
    index.add(rows_ID.numpy())
    items_BK, _ = table.search(queries_BD, K)
    same = float((items_BK.numpy() == index.search(queries_BD.numpy(), K)[1]).mean())
    assert same > 0.999, f"{same:.2%} of the answers are those of faiss"  # products are rounded in another order
    ours, theirs = in_turn(
        [lambda: table.search(queries_BD, K), lambda: index.search(queries_BD.numpy(), K)], 1 if quick else 3
    )
    return {"exact_topk_over_faiss": ours / theirs, "exact_topk_seconds": ours, "faiss_flat_seconds": theirs}


def planted(num_items: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make queries, the rows of the best items of each, and their vectors, whose scores are 0.95 down to 0.5."""
    random = torch.Generator().manual_seed(1)
    queries_BD = torch.nn.functional.normalize(torch.randn(64, WIDTH, generator=random), dim=1)
    rows_BK = torch.randperm(num_items, generator=random)[: 64 * K].view(64, K)
    return queries_BD, rows_BK, queries_BD[:, None] * torch.linspace(0.95, 0.5, K)[:, None]


def large_table(quick: bool, folder: Path) -> dict[str, float]:
    """Write a table on the disk: vectors of length 1 in all directions, and what shall be found."""
    from thinkrank.retrieve.item_table import ItemTable

    num_items = 100_000 if quick else 10_000_000
    table = ItemTable.create(folder / "table", num_items, WIDTH)
    random = torch.Generator().manual_seed(0)
    block_CD = torch.nn.functional.normalize(torch.randn(65_536, WIDTH, generator=random), dim=1).half()
    for turn, rows_C in enumerate(torch.arange(num_items).split(len(block_CD))):
        table.write(rows_C, block_CD.roll(turn, dims=1)[: len(rows_C)], step=0)
    _, rows_BK, vectors_BKD = planted(num_items)
    table.write(rows_BK.view(-1), vectors_BKD.view(-1, WIDTH), step=1)
    table.save(folder / "table")
    return {"ten_million_disk_gib": (folder / "table" / "vectors.npy").stat().st_size / GIB}


def large_search(quick: bool, folder: Path) -> dict[str, float]:
    """Map the table, answer, and add and withdraw items."""
    from thinkrank.retrieve.item_table import ItemTable

    table = ItemTable.open(folder / "table", writable=True)
    queries_BD, rows_BK, _ = planted(len(table))
    found: list[torch.Tensor] = []
    seconds = seconds_of(lambda: found.append(table.search(queries_BD, K)[0]))
    assert torch.equal(found[0], rows_BK), "other items were found than the best"
    table.withdraw(rows_BK[:, 0])
    added = table.add(queries_BD[:1])
    asked_BK = table.search(queries_BD[:1], 2)[0]
    assert asked_BK[0].tolist() == [added[0], int(rows_BK[0, 1])], "what was added or withdrawn is not"
    return {"ten_million_gib": peak_gib(), "ten_million_seconds_of_64": seconds}


def step(quick: bool, _: Path) -> dict[str, float]:
    """Train SASRec on as many events of a small catalogue and of a large one."""
    from thinkrank.data import Catalogue, Dataset
    from thinkrank.retrieve import SASRec, SasrecOptions
    from thinkrank.retrieve.sequential.trainer import SequentialTrainer
    from thinkrank.training import UnsavedRun

    users, events = (128 if quick else 1280), 20
    options = SasrecOptions(negatives=1000, row_updates=True, max_epochs=99)

    def trainer(num_items: int) -> SequentialTrainer:
        ids = pl.Series("item", np.arange(num_items)).cast(pl.String)
        taken = np.random.default_rng(0).integers(0, num_items, users * events)
        user = pl.Series(np.repeat(np.arange(users), events)).cast(pl.String)
        time_E = np.tile(np.arange(events), users) * 1000
        frame = pl.DataFrame({"user": user, "item": ids[taken], "timestamp": time_E})
        data = Dataset("made", frame, Catalogue(pl.DataFrame({"item": ids, "title": ids})))
        made = SequentialTrainer(SASRec(options, device="cpu"), data, UnsavedRun())
        made.start()
        return made

    small, large = trainer(10_000), trainer(100_000 if quick else 1_000_000)
    few, many = in_turn([small.step, large.step], 1 if quick else 3)
    assert max(made.run.metrics()[-1]["loss"] for made in (small, large)) < 20, "nothing was learnt"
    kept = large.extra_tensors()["rows_S"].numel()
    updates = users * events / (options.batch_size * options.max_length)
    assert kept < (1000 * updates + users * events) * (1 + large.counters.step), "rows were touched that no update has"
    return {"table_step_ratio": many / few, "table_step_seconds": many / updates, "table_rows_with_state": float(kept)}


def growth(quick: bool, _: Path) -> dict[str, float]:
    """Fit how time grows with users, candidates, places of a list and items."""
    rounds, slopes = 1 if quick else 5, {}
    for name, (sizes, ways) in {**_users(quick), **_lists(), **_items(quick)}.items():
        seconds = in_turn(ways, rounds)
        slopes[f"{name}_exponent"] = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {"growth_exponent_max": max(slopes.values()), **slopes}


Ways = dict[str, tuple[Sequence[int], list[Callable[[], object]]]]


def _users(quick: bool) -> Ways:
    from thinkrank.data import Catalogue, History
    from thinkrank.retrieve import SASRec, SasrecOptions

    sizes, num_items = ((50, 100, 200, 400) if quick else (500, 1000, 2000, 4000)), 5_000
    ids = pl.Series("item", np.arange(num_items)).cast(pl.String)
    model, random = SASRec(SasrecOptions(), device="cpu"), np.random.default_rng(0)
    torch.manual_seed(0)
    counts_I = np.ones(num_items, dtype=np.float32)
    model.install(model.new_encoder(num_items), Catalogue(pl.DataFrame({"item": ids, "title": ids})), counts_I)
    histories = [History.of(random.integers(0, num_items, 20).tolist()) for _ in range(sizes[-1])]
    together, alone = model.retrieve(histories[:50], K), [model.retrieve([one], K) for one in histories[:3]]
    assert all((one.items_BK[0] == together.items_BK[row]).all() for row, one in enumerate(alone))
    return {"users": (sizes, [lambda size=size: model.retrieve(histories[:size], K) for size in sizes])}


def _lists() -> Ways:
    from rerank import NONE, _narrowed, answer, first, made_lists, made_model, write
    from thinkrank.rerank.lists import ListBatch

    sizes = (20, 40, 80, 160)
    lists = made_lists(64, sizes[-1])
    model = made_model("gru", lists)
    batch = first(lists, 64)
    with torch.inference_mode():
        context = model.writer.context(batch)
    parts = [ListBatch(**{**vars(batch), **_narrowed(batch, size)}) for size in sizes]
    for size, part in zip(sizes, parts, strict=True):
        for written, places in ((answer(model, part, NONE, K), K), (write(model, context, size), size)):
            chosen_RK = written.columns_RK.sort(dim=1).values
            assert chosen_RK.shape[1] == places
            assert (chosen_RK[:, 1:] != chosen_RK[:, :-1]).all(), "an item stands twice in a list"
    return {
        "candidates": (sizes, [lambda part=part: answer(model, part, NONE, K) for part in parts]),
        "list_length": (sizes, [lambda size=size: write(model, context, size) for size in sizes]),
    }


def _items(quick: bool) -> Ways:
    from thinkrank.retrieve.item_table import ItemTable

    sizes = (2_000, 4_000, 8_000, 16_000) if quick else (50_000, 100_000, 200_000, 400_000)
    random = torch.Generator().manual_seed(0)
    rows_ID = torch.nn.functional.normalize(torch.randn(sizes[-1], 128, generator=random), dim=1)
    tables, queries_BD = [ItemTable(rows_ID[:size]) for size in sizes], rows_ID[:128]
    for table in tables:
        assert torch.equal(table.search(queries_BD, 1)[0][:, 0], torch.arange(128)), "no vector is nearer than itself"
    return {"catalogue": (sizes, [lambda table=table: table.search(queries_BD, K) for table in tables])}


def write_log(rows: int, folder: Path) -> None:
    """Write partitions of random interactions, eight for each user, of a catalogue that is the same for any number."""
    random = np.random.default_rng(0)
    users, items = rows // 8, 50_000
    for number, start in enumerate(range(0, rows, 1_000_000)):
        size = min(1_000_000, rows - start)
        frame = {
            "user": _ids("AE", random.integers(users, size=size), 28),
            "item": _ids("B0", random.integers(items, size=size), 10),
            "rating": random.integers(1, 6, size=size).astype(float),
            "timestamp": random.integers(1_500_000_000, 1_690_000_000, size=size),
        }
        pl.DataFrame(frame).write_parquet(folder / f"interactions-{number:03}.parquet")
    titles = pl.format("Random product {} with a title of the usual length", "item")
    table = pl.DataFrame({"item": _ids("B0", np.arange(items), 10)}).with_columns(title=titles, brand=pl.lit("Nobody"))
    table.write_parquet(folder / "items.parquet")


def _ids(prefix: str, numbers: np.ndarray, length: int) -> pl.Series:
    """Ids that look alike at the front and differ at the end, as the real ones do."""
    return prefix + pl.Series(numbers).cast(pl.String).str.pad_start(length - len(prefix), "0")


def prepare_log(folder: Path) -> dict[str, float]:
    """Do what `thinkrank data prepare` does, and then open what it wrote as a training does."""
    from thinkrank.data import Dataset
    from thinkrank.recipes.data import DataSettings

    settings = DataSettings(
        source="table", path=str(folder), options={"interactions": "interactions-*.parquet"}, split="leave-last-out"
    )
    started = time.process_time()
    dataset = settings.load(folder)
    dataset.save(folder / "prepared")
    figures = {"seconds": time.process_time() - started, "peak_gib": peak_gib(), "rows": len(dataset.items_E)}
    fingerprint = dataset.fingerprint
    del dataset
    assert Dataset.load(folder / "prepared").fingerprint == fingerprint
    return figures


def prepare(quick: bool, folder: Path) -> dict[str, float]:
    """Prepare logs of two sizes, each written and prepared by a process of its own."""
    sizes, found = ((20_000, 200_000) if quick else (2_000_000, 20_000_000)), []
    for rows, times in zip(sizes, (3, 1), strict=True):
        place = folder / str(rows)
        place.mkdir()
        _child("write_log", quick, place, rows)
        runs = [_child("prepare_log", quick, place, rows) for _ in range(times)]
        per_row = [run["seconds"] / run["rows"] for run in runs]
        found.append((statistics.median(per_row), runs[0]))
    (small, _), (large, run) = found
    return {
        "prepare_growth": large / small,
        "prepare_gib": run["peak_gib"],
        "prepare_rows": float(run["rows"]),
        "prepare_microseconds_per_row": 1e6 * large,
    }


PARTS: Mapping[str, Sequence[Callable[[bool, Path], dict[str, float]]]] = {
    "exact": (exact,),
    "large": (large_table, large_search),
    "step": (step,),
    "growth": (growth,),
    "prepare": (prepare,),
}


def _child(name: str, quick: bool, folder: Path, rows: int = 0) -> dict[str, float]:
    """Run a function of this file in a process of its own, with one thread."""
    command = [sys.executable, __file__, "--inside", name, "--folder", str(folder), "--rows", str(rows)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    output = subprocess.run(
        [*command, *(["--quick"] if quick else [])],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads},
    ).stdout
    return dict(json.loads(output.splitlines()[-1]))


def inside(arguments: argparse.Namespace) -> dict[str, float]:
    """Run what a child is for."""
    if arguments.inside == "write_log":
        write_log(arguments.rows, arguments.folder)
        return {}
    if arguments.inside == "prepare_log":
        return prepare_log(arguments.folder)
    known = {function.__name__: function for functions in PARTS.values() for function in functions}
    torch.set_num_threads(1)
    return known[arguments.inside](arguments.quick, arguments.folder)


def main() -> None:
    options = parser(__doc__, quick="sizes a hundredth")
    options.add_argument("--part", choices=PARTS, help="measure this part alone")
    options.add_argument("--at", type=Path, help="folder for 12 GB of temporary files; without it the system's")
    options.add_argument("--inside", help=argparse.SUPPRESS)  # a process that is measured
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.inside:
        print(json.dumps(inside(arguments)))
        return
    figures: dict[str, float] = {}
    if arguments.part and arguments.json and arguments.json.exists():
        figures = json.loads(arguments.json.read_text())
    for part in [arguments.part] if arguments.part else PARTS:
        with tempfile.TemporaryDirectory(dir=arguments.at) as folder:
            found = [_child(function.__name__, arguments.quick, Path(folder)) for function in PARTS[part]]
        for some in found:
            tell(some, None)
            figures |= some
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
