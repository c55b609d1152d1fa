"""The slopes of the cost model: seconds of the processor for each token, item and user, and bytes for each item.

Each slope is that of a straight line through four sizes, by least squares, in seconds of one thread (user and system):
they hardly depend on what else the machine does. `*_residual` is the largest distance of a measurement from its
line, as a share of the largest measurement: what the line does not tell.

token_read, token_trained   packed prompts of 64 tokens, SmolLM2-135M, and its adapter of rank 16 on all layers
token_written               4 tokens in each of 8 to 32 rows behind prompts of 32 tokens
item_searched               one of 64 queries over 25,000 to 200,000 vectors of width 576, the 10 best
item_bytes                  resident memory of such a table while it answers
user_scored, answer_bytes   a user of item-kNN with 500 items, 10 answers written as Parquet (`thinkrank score`)

    python benchmarks/costs.py --json benchmarks/results/costs.json        # some minutes
"""

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from _figures import parser, tell
from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.language import (
    GenerationOptions,
    LoraOptions,
    Packing,
    PrefixTree,
    TransformersEngine,
    add_lora,
    load_backbone,
    packed_states,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.offline import score_users
from thinkrank.recipes.answering import Manner
from thinkrank.retrieve import ItemKNN
from thinkrank.retrieve.item_table import ItemTable

WIDTH, QUERIES, K, PROMPT = 576, 64, 10, 64


def processor_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def line(name: str, sizes: Sequence[int], values: Sequence[float]) -> dict[str, float]:
    """Fit a straight line."""
    x, y = np.asarray(sizes, dtype=float), np.asarray(values)
    slope, start = np.polyfit(x, y, 1)
    return {name: float(slope), f"{name}_residual": float(np.abs(start + slope * x - y).max() / y.max())}


def tokens(quick: bool) -> dict[str, float]:
    backbone = load_backbone("tiny" if quick else "smollm2", texts=["a film"])
    adapted = add_lora(backbone, LoraOptions(rank=16))
    parameters = list(adapter_state(adapted).values())
    random = np.random.default_rng(0)
    counts = (64, 128, 192, 256)

    def packing(count: int) -> Packing:
        rows = [random.integers(100, 250, PROMPT).tolist() for _ in range(count // PROMPT)]
        return Packing(PrefixTree.rows(rows), adapted.device)

    def train(packed: Packing) -> None:
        torch.autograd.grad(packed_states(adapted, packed).square().mean(), parameters)

    def read(packed: Packing) -> None:
        with torch.no_grad():
            packed_states(adapted, packed)

    packings = [packing(count) for count in counts]
    train(packings[0])  # the first one also pays for what is made only once
    figures = line("token_read", counts, [processor_seconds(lambda p=packed: read(p)) for packed in packings])
    figures |= line("token_trained", counts, [processor_seconds(lambda p=packed: train(p)) for packed in packings])
    options = GenerationOptions(max_new_tokens=4, temperature=1.0)
    prompts = PrefixTree.rows([random.integers(100, 250, 32).tolist() for _ in range(8)])
    engine, siblings = TransformersEngine(adapted), (1, 2, 3, 4)
    took = [processor_seconds(lambda n=n: engine.sample(prompts, options, num_samples=n)) for n in siblings]
    return figures | line("token_written", [4 * 8 * n for n in siblings], took)


def resident() -> int:
    gc.collect()
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


def items(quick: bool) -> dict[str, float]:
    counts = [n // 100 if quick else n for n in (25_000, 50_000, 100_000, 200_000)]
    queries_BD = torch.randn(QUERIES, WIDTH, generator=torch.Generator().manual_seed(0))
    seconds, memory, before = [], [], resident()
    for count in counts:
        table = ItemTable(torch.randn(count, WIDTH))
        seconds.append(processor_seconds(lambda t=table: t.search(queries_BD, K)) / QUERIES)
        memory.append(float(resident() - before))
        del table
    return line("item_searched", counts, seconds) | line("item_bytes", counts, memory)


def users(quick: bool) -> dict[str, float]:
    random, counts = np.random.default_rng(0), [n // 10 if quick else n for n in (500, 1000, 2000, 4000)]
    ids = [f"item {row}" for row in range(500)]
    catalogue = Catalogue(pl.DataFrame({"item": ids, "title": ids}))
    events = [
        {"user": f"u{user}", "item": ids[item], "timestamp": 1000 * step + user}
        for user in range(1000)
        for step, item in enumerate(random.choice(500, 15, replace=False))
    ]
    model = ItemKNN().fit(split_dataset(Dataset("made", pl.DataFrame(events), catalogue)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder / "model")
        took, written = [], []
        for count in counts:
            histories = [[ids[item] for item in random.choice(500, 15)] for _ in range(count)]
            people = pl.DataFrame({"user": [f"p{user}" for user in range(count)], "items": histories})
            people.write_parquet(folder / f"{count}.parquet")
            began = time.process_time()
            score_users(folder / "model", folder / f"{count}.parquet", folder / str(count), Manner(k=K))
            took.append(time.process_time() - began)
            written.append(float(sum(file.stat().st_size for file in (folder / str(count)).glob("*.parquet"))))
    return line("user_scored", counts, took) | line("answer_bytes", counts, written)


def main() -> None:
    arguments = parser(__doc__, quick="a tiny model and small sizes: a check that it runs").parse_args()
    torch.set_num_threads(1)
    tell(tokens(arguments.quick) | items(arguments.quick) | users(arguments.quick), arguments.json)


if __name__ == "__main__":
    main()
