"""What a request costs behind the language model: head, the search through the catalogue, and the place of a target.

200,000 items of width 576 with random text states, one thread, a random model of that width that reads the history. One
request without a thought goes through `R2ec.retrieve`; the time that reading takes is left out, so what remains is
everything else: the head, the products with all unit vectors, temperature and biases, what was seen, the 10 best. It is
compared with one matrix-vector product of that size (`table_ms_ratio`), and with normalising the whole table for every
request beside it (`normalising_ms_ratio`). `target_ranks_mib` is the memory that `R2ec.target_ranks` takes for 1,024
requests beyond what is there before it is called; Linux keeps count of it. Answers and places are checked against
scores that are computed as one matrix.
"""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import torch

from _figures import parser, tell
from thinkrank.data import Catalogue, Requests
from thinkrank.language import tiny_backbone
from thinkrank.retrieve import R2ec, R2ecConfig
from thinkrank.retrieve.item_table import ItemTable
from thinkrank.retrieve.r2ec.head import RetrievalHead

WIDTH, K, ROUNDING = 576, 10, 1e-4


def made(num_items: int) -> R2ec:
    random = torch.Generator().manual_seed(0)
    ids = [f"item {row}" for row in range(num_items)]
    catalogue = Catalogue(pl.DataFrame({"item": ids, "title": ids}))
    config = R2ecConfig(backbone="tiny", dtype="float32")
    head = RetrievalHead(num_items, WIDTH, config.head)
    head.prepare(torch.randint(1, 100, (num_items,), generator=random))
    states = ItemTable(torch.randn(num_items, WIDTH, generator=random))
    return R2ec(config, tiny_backbone(ids[:1000], hidden_size=WIDTH), catalogue, head, states)


def asked(num_items: int, num_requests: int) -> Requests:
    random = np.random.default_rng(0)
    return Requests.of([random.integers(0, num_items, 20).tolist() for _ in range(num_requests)])


def dense_scores(model: R2ec, requests: Requests) -> torch.Tensor:
    """All scores as one matrix, seen items -inf."""
    with torch.no_grad():
        users_BD = model.head.user_vectors(model.user_states(requests.histories))
        scores_BI = model.head.scores(users_BD, model.vectors.rows_ID)
    for row, history in zip(scores_BI, requests.histories, strict=True):
        row[torch.from_numpy(history.items).long()] = -torch.inf
    return scores_BI


@contextmanager
def reading_clock(model: R2ec) -> Iterator[list[float]]:
    """Seconds that each reading takes."""
    seconds: list[float] = []
    original = model.user_states

    def timed(*arguments: object, **more: object) -> torch.Tensor:
        started = time.perf_counter()
        states = original(*arguments, **more)
        seconds.append(time.perf_counter() - started)
        return states

    model.user_states = timed
    yield seconds
    del model.user_states


def seconds_of(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def serving(model: R2ec, rounds: int) -> dict[str, float]:
    request = asked(len(model.catalogue), 1)
    query_D = torch.randn(WIDTH)
    rows_ID = model.vectors.rows_ID
    took: dict[str, list[float]] = {"table": [], "product": [], "normalising": []}

    @torch.no_grad()
    def normalising() -> None:
        model.head.scores(query_D[None], model.head.item_vectors(model.states.rows_ID)).topk(K)

    with reading_clock(model) as read:
        for turn in range(rounds + 1):  # the first one is not counted
            whole = seconds_of(lambda: model.retrieve(request, K))
            product = seconds_of(lambda: rows_ID @ query_D)
            took["table"].append(whole - read[-1])
            took["product"].append(product)
            if turn < 4:
                took["normalising"].append(seconds_of(normalising))
    ranking, scores_BI = model.retrieve(request, K), dense_scores(model, request)
    expected = scores_BI.topk(K)
    assert ranking.items_BK.tolist() == expected.indices.tolist()
    difference = float((torch.from_numpy(ranking.scores_BK) - expected.values).abs().max())
    assert difference < ROUNDING, f"scores differ by {difference}"
    milliseconds = {name: 1000 * statistics.median(seconds[1:]) for name, seconds in took.items()}
    return {
        "table_ms_ratio": milliseconds["table"] / milliseconds["product"],
        "normalising_ms_ratio": milliseconds["normalising"] / milliseconds["product"],
        **{f"{name}_ms": value for name, value in milliseconds.items()},
        "score_max_abs_difference": difference,
    }


def places(model: R2ec, num_requests: int) -> dict[str, float]:
    requests = asked(len(model.catalogue), num_requests)
    targets_B = np.random.default_rng(1).integers(0, len(model.catalogue), num_requests)
    model.target_ranks(requests[:2], targets_B[:2])  # the vectors are made
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest amount so far
    before = mebibytes("VmRSS")
    seconds = seconds_of(lambda: model.target_ranks(requests, targets_B))
    peak = mebibytes("VmHWM") - before
    ranks_B = torch.from_numpy(model.target_ranks(requests, targets_B))
    equal = 0
    for part, batch in requests.batches(64):
        scores_BI = dense_scores(model, batch)
        own_B1 = scores_BI.gather(1, torch.from_numpy(targets_B[part])[:, None])
        equal += int((ranks_B[part] == (scores_BI >= own_B1).sum(dim=1)).sum())
        seen_B = own_B1[:, 0].isneginf()
        fewest_B = 1 + (scores_BI > own_B1 + ROUNDING).sum(dim=1)
        most_B = (scores_BI >= own_B1 - ROUNDING).sum(dim=1)
        fits_B = (ranks_B[part] >= fewest_B) & (ranks_B[part] <= most_B)
        assert bool(torch.where(seen_B, ranks_B[part] == len(model.catalogue) + 1, fits_B).all())
    return {
        "target_ranks_mib": peak,
        "target_ranks_ms_per_request": 1000 * seconds / num_requests,
        "target_ranks_equal_share": equal / num_requests,
    }


def mebibytes(name: str) -> float:
    """What Linux says of this process: its memory now (VmRSS), or at most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def main() -> None:
    arguments = parser(__doc__, quick="a tenth of the items and few requests: a check that it runs").parse_args()
    torch.set_num_threads(1)
    model = made(20_000 if arguments.quick else 200_000)
    figures = serving(model, 3 if arguments.quick else 20)
    figures |= places(model, 64 if arguments.quick else 1024)
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()
