"""Peak memory and speed of preparing a large data set: read, check, sort, split, fingerprint and save.

Writes an Amazon-2023-like category of random ids to a temporary folder and prepares it in a process of its own, whose
largest resident size the operating system reports.

    python benchmarks/data_memory.py --json figures.json            # ten million rows, a few minutes
    python benchmarks/data_memory.py --json figures.json --quick    # a few seconds
"""

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from _figures import parser, tell

CATEGORY = "Random"
ROWS_AT_ONCE = 500_000


def write_category(folder: Path, rows: int, seed: int) -> None:
    """Write ``Random.csv.gz`` and ``meta_Random.jsonl.gz``: eight ratings per user, a hundred per item on average."""
    rng = np.random.default_rng(seed)
    users, items = max(rows // 8, 1), max(rows // 100, 1)
    with gzip.open(folder / f"{CATEGORY}.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"user_id,parent_asin,rating,timestamp\n")
        for start in range(0, rows, ROWS_AT_ONCE):
            size = min(ROWS_AT_ONCE, rows - start)
            frame = pl.DataFrame(
                {
                    "user": amazon_ids("AE", rng.integers(users, size=size), 28),
                    "item": amazon_ids("B0", rng.integers(items, size=size), 10),
                    "rating": rng.integers(1, 6, size=size).astype(float),
                    "time": rng.integers(1_500_000_000_000, 1_690_000_000_000, size=size),
                }
            )
            file.write(frame.write_csv(include_header=False).encode())
    with gzip.open(folder / f"meta_{CATEGORY}.jsonl.gz", "wb", compresslevel=1) as file:
        for start in range(0, items, ROWS_AT_ONCE):
            numbers = np.arange(start, min(start + ROWS_AT_ONCE, items))
            frame = pl.DataFrame({"parent_asin": amazon_ids("B0", numbers, 10)}).with_columns(
                pl.format("Random product {} with a title of the usual length", "parent_asin").alias("title"),
                pl.concat_list(pl.lit("A <b>plain</b> description &amp; nothing more. " * 8)).alias("description"),
                pl.concat_list(pl.lit("Random"), pl.lit("Things")).alias("categories"),
                pl.lit(9.99).alias("price"),
                pl.lit("Nobody").alias("store"),
            )
            file.write(frame.write_ndjson().encode())


def amazon_ids(prefix: str, numbers: np.ndarray, length: int) -> pl.Series:
    """Ids that look alike at the front and differ at the end, as the real ones do."""
    return prefix + pl.Series(numbers).cast(pl.String).str.pad_start(length - len(prefix), "0")


def prepare(folder: Path) -> dict[str, float]:
    """What ``thinkrank prepare`` does; measured in this process."""
    from thinkrank.data import load_dataset, split_dataset

    start = time.perf_counter()
    dataset = load_dataset("amazon-2023", folder)
    split_dataset(dataset).manifest()
    dataset.save(folder / "prepared")
    seconds = time.perf_counter() - start
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    rows = len(dataset.items_E)
    return {
        "prepare_peak_gib": peak / 2**30,
        "prepare_rows_per_second": rows / seconds,
        "prepare_rows": rows,
        "prepare_seconds": seconds,
    }


def main() -> None:
    options = parser(__doc__, quick="200,000 rows")
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--write", type=Path, help=argparse.SUPPRESS)  # the process that writes the files
    options.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)  # the process that is measured
    arguments = options.parse_args()
    if arguments.write:
        write_category(arguments.write, arguments.rows, arguments.seed)
        return
    if arguments.prepare:
        print(json.dumps(prepare(arguments.prepare)))
        return
    rows = min(arguments.rows, 200_000) if arguments.quick else arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        # Linux lets a child begin with the peak of its parent, so it must stay small: both steps are children.
        own = [sys.executable, __file__, "--rows", str(rows), "--seed", str(arguments.seed)]
        subprocess.run([*own, "--write", folder], check=True)
        output = subprocess.run([*own, "--prepare", folder], check=True, stdout=subprocess.PIPE, text=True).stdout
    figures = json.loads(output)
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()
