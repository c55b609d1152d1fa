"""Several retrievers as one: a weighted sum of their scores, its weights learnt from what validation users took next.

    score(u, i) = sum over k of w_k x_k(u, i)

The columns x are each part's scores, as they are (logits) or bent like a logarithm (counts, votes), whichever explains
more of what came next; and what an item that training never saw needs: a level of its own, and a slope of its own for
parts that tell such items apart (those that read text). The weights first maximise the likelihood of the items that
came next among all that compete: a conditional logit, convex, so there is one answer and no search. Then they are
turned towards a higher NDCG; and bent scores may be split into whether there is any and how much, if validation likes
it better. Users with hardly any history have weights that may deviate from the others'.

Shape legend: B requests, I items of the catalogue, K columns.
"""

import copy
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from safetensors.numpy import load_file

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.requests import Requests
from thinkrank.data.splits import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.metrics import ndcg, relevance_from_ranks
from thinkrank.options import Options
from thinkrank.pretrained import CATALOGUE_FILE, begin, load, local_folder, read_config, reading
from thinkrank.retrieve.base import ARRAYS_FILE, DenseRetriever
from thinkrank.retrieve.fusion_weights import conditional_logit, sharpened
from thinkrank.stages.answers import Ranking
from thinkrank.stages.checks import checked_candidates
from thinkrank.stages.order import mask_seen, target_ranks

PARTS = "parts"
_MOST_CELLS = 100_000_000
"""Numbers that learning holds at most; fewer samples are looked at where the catalogue is large."""
_KINDS = 3
"""Columns of a part: its scores, whether there is any, its scores of new items."""
_CUTOFF = 10


class FusedConfig(Options):
    """Hold the options of `Fused`."""

    model: Literal["fused"] = "fused"
    parts: tuple[str, ...] = Field((), description="names of the retrievers that are fused, in order")
    samples: PositiveInt = Field(1000, description="validation samples that the weights are learnt from, at most")
    ridge: NonNegativeFloat = Field(1e-3, description="penalty on the squared weights")
    newcomers: NonNegativeInt = Field(
        2, description="events of a history up to which its weights may deviate from those of longer ones"
    )
    newcomer_ridge: NonNegativeFloat = Field(
        1e-2, description="penalty on the squared deviation of newcomers' weights from those of the others"
    )
    objective: Literal["ndcg", "likelihood"] = Field(
        "ndcg",
        description="what weights are best for: with likelihood, all items alike; with ndcg, those turned so that the "
        "targets come further up",
    )
    filter_seen: bool = Field(True, description="whether items of the history do not compete while weights are learnt")


@dataclass(frozen=True, eq=False)
class _Learning:
    """What weights are learnt from: scores of every part, what competes, what was chosen, and by whom."""

    scores: list[Float32[np.ndarray, "B I"]]
    competes_BI: Bool[np.ndarray, "B I"]
    targets_B: Int[np.ndarray, "B"]
    newcomers_B: Bool[np.ndarray, "B"]


class Fused(DenseRetriever[FusedConfig]):
    """Retriever made of fitted retrievers.

    A part has `scores(requests)`, as the package's own have; one that only retrieves is asked for the whole catalogue.
    The parts must not have learnt from the samples that `fit` looks at: it takes the split's validation part.

    Args:
        parts: fitted retrievers by name, all of the same catalogue.
        config: its options; `parts` is filled in.

    Raises:
        ThinkrankError: if there is no part, or they know different items.
    """

    kind = "fused"
    config_class = FusedConfig

    def __init__(self, parts: Mapping[str, Any], config: FusedConfig | None = None) -> None:
        if not parts:
            raise ThinkrankError("there is nothing to fuse: name at least one fitted retriever")
        super().__init__((config or FusedConfig()).model_copy(update={"parts": tuple(parts)}))
        self.parts = dict(parts)
        first, *others = self.parts
        for name in others:
            if self.parts[name].catalogue.ids != self.parts[first].catalogue.ids:
                raise ThinkrankError(f"{name} and {first} know different items, so their scores cannot be summed")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Name what is weighed, in the order of the weights."""
        kinds = ("", ", any", ", new items")
        return (*(f"{part}{kind}" for part in self.parts for kind in kinds), "new items")

    @property
    def weights(self) -> dict[str, tuple[float, float]]:
        """Return the weight of each column that is used: for users with a history, and for newcomers."""
        rows = zip(self.column_names, *self.arrays["weights_2K"].tolist(), strict=True)
        return {name: (settled, newcomer) for name, settled, newcomer in rows if settled or newcomer}

    def without(self, name: str) -> "Fused":
        """Return the same without one part, to be fitted anew: what it loses is what the part adds."""
        return Fused({other: part for other, part in self.parts.items() if other != name}, self.config)

    def of(self, parts: Mapping[str, Any]) -> "Fused":
        """Return the same of other retrievers that answer as its parts do."""
        same = Fused({name: parts[name] for name in self.parts}, self.config)
        same.learn(self.catalogue, self.arrays)
        return same

    def fit(self, split: Split) -> "Fused":
        """Learn the weights from the split's validation part, and return self.

        Raises:
            ThinkrankError: if no validation sample can be used.
        """
        return self.fit_on(split.valid, split.train_counts)

    def fit_on(self, samples: Samples, counts_I: Any) -> "Fused":
        """Learn the weights from samples that no part has learnt from, and return self.

        Args:
            samples: more than `config.samples` are drawn from.
            counts_I: training events of each item; those without any are new.

        Raises:
            ThinkrankError: if no sample can be used: all their targets stand in their histories.
        """
        learning = self._learning(samples)
        is_new_I = np.asarray(counts_I) == 0
        shapes = [
            _shape(scores_BI, learning.competes_BI, learning.targets_B, is_new_I, self.config)
            for scores_BI in learning.scores
        ]
        shared = {
            "scales_P": np.array([scale for scale, _, _ in shapes], np.float32),
            "bends_P": np.array([bends for _, bends, _ in shapes], bool),
            "tells_new_P": np.array([tells_new for _, _, tells_new in shapes], bool),
            "is_new_I": is_new_I,
        }
        best, found = -1.0, shared
        for splits in dict.fromkeys((False, bool(shared["bends_P"].any()))):
            arrays = {**shared, "splits_1": np.array([splits])}
            weights_2K = self._weights(learning, arrays)
            total_BI = _summed(learning.scores, {**arrays, "weights_2K": weights_2K}, learning.newcomers_B)
            total_BI[~learning.competes_BI] = -np.inf
            ranks_B = target_ranks(total_BI, learning.targets_B)
            reached = float(ndcg(relevance_from_ranks(ranks_B, _CUTOFF), _CUTOFF).mean())
            if reached > best:
                best, found = reached, {**arrays, "weights_2K": weights_2K}
        self.learn(next(iter(self.parts.values())).catalogue, found)
        return self

    def weighed_on(self, samples: Samples) -> "Fused":
        """Return the same columns with weights that are learnt from other samples; see `fit_on`.

        Scales, and whether scores are bent or split, stay as they are: this is the quicker way to weights that have not
        seen some users.
        """
        arrays = {name: array for name, array in self.arrays.items() if name != "weights_2K"}
        same = Fused(self.parts, self.config)
        same.learn(self.catalogue, {**arrays, "weights_2K": self._weights(self._learning(samples), arrays)})
        return same

    def _learning(self, samples: Samples) -> "_Learning":
        """Score some samples, and find out what competes with their targets."""
        num_items, num_columns = len(next(iter(self.parts.values())).catalogue), len(self.column_names)
        samples = samples.subset(min(self.config.samples, max(1, _MOST_CELLS // (num_columns * num_items))), seed=0)
        requests = samples.requests()
        scores = [_scores(part, requests, num_items) for part in self.parts.values()]
        competes_BI = np.isfinite(np.stack(scores)).all(axis=0)
        if self.config.filter_seen and not samples.dataset.repeats:
            competes_BI &= np.isfinite(mask_seen(np.zeros(competes_BI.shape, np.float32), requests.histories))
        usable_B = competes_BI[np.arange(len(samples)), samples.targets]
        if not usable_B.any():
            raise ThinkrankError("no validation sample can be learnt from: none is left, or all targets were seen")
        return _Learning(
            [scores_BI[usable_B] for scores_BI in scores],
            competes_BI[usable_B],
            samples.targets[usable_B],
            _is_newcomer(requests, self.config.newcomers)[usable_B],
        )

    def _weights(self, learning: "_Learning", arrays: Mapping[str, np.ndarray]) -> Float32[np.ndarray, "2 K"]:
        """Find the weights of the columns that these arrays make; 0 for those that they leave out."""
        made = dict(_columns(learning.scores, arrays))
        given = np.stack(list(made.values()), axis=1), learning.competes_BI, learning.targets_B, learning.newcomers_B
        used_2K, _ = conditional_logit(*given, ridge=self.config.ridge, newcomer_ridge=self.config.newcomer_ridge)
        if self.config.objective == "ndcg":
            used_2K = sharpened(*given, used_2K)
        weights_2K = np.zeros((2, len(self.column_names)), np.float32)
        weights_2K[:, list(made)] = used_2K
        return weights_2K

    def add_items(self, items: pl.DataFrame | Catalogue) -> range:
        """Add items to every part, without learning anew; here they are new items, with the level of such.

        Raises:
            ThinkrankError: as the parts' own, naming the part; then none has grown.
        """
        grown = {
            name: copy.copy(part) if isinstance(part, DenseRetriever) else part for name, part in self.parts.items()
        }
        for name, part in grown.items():
            if not hasattr(part, "add_items"):
                raise ThinkrankError(f"{name}: a {type(part).__name__} takes no items without being fitted anew")
        for name, part in sorted(grown.items(), key=lambda pair: not isinstance(pair[1], DenseRetriever)):
            try:
                part.add_items(items)
            except ThinkrankError as error:
                raise ThinkrankError(f"{name}: {error}") from error
        self.parts = grown
        (catalogue, arrays), known = self._known(), len(self.catalogue)
        new = catalogue.extended(items)
        self.learn(new, {**arrays, "is_new_I": np.append(arrays["is_new_I"], np.ones(len(new) - known, bool))})
        return range(known, len(new))

    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Sum the weighed columns; -inf where a part has withdrawn an item."""
        requests, arrays = self.checked(requests), self.arrays
        scores = [_scores(part, requests, len(self.catalogue)) for part in self.parts.values()]
        total_BI = _summed(scores, arrays, _is_newcomer(requests, self.config.newcomers))
        total_BI[~np.isfinite(np.stack(scores)).all(axis=0)] = -np.inf
        return total_BI

    def features(self, requests: Any, candidates: Any) -> Candidates:
        """Add what each part says of each candidate, a numeric feature named after the part; 0 for what it withdrew.

        Args:
            requests: see `Requests.of`.
            candidates: a list for each request; see `Candidates.of`.
        """
        requests = self.checked(requests)
        candidates = checked_candidates(candidates, self.catalogue, len(requests))
        rows_BN = np.maximum(candidates.items_BN, 0)
        given = [] if candidates.numeric_BNF is None else [*np.moveaxis(candidates.numeric_BNF, 2, 0)]
        for part in self.parts.values():
            scores_BN = np.take_along_axis(_scores(part, requests, len(self.catalogue)), rows_BN, axis=1)
            given.append(np.where(candidates.mask_BN & np.isfinite(scores_BN), scores_BN, np.float32(0)))
        names = (*candidates.numeric_names, *self.parts)
        return replace(candidates, numeric_BNF=np.stack(given, axis=2), numeric_names=names)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write every part into a folder of its own below `parts`, loadable alone, then the weights.

        Raises:
            ThinkrankError: if nothing was learnt yet.
        """
        self._known()
        folder = begin(folder)
        for number, part in enumerate(self.parts.values()):
            part.save_pretrained(folder / PARTS / str(number))
        for more in (folder / PARTS).glob("[0-9]*"):
            if more.name.isdecimal() and int(more.name) >= len(self.parts):
                shutil.rmtree(more)  # of a longer fusion that was saved there
        super().save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls, where: str | Path, *, device: str = "auto", parts: Mapping[str, Any] | None = None
    ) -> "Fused":
        """Load what `save_pretrained` wrote.

        Args:
            where: a folder, or a hub id `owner/name`.
            device: where parts that compute with torch answer.
            parts: retrievers to use instead of those in the folder, by name: those of classes of your own.

        Raises:
            ThinkrankError: if a file is missing, unreadable, or of another kind or shape of model.
        """
        folder, given = local_folder(where), dict(parts or {})
        config = read_config(folder, cls.kind, cls.config_class)
        known = {
            name: given[name] if name in given else load(folder / PARTS / str(number), device=device)
            for number, name in enumerate(config.parts)
        }
        model = cls(known, config)
        with reading(folder):
            model.learn(Catalogue.load(folder / CATALOGUE_FILE), load_file(folder / ARRAYS_FILE))
        return model


def _scores(part: Any, requests: Requests, num_items: int) -> Float32[np.ndarray, "B I"]:
    """Ask a part for all its scores; -inf for what it does not answer with."""
    if hasattr(part, "scores"):
        return np.asarray(part.scores(requests), np.float32)
    ranking: Ranking = part.retrieve(requests, num_items, filter_seen=False)
    return ranking.scores_of_all(num_items)


def _is_newcomer(requests: Requests, most: int) -> Bool[np.ndarray, "B"]:
    return np.array([len(history) <= most for history in requests.histories], dtype=bool)


def _shape(
    scores_BI: Float32[np.ndarray, "B I"],
    competes_BI: Bool[np.ndarray, "B I"],
    targets_B: Int[np.ndarray, "B"],
    is_new_I: Bool[np.ndarray, "I"],
    config: FusedConfig,
) -> tuple[float, bool, bool]:
    """Find a part's scale, whether its scores are bent, and whether it tells new items apart."""
    among = np.abs(scores_BI[competes_BI & (scores_BI != 0)])
    scales = (float(scores_BI[competes_BI].std()) or 1.0, float(np.median(among)) if len(among) else 1.0)
    nobody_B = np.zeros(len(targets_B), dtype=bool)
    shapes = [
        (scale, bends, _bent(scores_BI, scale, bends)) for scale, bends in zip(scales, (False, True), strict=True)
    ]
    scale, bends, _ = min(
        shapes,
        key=lambda shape: conditional_logit(
            shape[2][:, None],
            competes_BI,
            targets_B,
            nobody_B,
            ridge=config.ridge,
            newcomer_ridge=config.newcomer_ridge,
        )[1],
    )
    new = scores_BI[:, is_new_I]
    tells_new = bool((np.isfinite(new) & (new != new[:, :1])).any())
    return scale, bends, tells_new


def _bent(scores_BI: Float32[np.ndarray, "B I"], scale: float, bends: bool) -> Float32[np.ndarray, "B I"]:
    """Scale scores and, below and above about the scale, let them grow as logarithms do; 0 for -inf."""
    scaled_BI = np.where(np.isneginf(scores_BI), np.float32(0), scores_BI) / np.float32(scale)
    return np.arcsinh(scaled_BI) if bends else scaled_BI


def _columns(
    scores: Sequence[Float32[np.ndarray, "B I"]], arrays: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, Float32[np.ndarray, "B I"]]]:
    """Yield the number of what is weighed, and it; a slope for new items only where a part tells them apart.

    Where bent scores are split, whether there is any has a weight of its own beside the logarithm of how much.
    """
    is_new_I, splits = arrays["is_new_I"].astype(np.float32), bool(arrays["splits_1"][0])
    shapes = zip(*(arrays[name].tolist() for name in ("scales_P", "bends_P", "tells_new_P")), strict=True)
    for number, (scores_BI, (scale, bends, tells_new)) in enumerate(zip(scores, shapes, strict=True)):
        first = _KINDS * number
        if bends and splits:
            some_BI = (scores_BI > 0) & np.isfinite(scores_BI)
            column_BI = np.log(scores_BI / np.float32(scale), out=np.zeros_like(scores_BI), where=some_BI)
            yield first + 1, some_BI.astype(np.float32)
        else:
            column_BI = _bent(scores_BI, scale, bends)
        yield first, column_BI
        if tells_new:
            yield first + 2, column_BI * is_new_I
    yield _KINDS * len(scores), np.broadcast_to(is_new_I, scores[0].shape)


def _summed(
    scores: Sequence[Float32[np.ndarray, "B I"]],
    arrays: Mapping[str, np.ndarray],
    newcomers_B: Bool[np.ndarray, "B"],
) -> Float32[np.ndarray, "B I"]:
    """Sum the weighed columns."""
    weights_BK = arrays["weights_2K"][newcomers_B.astype(int)]
    total_BI = np.zeros(scores[0].shape, np.float32)
    for k, column_BI in _columns(scores, arrays):
        total_BI += weights_BK[:, k, None] * column_BI
    return total_BI
