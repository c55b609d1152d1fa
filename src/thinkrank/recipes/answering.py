"""Ask what a run trained: for a user, a typed history or many users, for a table of pairs, for displayed lists.

What is asked about crosses into the saved model by item id. Nothing heavy is imported or loaded before it is known
that there is something to ask, and whom.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.recipes.opening import Mode, Opened, opened
from thinkrank.stages.answers import Ranking
from thinkrank.training.progress import Progress, no_progress

if TYPE_CHECKING:
    from thinkrank.data.candidate_lists import CandidateLists

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Requests that are answered together, with a bar that moves between them."""
_LISTS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Asked:
    """Hold who is answered, before the answer is there.

    Attributes:
        history: of the user, in rows of the catalogue.
        catalogue: of the model.
        window: newest items of the history that the model reads; None for all.
    """

    history: History
    catalogue: Catalogue
    window: int | None = None


@dataclass(frozen=True, eq=False)
class Recommended:
    """Hold what one user was answered.

    Attributes:
        ranking: the answer.
        history: of the user.
        catalogue: whose rows both hold.
        window: newest items of the history that the model reads; None for all.
        mode: whether a thought came first, and why.
    """

    ranking: Ranking
    history: History
    catalogue: Catalogue
    window: int | None = None
    mode: Mode | None = None

    def table(self) -> pl.DataFrame:
        """Return one row per item; see `Ranking.table`."""
        return self.ranking.table(self.catalogue)


def recommend(
    folder: Path,
    *,
    user: str | None = None,
    titles: Sequence[str] = (),
    k: int = 10,
    think: bool | None = None,
    temperature: float | None = None,
    filter_seen: bool | None = None,
    path: str | None = None,
    device: str = "auto",
    begin: Callable[[Asked], None] | None = None,
    progress: Progress = no_progress,
) -> Recommended:
    """Recommend for one user.

    Args:
        folder: of a run, or of a saved retriever.
        user: an id of the run's data set; None for a typed history.
        titles: titles or item ids of that history, oldest first.
        k: how many items.
        think: let the model write a thought first; None for the way that validation found better.
        temperature: of the thought; None for the model's own.
        filter_seen: leave items of the history out; None for what the run's data says (`data.repeats`).
        path: where the run's data is now; None for where it was.
        device: auto, cpu, cuda, cuda:1 or mps.
        begin: told who asks before the model is loaded.
        progress: shows what takes long.

    Raises:
        ThinkrankError: without a trained retriever, or for an unknown user or title.
    """
    with progress("loading the run", 0):
        run = opened(folder, "retrieve")
        catalogue = run.catalogue(path)
        typed = History.of([catalogue.find(title) for title in titles])
        past = typed if user is None else run.dataset(path).history(user)
    requests = Requests([past], None if user is None else (user,)).within(catalogue)
    (past,) = requests.histories
    if begin is not None:
        begin(Asked(past, catalogue, run.window))
    mode = run.mode(think)
    with progress("loading the model", 0):
        model = run.load(device, for_one=True)
        leave_out = run.filters(filter_seen, path)
    with progress("answering", 0):
        ranking = model.retrieve(requests, k, filter_seen=leave_out, **_ways(run, model, mode, think, temperature))
    return Recommended(_checked(ranking, model, catalogue, [past]), past, catalogue, run.window, mode)


@dataclass(frozen=True, kw_only=True)
class Manner:
    """Hold how many users are answered.

    Attributes:
        k: how many items each.
        think: let the model write a thought first; None for the way that validation found better.
        temperature: of the thought; None for the model's own.
        filter_seen: leave items of the history out; None for what the run's data says (`data.repeats`).
        reasons: say beside each item what of the data speaks for it.
        every_text: also give thoughts that a check found faults in.
        path: where the run's data is now; None for where it was.
        device: auto, cpu, cuda, cuda:1 or mps.
    """

    k: int = 10
    think: bool | None = None
    temperature: float | None = None
    filter_seen: bool | None = None
    reasons: bool = False
    every_text: bool = False
    path: str | None = None
    device: str = "auto"


class Many:
    """Answer many users of a run, each as if asked alone; the model is loaded when it is first needed.

    Args:
        folder: of a run, or of a saved retriever.
        how: they are answered.

    Raises:
        ThinkrankError: without a trained retriever.
    """

    def __init__(self, folder: Path, how: Manner) -> None:
        self.run, self.how = opened(folder, "retrieve"), how
        self.catalogue = self.run.catalogue(how.path)
        self.mode = self.run.mode(how.think)

    def who(self, who: str | Path, rows: slice | None = None) -> Requests:
        """Find out who asks: "all" users of the data, or those of a file or some of its rows; see `read_who`."""
        return _requests_of(self.run, who, self.how.path, rows)

    @cached_property
    def model(self) -> Any:
        """Return the model."""
        return self.run.load(self.how.device)

    @cached_property
    def _ways(self) -> dict[str, Any]:
        return _ways(self.run, self.model, self.mode, self.how.think, self.how.temperature)

    @cached_property
    def _draws(self) -> bool:
        """Tell whether thoughts are drawn at random."""
        stages = self.model.stages.values() if self.run.kind == "cascade" else (self.model,)
        thoughts = [getattr(getattr(stage, "config", None), "thought", None) for stage in stages]
        thoughts = [self._ways["thought_options"]] if "thought_options" in self._ways else thoughts
        thinks = (
            self.model.config.think != "never"
            if self.mode.think is None and self.run.kind == "cascade"
            else (self.mode.think)
        )
        return bool(thinks) and any(one is not None and one.temperature > 0 for one in thoughts)

    @cached_property
    def _why(self) -> Callable[[Ranking, Requests], pl.DataFrame] | None:
        return self.run.counted_reasons(self.how.path, self.catalogue) if self.how.reasons else None

    def answers(self, requests: Requests) -> Iterator[tuple[Requests, Ranking, pl.DataFrame]]:
        """Yield those of requests in our rows who are answered together, the answer, and its table."""
        leave_out = self.run.filters(self.how.filter_seen, self.how.path)
        for _, part in requests.batches(1 if self._draws else _AT_ONCE):  # draws are by place in the batch
            ranking = self.model.retrieve(part, self.how.k, filter_seen=leave_out, **self._ways)
            ranking = _checked(ranking, self.model, self.catalogue, part.histories)
            table = ranking.table(self.catalogue, part, every_text=self.how.every_text).drop("request")
            yield part, ranking, table if self._why is None else table.hstack(self._why(ranking, part))

    def table(self, requests: Requests, progress: Progress = no_progress) -> pl.DataFrame:
        """Return all answers in one table; see `recommend_many`."""
        tables, requests = [], requests.within(self.catalogue)
        with progress("answering", len(requests)) as advance:
            for part, _, table in self.answers(requests):
                tables.append(table)
                advance(len(part))
        if not tables:
            return Ranking.empty(0).table(self.catalogue, requests).drop("request")
        return pl.concat(tables)


def recommend_many(folder: Path, who: str | Path, *, progress: Progress = no_progress, **how: Any) -> pl.DataFrame:
    """Recommend for many users; each is answered as if asked alone.

    Args:
        folder: of a run, or of a saved retriever.
        who: "all" users of the run's data set; or a file with the column user: those of them; or with user and item
            (and timestamp), or user and items: histories of new users, each as the file has it.
        progress: shows the loading and the users.
        how: as `Manner` has it.

    Returns:
        The columns user, place, item, title, score and, where there are any, thought and reason, with what came of
        checking them.

    Raises:
        ThinkrankError: without a trained retriever, or for a file at fault.
    """
    with progress("loading the run", 0):
        many = Many(folder, Manner(**how))
        requests = many.who(who)
    table = many.table(requests, progress)
    logger.info("answered %s users %s", f"{len(requests):,}", many.mode.told)
    warn_unanswered(len(requests) - answered_in(table))
    return table


def answered_in(table: pl.DataFrame) -> int:
    """Count the users who have an answer in a table of answers."""
    return int((table["place"] == 1).sum())


def warn_unanswered(users: int) -> None:
    """Say how many users have no answer."""
    if users:
        logger.warning("%s users have no answer: nothing is left to recommend to them", f"{users:,}")


def rank_pairs(
    folder: Path,
    lists: "CandidateLists",
    *,
    every_text: bool = False,
    path: str | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> pl.DataFrame:
    """Score and sort each user's candidates, users in the order they come in.

    Args:
        folder: of a run.
        lists: who is offered what; see `thinkrank.data.candidate_lists.read_candidate_lists`.
        every_text: also give the words of reasons that a check found faults in.
        path: where the run's data is now; None for where it was.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: shows the loading and the users.

    Returns:
        The answer as `Ranking.table` gives it, each reason checked, with the first stage's score where it gave one.

    Raises:
        ThinkrankError: without a trained ranker, or naming an unknown user or item.
    """
    with progress("loading the run", 0):
        run = opened(folder, "rank")
        catalogue = run.catalogue(path)
        candidates = lists.candidates(catalogue)
        requests = lists.requests(run.dataset(path)).within(catalogue)
        model = run.load(device)
    tables = []
    with progress("ranking", len(requests)) as advance:
        for part, batch in requests.batches(_AT_ONCE):
            table = ranked(model, catalogue, batch, candidates[part], every_text=every_text)
            tables.append(table.with_columns(pl.col("request") + part.start))
            advance(len(batch))
    if not tables:
        return ranked(model, catalogue, requests, candidates, every_text=every_text)
    return pl.concat(tables)


def ranked(
    model: Any, catalogue: Catalogue, requests: Requests, candidates: Candidates, *, every_text: bool = False
) -> pl.DataFrame:
    """Return the answer of a ranker as a table, each reason checked."""
    if not len(requests):
        return Ranking.empty(0, candidates=True).table(catalogue, requests)
    ranking: Ranking = model.rank(requests, candidates)
    return _checked(ranking, model, catalogue, requests.histories).table(catalogue, requests, every_text=every_text)


def rerank_lists(
    folder: Path,
    source: str,
    path: Path,
    options: Mapping[str, Any],
    *,
    k: int = 10,
    samples: int = 1,
    device: str = "auto",
    progress: Progress = no_progress,
) -> pl.DataFrame:
    """Write the final list for each displayed one, in the order in which they came; feedback is not looked at.

    Args:
        folder: of a run.
        source: format of the lists.
        path: folder or zip archive of the lists.
        options: of the source; lists of one candidate are answered, too, unless they say otherwise.
        k: places of a final list.
        samples: lists written for each request, of which the evaluator picks by what it rewarded in training.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: shows the reading, the loading and the lists.

    Returns:
        The answer as `Ranking.table` gives it.

    Raises:
        ThinkrankError: without a trained re-ranker, or if the lists are of another make than those it was trained on.
    """
    from thinkrank.cascade.asking import check_samples
    from thinkrank.data.sources import load_impressions
    from thinkrank.recipes.data import tell

    run = opened(folder, "rerank")
    with progress("loading the run", 0):
        model = run.load(device)
    check_samples(model, samples, str(folder))
    judge: dict[str, Any] = {}
    if samples > 1:
        if not run.config:
            raise ThinkrankError(
                f"{folder}: what the evaluator rewarded stands in the run's settings; give the run's folder"
            )
        grpo = run.config["grpo"]
        judge = {"samples": samples, "reward": grpo["reward"], "places": grpo["length"]}
    one_is_enough = {} if source == "synthetic" else {"min_candidates": 1}
    with progress("reading the data", 0):
        lists = load_impressions(source, path, **{**one_is_enough, **options}).in_source_order()
    tell(lists.name, lists.notices)
    k = min(k, lists.items_LN.shape[1])
    requests, candidates = lists.requests, lists.candidates
    tables = []
    with progress("re-ranking", len(requests)) as advance:
        for part, batch in requests.batches(_LISTS_AT_ONCE):
            ranking: Ranking = model.rerank(batch, candidates[part], k, **judge)
            table = ranking.table(lists.catalogue, batch).with_columns(pl.col("request") + part.start)
            tables.append(table)
            advance(len(batch))
    return pl.concat(tables)


def _requests_of(run: Opened, who: str | Path, path: str | None, rows: slice | None = None) -> Requests:
    """Find out who asks: all users of the data, some of them, or new ones with their histories."""
    if str(who) == "all":
        dataset = run.dataset(path)
        return Requests([dataset.history(user) for user in dataset.users], tuple(dataset.users))
    from thinkrank.data.asked import read_who

    return read_who(Path(who), lambda: run.dataset(path), rows)


def _ways(run: Opened, model: Any, mode: Mode, think: bool | None, temperature: float | None) -> dict[str, Any]:
    """Return how a model is asked beyond what every retriever understands."""
    if run.kind == "cascade":
        if temperature is not None:
            raise ThinkrankError(
                f"{run.folder}: each stage of a cascade thinks at its own temperature; leave --temperature out, or ask "
                f"{run.saved / 'retrieve'} alone"
            )
        return {} if think is None else {"think": think}
    if mode.think is None:
        if temperature is not None:
            raise ThinkrankError(
                f"{run.folder}: {type(model).__name__} writes no thoughts that a temperature could change"
            )
        return {}
    thought = model.config.thought
    if temperature is not None:
        thought = thought.model_copy(update={"temperature": temperature})
    return {"think": mode.think, "thought_options": thought}


def _checked(ranking: Ranking, model: Any, catalogue: Catalogue, histories: Sequence[History]) -> Ranking:
    """Check the words of an answer, if it has any."""
    if ranking.thoughts is None and ranking.reasons is None:
        return ranking
    from thinkrank.recipes.reasons import checked

    return checked(ranking, model, catalogue, histories)
