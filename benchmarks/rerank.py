"""What thinking costs a re-ranker: 256 requests with 25 candidates, slates of 10, two threads.

A model with fresh weights, sharpened so that entropies differ between places and rows as a trained model's do (without
that every row would think at the same places). Its gate is calibrated so that 40 % of the places think. Timed are whole
answers to lists that are already tensors (encoding, thinking, choosing) and, as `write_...`, the part after the
encoding; the ways take turns, and the fastest of all rounds counts.

One request is timed from `Requests` and `Candidates` on, so with checking them and making tensors; the same with a
catalogue of 100,000 items more. Exponents are slopes of log time over log size; 1 is linear.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import torch

from _figures import parser, tell
from thinkrank.data import Catalogue, ImpressionDataset, ListWorld, ListWorldOptions
from thinkrank.rerank import EGLR, Context, EGLRConfig, GeneratorOptions, ReasoningOptions
from thinkrank.rerank.eglr.decoding import Written
from thinkrank.rerank.lists import ListBatch, list_batch

BATCH, CANDIDATES, PLACES, RATE = 256, 25, 10, 0.4
KINDS = ("gru", "transformer", "mlp", "prefix_sum")
SHARPER = {
    "gru": "energy.weight",
    "transformer": "query.weight",
    "mlp": "score.3.weight",
    "prefix_sum": "query.4.weight",
}
NONE = ReasoningOptions(mode="none")


def made_lists(count: int, candidates: int) -> ImpressionDataset:
    sizes = {"users": 50, "styles": 16, "kinds": 16, "items": max(200, candidates)}
    return ListWorld(ListWorldOptions(lists=count, candidates=candidates, **sizes)).lists


def first(lists: ImpressionDataset, count: int) -> ListBatch:
    return list_batch(lists.requests, lists.candidates, slice(count))


def made_model(kind: str, lists: ImpressionDataset) -> EGLR:
    """Fresh weights whose choices have entropies on both sides of one nat below the largest possible."""
    model = EGLR.create(EGLRConfig(generator=GeneratorOptions(kind=kind)), lists, device="cpu")
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for embedding in model.writer.encoder.modules():
            if isinstance(embedding, torch.nn.Embedding):  # they begin at zero
                embedding.weight.normal_(generator=random)
        weight = model.writer.generator.get_parameter(SHARPER[kind])
        for _ in range(30):
            written = answer(model, first(lists, 64), NONE)
            if written.entropies_before_RK.std(dim=0).mean() > 0.3:
                return model
            weight.mul_(1.3)
    raise AssertionError(f"the entropies of {kind} do not spread")


def answer(model: EGLR, batch: ListBatch, reasoning: ReasoningOptions, places: int = PLACES) -> Written:
    return model.answer(batch, places, model.writer.thinking(reasoning))


@torch.inference_mode()
def write(model: EGLR, context: Context, places: int, reasoning: ReasoningOptions = NONE) -> Written:
    """The part of an answer behind the encoding."""
    return model.writer.thinking(reasoning).write(context, places)


def calibrated(model: EGLR, batch: ListBatch, steps: int) -> ReasoningOptions:
    """Think at 40 % of the places, at most so many times."""
    writer = model.writer.thinking(ReasoningOptions(max_steps=steps, trigger_rate=RATE))
    with torch.no_grad():
        rate = writer.calibrate([writer.context(batch)], PLACES, rounds=8)
    assert abs(rate - RATE) < 0.02, f"{rate:.3f} of the places think"
    return writer.reasoning


def fastest(ways: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Seconds of each, the fastest of many rounds in which they take turns."""
    best = [float("inf")] * len(ways)
    for turn in range(rounds + 1):
        for index in [*range(turn % len(ways), len(ways)), *range(turn % len(ways))]:
            started = time.perf_counter()
            ways[index]()
            if turn:  # the first one is not counted
                best[index] = min(best[index], time.perf_counter() - started)
    return best


def thinking(kind: str, lists: ImpressionDataset, rounds: int) -> dict[str, float]:
    """Time with at most 1 and 3 thoughts over the time without any."""
    model, batch = made_model(kind, lists), first(lists, BATCH)
    modes = [NONE, *(calibrated(model, batch, steps) for steps in (1, 3))]
    plain, nothing = (answer(model, batch, mode) for mode in (NONE, ReasoningOptions(max_steps=0)))
    assert torch.equal(plain.columns_RK, nothing.columns_RK)
    assert torch.equal(plain.logprobs_RK, nothing.logprobs_RK)
    with torch.inference_mode():
        context = model.writer.context(batch)
    whole = fastest([lambda mode=mode: answer(model, batch, mode) for mode in modes], rounds)
    part = fastest([lambda mode=mode: write(model, context, PLACES, mode) for mode in modes], rounds)
    prefix = "" if kind == "gru" else f"{kind}_"
    figures = {f"{prefix}seconds": whole[0]}
    for index, steps in enumerate((1, 3), start=1):
        thoughts = answer(model, batch, modes[index]).steps_RK.float()
        figures[f"{prefix}smax{steps}_time_ratio"] = whole[index] / whole[0]
        figures[f"{prefix}write_smax{steps}_time_ratio"] = part[index] / part[0]
        figures[f"{prefix}smax{steps}_trigger_rate"] = float((thoughts > 0).float().mean())
        figures[f"{prefix}smax{steps}_mean_thoughts"] = float(thoughts.mean())
    return figures


def with_more_items(lists: ImpressionDataset) -> ImpressionDataset:
    """The same lists of a catalogue with items that none of them shows."""
    more = pl.DataFrame({"item": [f"more {row}" for row in range(100_000)]}).with_columns(title="item")
    return replace(lists, catalogue=Catalogue(pl.concat([lists.catalogue.frame, more], how="diagonal")))


def requests(lists: ImpressionDataset, count: int, name: str = "request") -> dict[str, float]:
    """Milliseconds of one request at a time, GRU pointer, at most one thought per place."""
    model = made_model("gru", lists)
    model.writer = model.writer.thinking(calibrated(model, first(lists, BATCH), 1))
    asked, candidates = lists.requests, lists.candidates
    parts = [slice(index % len(lists), index % len(lists) + 1) for index in range(count + 10)]
    single = [(asked[part], candidates[part]) for part in parts]
    together = model.rerank(asked[:8], candidates[:8], PLACES)
    took = []
    for index, (request, shown) in enumerate(single):
        started = time.perf_counter()
        ranking = model.rerank(request, shown, PLACES)
        took.append(1e3 * (time.perf_counter() - started))
        if index < 8:
            assert (ranking.items_BK[0] == together.items_BK[index]).all(), "a request is answered by its company"
    took = took[10:]
    return {f"{name}_p50_ms": float(np.percentile(took, 50)), f"{name}_p95_ms": float(np.percentile(took, 95))}


def exponents(rounds: int, sizes: Sequence[int]) -> dict[str, float]:
    """How the time of an answer grows with its candidates, and that of writing with the number of places."""
    longest = sizes[-1]
    lists = made_lists(64, longest)
    model = made_model("gru", lists)
    batch = first(lists, 64)
    with torch.inference_mode():
        context = model.writer.context(batch)
    ways: dict[str, list[Callable[[], object]]] = {"candidates": [], "places": []}
    for size in sizes:
        part = ListBatch(**{**vars(batch), **_narrowed(batch, size)})
        ways["candidates"].append(lambda part=part: answer(model, part, NONE, PLACES))
        ways["places"].append(lambda size=size: write(model, context, size))
    slopes = {}
    for name, some in ways.items():
        seconds = fastest(some, rounds)
        slopes[f"{name}_exponent"] = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {**slopes, "list_length_exponent": max(slopes.values())}


def _narrowed(batch: ListBatch, size: int) -> dict[str, torch.Tensor]:
    names = ("items_BN", "numeric_BNF", "categorical_BNC", "mask_BN")
    return {name: getattr(batch, name)[:, :size] for name in names}


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    rounds, count = (3, 20) if arguments.quick else (40, 400)
    lists = made_lists(600, CANDIDATES)
    figures: dict[str, float] = {}
    for kind in ("gru",) if arguments.quick else KINDS:
        figures |= thinking(kind, lists, rounds if kind == "gru" else max(3, rounds // 4))
    figures |= requests(lists, count)
    figures |= requests(with_more_items(lists), count, "large_catalogue_request")
    return figures | exponents(max(3, rounds // 4), (20, 40, 80, 160))


def main() -> None:
    made = parser(__doc__, quick="the GRU pointer alone, few rounds: a check that it runs")
    arguments = made.parse_args()
    torch.set_num_threads(2)
    tell(measure(arguments), arguments.json)


if __name__ == "__main__":
    main()
