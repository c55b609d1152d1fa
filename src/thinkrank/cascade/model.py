"""Stages that answer together: a retriever finds, a ranker sorts what was found, a re-ranker writes the list.

Shape legend: B requests, K places, W items that go through the cascade, N candidates of a stage.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from jaxtyping import Float64, Int32, Int64, Integer

from thinkrank.cascade.answers import NO_THOUGHT, Recommendation, assembled, joined, nothing
from thinkrank.cascade.asking import Rows, can_think, how, timed
from thinkrank.cascade.gate import entropies
from thinkrank.cascade.options import STAGES, Blend, Budget, CascadeConfig
from thinkrank.cascade.order import own_scores, reordered, taken, without
from thinkrank.cascade.plan import Costs, Plan
from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.requests import Requests, rows_of
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import KINDS, finish, imported, load, local_folder, read_config
from thinkrank.stages.answers import Cost, Latent, Ranking, standardised
from thinkrank.stages.checks import checked_requests
from thinkrank.stages.order import target_ranks

_NAMES = {"retrieve": "retriever", "rank": "ranker", "rerank": "re-ranker"}
ThinkChoice = bool | Literal["auto"] | None


@dataclass(frozen=True)
class _Wish:
    """Say how requests are to be answered."""

    k: int
    think: bool
    budget: Budget
    filter_seen: bool
    samples: int


@dataclass(eq=False)
class _Lists:
    """Hold what a few requests have been answered so far, best first.

    Attributes:
        scores_BW: of the places, falling.
        said: what each stage said of the items, by its name; features for the stages behind.
    """

    requests: Requests
    items_BW: Int32[np.ndarray, "B W"]
    scores_BW: Float64[np.ndarray, "B W"]
    said: dict[str, Float64[np.ndarray, "B W"]]


class Cascade:
    """Retriever made of a retriever, a ranker and a re-ranker, the latter two optional.

    The retriever's best `config.candidates` items are sorted by the ranker; of its best `config.slate` the re-ranker
    writes a list; what either was not given follows in the order it had. So a short answer is the beginning of a
    longer one, and a cascade is itself a `Retriever`.

    Users without a history are answered like all others: each stage says what it does with an empty one. Items that a
    ranker does not know, because they were added after it learnt, keep the place that they came with.

    Args:
        retriever: has `retrieve(requests, k, *, filter_seen)` and `catalogue`.
        ranker: has `rank(requests, candidates)`.
        reranker: has `rerank(requests, candidates, k)`.
        config: its options.

    Raises:
        ThinkrankError: if a stage cannot be asked what its place asks.
    """

    kind: ClassVar[str] = "cascade"

    def __init__(
        self, retriever: Any, ranker: Any = None, reranker: Any = None, *, config: CascadeConfig | None = None
    ) -> None:
        given = dict(zip(STAGES, (retriever, ranker, reranker), strict=True))
        self.stages: Mapping[str, Any] = {name: stage for name, stage in given.items() if stage is not None}
        for name, stage in self.stages.items():
            if not callable(getattr(stage, name, None)):
                raise ThinkrankError(f"a {type(stage).__name__} has no method {name}, so it is no {_NAMES[name]}")
        self.config = config or CascadeConfig()
        self.costs = Costs({str(name): cost for name, cost in self.config.costs.items()})

    @property
    def catalogue(self) -> Catalogue:
        """Return the items that the retriever knows; answers hold rows of it."""
        catalogue: Catalogue = self.stages["retrieve"].catalogue
        return catalogue

    @property
    def thinking_stages(self) -> frozenset[str]:
        """Return the names of the stages that can think."""
        return frozenset(name for name, stage in self.stages.items() if can_think(stage, name))

    def recommend(
        self,
        requests: Any,
        k: int = 10,
        *,
        think: ThinkChoice = None,
        budget: Budget | None = None,
        filter_seen: bool = True,
        exclude: Sequence[Any] = (),
        samples: int = 1,
    ) -> Recommendation:
        """Answer each request with its k best items, and keep what every stage answered.

        Args:
            requests: see `Requests.of`.
            k: how many items; may exceed the candidates; an answer is no wider than the catalogue.
            think: whether stages that can think do so; "auto": where the retriever's answer is uncertain; None: as
                the configuration says.
            budget: what an answer may cost; `thinkrank.cascade.plan` says in which order it is shortened.
            filter_seen: leave the items of the history out.
            exclude: items to leave out, by id or row: the same for all requests, or a sequence for each.
            samples: thoughts of each stage that can take the mean of several.

        Raises:
            ThinkrankError: if a request or an item is unknown, if thinking is asked for and no stage can, or if "auto"
                is asked for and no threshold is set.
            ValueError: if k or samples is below 1.
        """
        requests = checked_requests(requests, self.catalogue)
        if k < 1 or samples < 1:
            raise ValueError(f"k must be at least 1, and samples too; got {k} and {samples}")
        dropped, thinks = self._excluded(exclude, len(requests)), self._thinks(think)
        wish = _Wish(min(k, len(self.catalogue)), thinks is True, budget or Budget(), filter_seen, samples)
        if not len(requests):
            return Recommendation(nothing(wish.k), {})
        answer = self._gated if thinks == "auto" else self._answered
        batches = requests.batches(self.config.batch_size)
        return assembled([answer(part, dropped[rows], wish) for rows, part in batches])

    def retrieve(
        self, requests: Any, k: int, *, filter_seen: bool = True, think: ThinkChoice = None, samples: int = 1
    ) -> Ranking:
        """Answer each request with its k best items; see `recommend`."""
        return self.recommend(requests, k, filter_seen=filter_seen, think=think, samples=samples).ranking

    def target_ranks(
        self,
        requests: Any,
        targets_B: Integer[np.ndarray, "B"],
        *,
        filter_seen: bool = True,
        think: ThinkChoice = None,
        samples: int = 1,
    ) -> Int64[np.ndarray, "B"]:
        """Return the 1-based place of each target in the whole catalogue, equal scores before it."""
        _, ranks_B = self.retrieve_with_ranks(
            requests, 1, targets_B, filter_seen=filter_seen, think=think, samples=samples
        )
        return ranks_B

    def retrieve_with_ranks(
        self,
        requests: Any,
        k: int,
        targets_B: Integer[np.ndarray, "B"],
        *,
        filter_seen: bool = True,
        think: ThinkChoice = None,
        samples: int = 1,
    ) -> tuple[Ranking, Int64[np.ndarray, "B"]]:
        """Answer both `retrieve` and `target_ranks` from one answer about the whole catalogue."""
        requests, num_items = checked_requests(requests, self.catalogue), len(self.catalogue)
        rankings, ranks = [nothing(min(k, num_items))], [np.zeros(0, np.int64)]
        for part, batch in requests.batches(self.config.batch_size):
            whole = self.retrieve(batch, max(k, num_items), filter_seen=filter_seen, think=think, samples=samples)
            scores_BI = np.full((len(batch), num_items + 1), -np.inf, np.float32)
            np.put_along_axis(scores_BI, whole.items_BK, whole.scores_BK, axis=1)  # -1 is the last, surplus column
            ranks.append(target_ranks(scores_BI[:, :num_items], targets_B[part]))
            rankings.append(whole.first(k))
        return joined(rankings), np.concatenate(ranks)

    def add_items(self, items: pl.DataFrame | Catalogue) -> range:
        """Add items to every stage that takes some; a ranker that does not leaves them in the place they come with.

        Returns:
            their catalogue rows.

        Raises:
            ThinkrankError: if the retriever takes none, or they are no rows of a catalogue, or an id is taken.
        """
        retriever = self.stages["retrieve"]
        if not hasattr(retriever, "add_items"):
            raise ThinkrankError(f"a {type(retriever).__name__} takes no items without being fitted anew")
        rows: range = retriever.add_items(items)
        for name, stage in self.stages.items():
            if name != "retrieve" and stage is not retriever and hasattr(stage, "add_items"):
                stage.add_items(items)
        return rows

    def _thinks(self, think: ThinkChoice) -> bool | Literal["auto"]:
        """Tell whether stages think: as the request says, or the configuration."""
        able = self.thinking_stages
        if think is None:
            policy: dict[str, bool | Literal["auto"]] = {"always": True, "never": False, "auto": "auto"}
            think = policy[self.config.think] if able else False
        elif think and not able:
            names = ", ".join(type(stage).__name__ for stage in self.stages.values())
            raise ThinkrankError(f"no stage of this cascade ({names}) can think: leave think out")
        if think == "auto" and self.config.threshold is None:
            raise ThinkrankError("think auto needs a threshold: calibrate the cascade, or set its config's threshold")
        return think

    def _excluded(self, exclude: Sequence[Any], num_requests: int) -> list[Int64[np.ndarray, "_"]]:
        """Return the rows that are left out of each answer."""
        if isinstance(exclude, str):
            raise ThinkrankError(f"exclude is {exclude!r}: give a sequence of item ids or catalogue rows")
        if all(isinstance(one, str | int | np.integer) for one in exclude):
            exclude = [exclude] * num_requests
        if len(exclude) != num_requests:
            raise ThinkrankError(f"exclude holds {len(exclude)} sequences for {num_requests} requests")
        found = [np.array(rows_of([*one], "exclude", self.catalogue), dtype=np.int64) for one in exclude]
        for rows in found:
            if ((rows < 0) | (rows >= len(self.catalogue))).any():
                raise ThinkrankError(f"exclude holds row {rows.max()}; the catalogue has {len(self.catalogue)} rows")
        return found

    def _gated(self, requests: Requests, dropped: list[Int64[np.ndarray, "_"]], wish: _Wish) -> Recommendation:
        """Answer a few requests, thinking where the retriever's answer without a thought is uncertain."""
        found = self._found(requests, dropped, replace(wish, think=False))
        thinks_B = entropies(found.scores_BK[:, : self.config.candidates]) >= (self.config.threshold or 0.0)
        parts, rows = [], []
        for think in (False, True):
            rows_G = np.flatnonzero(thinks_B == think)
            if len(rows_G):
                group = _some(requests, rows_G)
                parts.append(self._answered(group, [dropped[row] for row in rows_G], replace(wish, think=think)))
                rows.append(rows_G)
        return assembled(parts, np.argsort(np.concatenate(rows)))

    def _answered(self, requests: Requests, dropped: list[Int64[np.ndarray, "_"]], wish: _Wish) -> Recommendation:
        """Answer a few requests, one stage after the other, within what is left of the budget."""
        used = tuple(name for name in self.stages if self.config.blend(name).own)
        thinks = self.thinking_stages & {*used} if wish.think else frozenset[str]()
        wanted = plan = Plan(used, thinks, wish.samples if thinks else 1, self.config.candidates)
        began, tokens, many = time.perf_counter(), 0, max(len(requests), 1)
        answers: dict[str, Ranking] = {}
        lists: _Lists | None = None
        for number, name in enumerate(used):
            left = wish.budget.left(1000 * (time.perf_counter() - began) / many, tokens / many)
            plan = plan.within(left, self.costs, used[number:])
            if name not in plan.stages:
                continue
            thinking = replace(wish, think=name in plan.thinks, samples=plan.samples)
            if lists is None:
                answer = self._found(requests, dropped, thinking)
                scores_BW = answer.scores_BK.astype(np.float64)
                lists = _Lists(requests, answer.items_BK, scores_BW, {"retriever": scores_BW})
            else:
                size = plan.ranked if name == "rank" else self.config.slate
                answer = self._passed_on(name, lists, size, thinking, self.config.blend(name))
            answers[name] = answer
            tokens += 0 if answer.cost is None else answer.cost.tokens
        assert lists is not None  # noqa: S101 - the retriever always answers
        return Recommendation(_final(lists, answers, wish.k), answers, wanted.left_out(plan))

    def _found(self, requests: Requests, dropped: list[Int64[np.ndarray, "_"]], wish: _Wish) -> Ranking:
        """Ask the retriever."""
        width = min(max(wish.k, self.config.candidates), len(self.catalogue))
        more = max(map(len, dropped), default=0)
        stage, k = self.stages["retrieve"], min(width + more, len(self.catalogue))
        options = how(stage, "retrieve", think=wish.think, samples=wish.samples)
        answer = timed(stage.retrieve, requests, k, filter_seen=wish.filter_seen, **options)
        self._measured("retrieve", len(requests), answer, wish)
        return without(answer, dropped, width)

    def _passed_on(self, name: str, lists: _Lists, size: int, wish: _Wish, blend: Blend) -> Ranking:
        """Ask a later stage about the beginning of the lists, which are brought into the order it says."""
        stage, items_BN = self.stages[name], lists.items_BW[:, :size]
        rows = Rows(self.catalogue, getattr(stage, "catalogue", None) if name == "rank" else None)
        offered, columns_BN = rows.candidates(_offered(lists, items_BN, self.catalogue))
        options = how(stage, name, think=wish.think, samples=wish.samples)
        given = (rows.requests(lists.requests), offered) + ((offered.items_BN.shape[1],) if name == "rerank" else ())
        answer = timed(getattr(stage, name), *given, **options)
        self._measured(name, int(offered.mask_BN.sum()) if name == "rank" else len(lists.requests), answer, wish)
        assert answer.columns_BK is not None  # noqa: S101 - whoever is given candidates says columns
        there_BK = answer.columns_BK >= 0
        columns_BK = np.take_along_axis(columns_BN, np.maximum(answer.columns_BK, 0), axis=1)
        columns_BK = np.where(there_BK, columns_BK, -1).astype(np.int32)
        items_BK = np.where(there_BK, np.take_along_axis(items_BN, np.maximum(columns_BK, 0), axis=1), -1)
        answer = replace(answer, items_BK=items_BK.astype(np.int32), columns_BK=columns_BK)
        own_BN = own_scores(answer, items_BN.shape[1])
        order_BW, lists.scores_BW = reordered(lists.scores_BW, own_BN, rows.knows(items_BN), blend)
        padded_BW = np.pad(own_BN, [(0, 0), (0, lists.items_BW.shape[1] - own_BN.shape[1])])
        lists.said["ranker" if name == "rank" else "re-ranker"] = padded_BW
        lists.items_BW = taken(lists.items_BW, order_BW)
        lists.said = {key: taken(said_BW, order_BW) for key, said_BW in lists.said.items()}
        return answer

    def _measured(self, name: str, units: int, answer: Ranking, wish: _Wish) -> None:
        assert answer.cost is not None  # noqa: S101 - it was timed
        thoughts = wish.samples if wish.think else 0
        self.costs.measured(name, units, answer.cost.seconds, answer.cost.tokens, thoughts=thoughts)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write every stage into a folder of its own, `retrieve`, `rank`, `rerank`, each loadable alone."""
        folder = Path(folder)
        for name, stage in self.stages.items():
            stage.save_pretrained(folder / name)
        classes = {
            name: f"{type(stage).__module__}:{type(stage).__qualname__}"
            for name, stage in self.stages.items()
            if getattr(stage, "kind", None) not in KINDS
        }
        finish(folder, self.kind, self.config.model_copy(update={"classes": classes, "costs": self.costs.known}))

    @classmethod
    def from_pretrained(
        cls, where: str | Path, *, device: str = "auto", stages: Mapping[str, Any] | None = None
    ) -> "Cascade":
        """Load what `save_pretrained` wrote.

        Args:
            where: a folder, or a hub id `owner/name`.
            device: where stages that compute with torch answer.
            stages: instead of what the folder holds, by `retrieve`, `rank` or `rerank`: a stage; or, for a class of
                your own, the class or its name as package.module:Name, whose `from_pretrained` then reads the folder.

        Raises:
            ThinkrankError: if a file is missing, unreadable, or of another kind of model; or if a stage is of a class
                of your own that was not named: a folder alone never says what code is run.
        """
        folder, given = local_folder(where), dict(stages or {})
        config = read_config(folder, cls.kind, CascadeConfig)
        found: dict[str, Any] = {}
        for name in STAGES:
            stage = imported(given[name]) if isinstance(given.get(name), str) else given.get(name)
            if isinstance(stage, type):
                found[name] = stage.from_pretrained(folder / name)  # type: ignore[attr-defined]
            elif stage is not None:
                found[name] = stage
            elif name in config.classes:
                named = config.classes[name]
                raise ThinkrankError(
                    f"{folder / name} holds a stage of a class of your own: load it with stages={{{name!r}: {named!r}}}"
                )
            elif name == "retrieve" or (folder / name).is_dir():
                found[name] = load(folder / name, device=device)
        return cls(*(found.get(name) for name in STAGES), config=config)


def _offered(lists: _Lists, items_BN: Int32[np.ndarray, "B N"], catalogue: Catalogue) -> Candidates:
    """Offer the beginning of lists, with what each stage said of it as `retriever.score` and `ranker.score`."""
    mask_BN, size = items_BN >= 0, items_BN.shape[1]
    columns = [
        standardised(np.where(mask_BN, said_BW[:, :size], 0).astype(np.float32), mask_BN)
        for said_BW in lists.said.values()
    ]
    names = tuple(f"{name}.score" for name in lists.said)
    return Candidates(items_BN, catalogue, np.stack(columns, axis=2), names, name="cascade")


def _final(lists: _Lists, answers: Mapping[str, Ranking], k: int) -> Ranking:
    """Gather the first k places, and what was thought about them."""
    items_BK = lists.items_BW[:, :k]
    scores_BK = np.where(items_BK >= 0, lists.scores_BW[:, :k], -np.inf).astype(np.float32)
    ranked, written = answers.get("rank"), answers.get("rerank")
    costs = [answer.cost for answer in answers.values() if answer.cost is not None]
    return Ranking(
        items_BK,
        scores_BK,
        thoughts=answers["retrieve"].thoughts,
        reasons=None if ranked is None else _reasons(items_BK, ranked),
        latent=None if written is None else _latent(items_BK, written),
        cost=Cost(sum(cost.seconds for cost in costs), sum(cost.tokens for cost in costs)),
    )


def _reasons(items_BK: Int32[np.ndarray, "B K"], ranked: Ranking) -> Any:
    """Bring the ranker's reasons into the final order; an empty one beside what it was not asked about."""
    if ranked.reasons is None:
        return None
    found = []
    for items, answered, reasons in zip(items_BK.tolist(), ranked.items_BK.tolist(), ranked.reasons, strict=True):
        by_item = dict(zip((item for item in answered if item >= 0), reasons, strict=True))
        found.append(tuple(by_item.get(item, NO_THOUGHT) for item in items if item >= 0))
    return tuple(found)


def _latent(items_BK: Int32[np.ndarray, "B K"], written: Ranking) -> Latent | None:
    """Bring the re-ranker's latent thinking into the final order; none beside what it was not asked about."""
    if written.latent is None:
        return None
    before_BK, after_BK = np.zeros((2, *items_BK.shape), np.float32)
    steps_BK = np.zeros(items_BK.shape, np.int32)
    for row, (items, answered) in enumerate(zip(items_BK.tolist(), written.items_BK.tolist(), strict=True)):
        places = {item: place for place, item in enumerate(answered) if item >= 0}
        for place, item in enumerate(items):
            if item in places:
                from_place = places[item]
                before_BK[row, place] = written.latent.entropies_before_BK[row, from_place]
                after_BK[row, place] = written.latent.entropies_after_BK[row, from_place]
                steps_BK[row, place] = written.latent.steps_BK[row, from_place]
    return Latent(before_BK, after_BK, steps_BK)


def _some(requests: Requests, rows: Int64[np.ndarray, "_"]) -> Requests:
    """Take some requests."""
    return Requests(
        [requests.histories[row] for row in rows.tolist()],
        None if requests.users is None else tuple(requests.users[row] for row in rows.tolist()),
        None if requests.times_B is None else requests.times_B[rows],
        None if requests.context_BX is None else requests.context_BX[rows],
        requests.context_names,
    )
