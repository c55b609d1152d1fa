"""Stages that answer together: a retriever finds, a ranker sorts what was found, a re-ranker writes the list.

Shape legend: B requests, K places, W items that go through the cascade, N candidates of a stage.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from jaxtyping import Float64, Int32, Int64, Integer

from thinkrank.cascade.answers import Recommendation, assembled, joined, longer, nothing
from thinkrank.cascade.asking import Rows, can_think, how, in_our_rows, timed
from thinkrank.cascade.gate import entropies
from thinkrank.cascade.gathering import final
from thinkrank.cascade.options import STAGES, Blend, Budget, CascadeConfig
from thinkrank.cascade.order import own_scores, reordered, taken, without
from thinkrank.cascade.plan import Costs, Plan
from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.features import FeatureState
from thinkrank.data.requests import Requests, rows_of
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import KINDS, begin, finish, imported, is_saved, load, local_folder, read_config
from thinkrank.stages.answers import Ranking, standardised
from thinkrank.stages.checks import checked_requests
from thinkrank.stages.order import target_ranks

_NAMES = {"retrieve": "retriever", "rank": "ranker", "rerank": "re-ranker"}
"""What the stages are called in messages and in the names of features: `ranker.score`."""
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

    Attributes:
        counting: what was shown and taken so far, kept by whoever runs the system; its columns are then offered to
            later stages, as of the second of each request, like those of `with_running_features` that they learnt from.
            It is not saved.

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
        self.counting: FeatureState | None = None
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
        with self._counting():
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
        with self._counting():
            for part, batch in requests.batches(self.config.batch_size):
                whole = self.retrieve(batch, max(k, num_items), filter_seen=filter_seen, think=think, samples=samples)
                ranks.append(target_ranks(whole.scores_of_all(num_items), targets_B[part]))
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

    def _counting(self) -> AbstractContextManager[None]:
        """Let stages, batches and groups of one call ask what was counted, each as of the seconds of its requests."""
        return nullcontext() if self.counting is None else self.counting.any_order()

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
        """Answer a few requests, thinking where the retriever's answer without a thought is uncertain.

        What the gate takes counts as the retriever's.
        """
        found = self._found(requests, dropped, replace(wish, think=False))
        assert found.cost is not None  # noqa: S101 - it was timed
        spent = found.cost.seconds
        wish = replace(wish, budget=wish.budget.left(1000 * spent / len(requests), 0.0))
        thinks_B = entropies(found.scores_BK[:, : self.config.candidates]) >= (self.config.threshold or 0.0)
        parts, rows = [], []
        for think in (False, True):
            rows_G = np.flatnonzero(thinks_B == think)
            if len(rows_G):
                group = requests.take(rows_G)
                parts.append(self._answered(group, [dropped[row] for row in rows_G], replace(wish, think=think)))
                rows.append(rows_G)
        answer = assembled(parts, np.argsort(np.concatenate(rows)))
        retrieved = longer(answer.stages["retrieve"], spent)
        return replace(answer, ranking=longer(answer.ranking, spent), stages={**answer.stages, "retrieve": retrieved})

    def _answered(self, requests: Requests, dropped: list[Int64[np.ndarray, "_"]], wish: _Wish) -> Recommendation:
        """Answer a few requests, and tell what was left out."""
        lists, answers, left_out = self._run(requests, dropped, wish)
        return Recommendation(final(lists.items_BW, lists.scores_BW, answers, wish.k), answers, left_out)

    def _run(
        self, requests: Requests, dropped: list[Int64[np.ndarray, "_"]], wish: _Wish
    ) -> tuple[_Lists, dict[str, Ranking], tuple[str, ...]]:
        """Ask one stage after the other, within what is left of the budget."""
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
                lists = _Lists(requests, answer.items_BK, scores_BW, {"retriever.score": scores_BW})
            else:
                size = plan.ranked if name == "rank" else self.config.slate
                answer = self._passed_on(name, lists, size, thinking, self.config.blend(name))
            answers[name] = answer
            tokens += 0 if answer.cost is None else answer.cost.tokens
        assert lists is not None  # noqa: S101 - the retriever always answers
        return lists, answers, wanted.left_out(plan)

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
        began, stage = time.perf_counter(), self.stages[name]
        candidates, items_BN = self._offered(lists, size), lists.items_BW[:, :size]
        rows = Rows(self.catalogue, getattr(stage, "catalogue", None) if name == "rank" else None)
        offered, columns_BN = rows.candidates(candidates)
        options = how(stage, name, think=wish.think, samples=wish.samples)
        given = (rows.requests(lists.requests), offered) + ((items_BN.shape[1],) if name == "rerank" else ())
        answer = timed(getattr(stage, name), *given, began=began, **options)
        self._measured(name, int(offered.mask_BN.sum()) if name == "rank" else len(lists.requests), answer, wish)
        answer = in_our_rows(answer, items_BN, columns_BN)
        own_BN = own_scores(answer, items_BN.shape[1])
        order_BW, lists.scores_BW = reordered(lists.scores_BW, own_BN, rows.knows(items_BN), blend)
        behind_BW = np.repeat(own_BN.min(axis=1, keepdims=True) - 1, lists.items_BW.shape[1], axis=1)
        behind_BW[:, : own_BN.shape[1]] = own_BN
        lists.said[f"{_NAMES[name]}.score"] = behind_BW
        lists.items_BW = taken(lists.items_BW, order_BW)
        lists.said = {key: taken(said_BW, order_BW) for key, said_BW in lists.said.items()}
        return answer

    def _offered(self, lists: _Lists, size: int) -> Candidates:
        """Offer the beginning of lists, with what each stage and each part of the retriever said of it.

        Their units differ, so each is standardised within its list.
        """
        retriever = self.stages["retrieve"]
        if len(lists.said) == 1 and hasattr(retriever, "features"):
            described = retriever.features(lists.requests, Candidates(lists.items_BW, self.catalogue))
            for name, said_BW in zip(described.numeric_names, np.moveaxis(described.numeric_BNF, 2, 0), strict=True):
                lists.said[f"retriever.{name}"] = said_BW.astype(np.float64)
        items_BN = lists.items_BW[:, :size]
        mask_BN = items_BN >= 0
        columns = [
            standardised(np.where(mask_BN, said_BW[:, :size], 0).astype(np.float32), mask_BN)
            for said_BW in lists.said.values()
        ]
        offered = Candidates(items_BN, self.catalogue, np.stack(columns, axis=2), tuple(lists.said), name="cascade")
        return offered if self.counting is None else self.counting.features(lists.requests, offered)

    def offered(
        self, requests: Any, verb: Literal["rank", "rerank"], *, filter_seen: bool = True
    ) -> tuple[Candidates, Float64[np.ndarray, "B N"]]:
        """Return what a stage is given to choose from, and the scores that the items come with.

        It is what the stage is to be trained on, and what weights that join its scores with those are learnt from.

        Args:
            requests: see `Requests.of`.
            verb: of the stage; it need not be there yet.
            filter_seen: leave the items of the history out.
        """
        requests = checked_requests(requests, self.catalogue)
        size = min(self.config.candidates if verb == "rank" else self.config.slate, len(self.catalogue))
        before = Cascade(*(self.stages.get(name) for name in STAGES[: STAGES.index(verb)]), config=self.config)
        before.counting = self.counting
        thinks = self.config.think == "always" and bool(before.thinking_stages)
        parts, scores = [], []
        with self._counting():
            for _, part in requests.batches(self.config.batch_size):
                nobody = [np.zeros(0, np.int64)] * len(part)
                lists, _, _ = before._run(part, nobody, _Wish(size, thinks, Budget(), filter_seen, 1))
                parts.append(before._offered(lists, size))
                scores.append(lists.scores_BW[:, :size])
        return Candidates.joined(parts), np.concatenate(scores)

    def _measured(self, name: str, units: int, answer: Ranking, wish: _Wish) -> None:
        assert answer.cost is not None  # noqa: S101 - it was timed
        thoughts = wish.samples if wish.think else 0
        self.costs.measured(name, units, answer.cost.seconds, answer.cost.tokens, thoughts=thoughts)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write every stage into a folder of its own, `retrieve`, `rank`, `rerank`, each loadable alone."""
        folder = begin(folder)
        for name in STAGES:
            if name not in self.stages and is_saved(folder / name):
                shutil.rmtree(folder / name)  # of another cascade that was saved there
        for name, stage in self.stages.items():
            stage.save_pretrained(begin(folder / name))
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
            stage: Any = imported(given[name]) if isinstance(given.get(name), str) else given.get(name)
            if isinstance(stage, type):
                own: Any = stage
                found[name] = own.from_pretrained(folder / name)
            elif stage is not None:
                found[name] = stage
            elif name in config.classes:
                named = config.classes[name]
                raise ThinkrankError(
                    f"{folder / name} holds a stage of a class of your own: load it with stages={{{name!r}: {named!r}}}"
                )
            elif name == "retrieve" or is_saved(folder / name):
                found[name] = load(folder / name, device=device)
        return cls(*(found.get(name) for name in STAGES), config=config)
