"""What `add_items` is worth on real data: products that no training knew, taken out and added again without training.

    python benchmarks/added.py --path FOLDER --run runs/late/amazon-office/reader-0 --run …

Each run is a trained R²ec, such as studies/late leaves, of the Amazon category in the folder. All items that do not
occur in the train part are withdrawn, and added again under new ids with their texts alone; the test samples whose
target is one of them are then answered without any training. The same targets where they stood all along, and the
likeness of text embeddings, stand beside it. Figures are means over the runs.
"""

from pathlib import Path

import numpy as np
import polars as pl

from _figures import parser, tell
from thinkrank.data import load_dataset, split_dataset
from thinkrank.pretrained import load
from thinkrank.retrieve.text import TextCosine

SUFFIX = " (added)"


def main() -> None:
    options = parser(__doc__, quick="one run")
    options.add_argument("--path", required=True, help="folder of the Amazon 2018 category of the runs")
    options.add_argument("--run", required=True, action="append", type=Path, help="a trained R²ec; repeatable")
    arguments = options.parse_args()
    data = load_dataset("amazon-2018", path=arguments.path)
    split = split_dataset(data, ties="before")
    untrained_N = np.flatnonzero(split.train_counts == 0)
    samples = split.test.take(np.flatnonzero(np.isin(split.test.targets, untrained_N)))
    known_S = np.array([np.isin(history.items, untrained_N).sum() == 0 for history in samples.histories()])
    samples = samples.take(np.flatnonzero(known_S))  # the histories stay as they were read
    requests, ids = samples.requests(), [data.catalogue.ids[row] for row in untrained_N.tolist()]
    frame = data.catalogue.frame.filter(pl.col("item").is_in(ids))
    again = frame.with_columns(pl.col("item") + SUFFIX)
    places = {"there": [], "added": []}
    for run in arguments.run[:1] if arguments.quick else arguments.run:
        model = load(run)
        places["there"].append(model.target_ranks(requests, samples.targets))
        model.withdraw_items(ids)
        rows = dict(zip(again["item"].to_list(), model.add_items(again), strict=True))
        targets = [rows[data.catalogue.ids[row] + SUFFIX] for row in samples.targets]
        places["added"].append(model.target_ranks(requests, np.array(targets)))
    places["text"] = [TextCosine().fit(split).target_ranks(requests, samples.targets)]
    figures = {"items_added": len(ids), "samples": len(samples), "catalogue": len(data.catalogue)}
    for name, found in places.items():
        found_RS = np.stack(found)
        figures[f"{name}_hit@100"] = float((found_RS <= 100).mean())
        figures[f"{name}_mrr"] = float((1 / found_RS).mean())
        figures[f"{name}_median_place"] = float(np.median(found_RS))
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()
