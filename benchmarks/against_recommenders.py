"""Our baselines against those of other libraries: the same training events, the same requests, one metric.

MovieLens-100K in time order, 2,000 test samples (seed 0), the whole catalogue, seen items left out; one function judges
the ten best items of both sides. Where a method has one right answer, the answers are compared too:

- item-kNN without shrinkage against implicit's cosine neighbours (200 of each item), equal votes of whole histories;
- EASE against RecTools, ridge 500, equal votes of whole histories. RecTools 0.19 scores by the transposed weights (an
  item is voted for by what it votes for itself), so our lists are compared with its own both ways;
- ALS against implicit, 32 factors, 10 sweeps from the same first item factors, exact solver.

`same_lists` is the share of samples whose ten items are the same in the same order.

The networks of two libraries are never the same to the bit: other draws, other windows, other optimisers. There the
figures only say whether one of them is weak:

- SASRec, and with gated layers eSASRec, against RecTools: width 64, 2 blocks, 2 heads, 200 items read, softmax over the
  whole catalogue, the same rate, batch size and number of epochs, no early stopping;
- GRU4Rec against cornac: width 64, cross-entropy, as many epochs; ours reads windows of 50, 16 for an update, by AdamW;
  cornac's reads 64 sessions side by side and updates after each event, by Adagrad at its rate of .05.

Needs the libraries, whose pins conflict with our other environments: `make parity-recommenders`.
"""

import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from cornac.data import SequentialDataset
from cornac.models import GRU4Rec as CornacGRU4Rec
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from rectools import Columns
from rectools.dataset import Dataset as RectoolsDataset
from rectools.dataset import IdMap, Interactions
from rectools.models import EASEModel, SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

from _figures import parser, tell
from thinkrank import load_dataset
from thinkrank.data import Dataset, History, Samples, split_dataset
from thinkrank.metrics import hit, ndcg, relevance_from_ranks
from thinkrank.retrieve import (
    ALS,
    EASE,
    ALSConfig,
    EASEConfig,
    GRU4Rec,
    Gru4recOptions,
    ItemKNN,
    ItemKNNConfig,
    SASRec,
    SasrecOptions,
    train_sequential,
)

K = 10
VOTES = {"window": None, "decay": 1.0}
NETWORK = {"width": 64, "dropout": 0.2, "learning_rate": 1e-3, "batch_size": 16}
Figures = dict[str, float]


class Data:
    """What every library learns from and is asked, in its own form."""

    def __init__(self, samples: int) -> None:
        split = split_dataset(load_dataset("movielens-100k"))
        self.split, self.histories = split, split.train_histories()
        self.samples: Samples = split.test.subset(samples, 0)
        self.requests = self.samples.requests()
        self.num_items = len(split.dataset.catalogue)
        self.train = _frame(self.histories)
        self.known = np.flatnonzero(split.train_counts)
        self.rectools = _rectools(self.train, self.known)
        # RecTools counts items up to the last one that somebody took: the last user, whom nobody asks for, took all.
        everything = History.of(self.known.tolist())
        asked = _frame([*self.requests.histories, everything])
        self.asked = _rectools(asked[asked[Columns.Item].isin(self.known)], self.known)

    def matrix(self, histories: list[History]) -> sp.csr_matrix:
        """A row per history, 1 where it holds an item."""
        frame = _frame(histories).drop_duplicates(["user_id", "item_id"])
        cells = (np.ones(len(frame), np.float32), (frame["user_id"], frame["item_id"]))
        return sp.csr_matrix(cells, shape=(len(histories), self.num_items))

    def judged(self, name: str, items_BK: np.ndarray) -> Figures:
        """NDCG and hits of the ten best items of each sample."""
        found_BK = items_BK == self.samples.targets[:, None]
        ranks_B = np.where(found_BK.any(axis=1), found_BK.argmax(axis=1) + 1, K + 1)
        relevance_BN = relevance_from_ranks(ranks_B, K)
        return {
            f"{name}_ndcg_10": float(ndcg(relevance_BN, K).mean()),
            f"{name}_hit_10": float(hit(relevance_BN, K).mean()),
        }

    def ours(self, model: Any) -> np.ndarray:
        """Our ten best items."""
        items_BK: np.ndarray = model.retrieve(self.requests, K).items_BK
        return items_BK

    def of_rectools(self, model: Any) -> np.ndarray:
        """RecTools' ten best items, -1 for histories that it does not answer."""
        users = np.arange(len(self.samples))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on users without history
            table = model.recommend(users, self.asked, k=K, filter_viewed=True, on_unsupported_targets="ignore")
        items_BK = np.full((len(users), K), -1)
        items_BK[table["user_id"], table["rank"] - 1] = table["item_id"]
        return items_BK


def _frame(histories: list[History]) -> pd.DataFrame:
    lengths = [len(history) for history in histories]
    items = np.concatenate([history.items for history in histories])
    order = np.arange(sum(lengths))  # of what happened at one second, the file's order holds
    return pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(histories)), lengths),
            Columns.Item: items,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(order, unit="s"),
        }
    )


def _rectools(frame: pd.DataFrame, known: np.ndarray) -> RectoolsDataset:
    users, items = IdMap.from_values(np.arange(frame[Columns.User].max() + 1)), IdMap.from_values(known)
    return RectoolsDataset(users, items, Interactions.from_raw(frame, users, items))


def item_knn(data: Data) -> Figures:
    ours = ItemKNN(ItemKNNConfig(neighbours=200, shrinkage=0.0, **VOTES)).fit(data.split)
    theirs = CosineRecommender(K=201)  # each item is its own nearest neighbour
    theirs.fit(data.matrix(data.histories), show_progress=False)
    weights_II = theirs.similarity.toarray()
    np.fill_diagonal(weights_II, 0)
    # Where several neighbours tie for the last place, each library keeps others of the same weight.
    difference = np.abs(np.sort(weights_II, axis=1) - np.sort(ours.weights_II, axis=1)).max()
    asked = data.matrix(list(data.requests.histories))
    items_BK, _ = theirs.recommend(np.arange(asked.shape[0]), asked, N=K, filter_already_liked_items=True)
    mine_BK = data.ours(ours)
    figures = {"item_knn_weight_difference": float(difference), "item_knn_same_lists": same_lists(mine_BK, items_BK)}
    return figures | data.judged("item_knn", mine_BK) | data.judged("item_knn_implicit", items_BK)


def ease(data: Data) -> Figures:
    ours = EASE(EASEConfig(ridge=500.0, **VOTES)).fit(data.split)
    theirs = EASEModel(regularization=500.0)
    theirs.fit(data.rectools)
    mine_II = ours.weights_II[np.ix_(data.known, data.known)]
    difference = np.abs(theirs.weight - mine_II).max() / np.abs(mine_II).max()
    mine_BK, items_BK = data.ours(ours), data.of_rectools(theirs)
    transposed = EASE(ours.config)
    transposed.learn(ours.catalogue, {**ours.arrays, "weights_II": ours.weights_II.T.copy()})
    figures = {
        "ease_weight_difference": float(difference),
        "ease_same_lists": same_lists(mine_BK, items_BK),
        "ease_same_lists_transposed": same_lists(data.ours(transposed), items_BK),
    }
    return figures | data.judged("ease", mine_BK) | data.judged("ease_rectools", items_BK)


def als(data: Data) -> Figures:
    config = ALSConfig(width=32, confidence=10.0, ridge=50.0, sweeps=10, **VOTES)
    ours = ALS(config).fit(data.split)
    theirs = AlternatingLeastSquares(
        factors=32, regularization=50.0, alpha=11.0, iterations=10, use_cg=False, num_threads=1
    )
    first_ID = np.random.default_rng(config.seed).normal(0, 0.1, (data.num_items, 32)).astype(np.float32)
    theirs.user_factors, theirs.item_factors = np.zeros((len(data.histories), 32), np.float32), first_ID
    theirs.fit(data.matrix(data.histories), show_progress=False)
    mine_ID = ours.arrays["items_ID"]
    difference = np.abs(theirs.item_factors - mine_ID).max() / np.abs(mine_ID).max()
    asked = data.matrix(list(data.requests.histories))
    items_BK, _ = theirs.recommend(np.arange(asked.shape[0]), asked, N=K, recalculate_user=True)
    mine_BK = data.ours(ours)
    figures = {"als_factor_difference": float(difference), "als_same_lists": same_lists(mine_BK, items_BK)}
    return figures | data.judged("als", mine_BK) | data.judged("als_implicit", items_BK)


def same_lists(items_BK: np.ndarray, others_BK: np.ndarray) -> float:
    return float((items_BK == others_BK).all(axis=1).mean())


def timed(name: str, fit: Callable[[], Any]) -> Figures:
    started = time.perf_counter()
    fit()
    return {f"{name}_seconds": time.perf_counter() - started}


def train_part(data: Data) -> Dataset:
    """The training events alone: without a validation part nothing stops early."""
    dataset, (starts, ends) = data.split.dataset, data.split.train_ranges.T
    events = np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
    return Dataset("train", dataset.interactions[events], dataset.catalogue)


def sasrec(data: Data, epochs: int) -> Figures:
    figures: Figures = {}
    for name, layers in (("sasrec", "transformer"), ("esasrec", "ligr")):
        torch.manual_seed(0)
        ours = SASRec(SasrecOptions(layers=layers, max_epochs=epochs, max_length=200, **NETWORK), device="cpu")
        figures |= timed(name, lambda ours=ours: train_sequential(ours, train_part(data)))
        theirs = SASRecModel(
            n_blocks=2, n_heads=2, n_factors=64, dropout_rate=0.2, session_max_len=200, lr=1e-3, batch_size=16,
            epochs=epochs, loss="softmax", recommend_torch_device="cpu", verbose=0,
            **({"transformer_layers_type": LiGRLayers} if layers == "ligr" else {}),
        )  # fmt: skip
        figures |= timed(f"{name}_rectools", lambda theirs=theirs: theirs.fit(data.rectools))
        figures |= data.judged(name, data.ours(ours)) | data.judged(f"{name}_rectools", data.of_rectools(theirs))
    return figures


def gru4rec(data: Data, epochs: int) -> Figures:
    ours = GRU4Rec(Gru4recOptions(max_epochs=epochs, max_length=50, **NETWORK), device="cpu")
    figures = timed("gru4rec", lambda: train_sequential(ours, train_part(data)))
    frame = data.train
    rows = [
        (user, user, item, n) for n, (user, item) in enumerate(zip(frame["user_id"], frame["item_id"], strict=True))
    ]
    train_set = SequentialDataset.from_usit(rows, seed=0)
    theirs = CornacGRU4Rec(
        layers=[64], batch_size=64, dropout_p_hidden=0.2, n_epochs=epochs, n_sample=2048, sample_alpha=0.5, seed=0
    )
    figures |= timed("gru4rec_cornac", lambda: theirs.fit(train_set))
    numbers = np.array([train_set.iid_map.get(item, -1) for item in range(data.num_items)])
    items_BK = np.full((len(data.samples), K), -1)
    for row, history in enumerate(data.requests.histories):
        known = numbers[history.items]
        scores_I = np.full(data.num_items, -np.inf)
        scores_I[numbers >= 0] = np.asarray(theirs.score(0, known[known >= 0].tolist()))[numbers[numbers >= 0]]
        scores_I[history.items] = -np.inf
        items_BK[row] = np.argsort(-scores_I, kind="stable")[:K]
    return figures | data.judged("gru4rec", data.ours(ours)) | data.judged("gru4rec_cornac", items_BK)


def main() -> None:
    made = parser(__doc__, quick="two epochs and 200 samples")
    made.add_argument(
        "--exact", action="store_true", help="only what has one right answer; keep the file's other figures"
    )
    arguments = made.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)  # of Lightning, on loaders and processes
    data = Data(200 if arguments.quick else 2000)
    epochs = 2 if arguments.quick else 10
    figures = {"samples": float(len(data.samples)), **item_knn(data), **ease(data), **als(data)}
    if not arguments.exact:
        figures |= {"epochs": float(epochs), **gru4rec(data, epochs), **sasrec(data, epochs)}
    elif arguments.json is not None and arguments.json.is_file():
        figures = {**json.loads(arguments.json.read_bytes()), **figures}
    tell(figures, arguments.json)
    for name, tolerance in (
        ("item_knn_weight_difference", 1e-5),
        ("ease_weight_difference", 1e-3),
        ("als_factor_difference", 1e-2),
    ):
        assert figures[name] < tolerance, f"{name} is {figures[name]:.2g}"


if __name__ == "__main__":
    main()
