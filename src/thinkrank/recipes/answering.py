"""Ask what a run trained: for a user or a typed history, for a table of pairs, for displayed lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from thinkrank.data import Catalogue, History, Requests, load_impressions
from thinkrank.data.candidates import Candidates
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import CONFIG_FILE, load
from thinkrank.recipes.base import MODEL, is_trained, load_model, recipe_of
from thinkrank.recipes.layers import run_config
from thinkrank.recipes.reader import thinks_first
from thinkrank.recipes.reasons import checked
from thinkrank.rerank import EGLR
from thinkrank.retrieve import R2ec
from thinkrank.stages.answers import Ranking


@dataclass(frozen=True, eq=False)
class Recommended:
    """Hold what one user was answered.

    Attributes:
        ranking: the answer.
        history: of the user.
        catalogue: whose rows both hold.
        window: newest items of the history that the model reads; None for all.
    """

    ranking: Ranking
    history: History
    catalogue: Catalogue
    window: int | None = None

    def table(self) -> pl.DataFrame:
        """Return one row per item; see `Ranking.table`."""
        return self.ranking.table(self.catalogue)


_NOUNS = {"retrieve": "retriever", "rank": "ranker", "rerank": "re-ranker"}


def recommend(
    folder: Path,
    *,
    user: str | None = None,
    titles: Sequence[str] = (),
    k: int = 10,
    think: bool | None = None,
    temperature: float | None = None,
    filter_seen: bool = True,
    device: str = "auto",
) -> Recommended:
    """Recommend for one user.

    Args:
        folder: of a run, or of a saved retriever.
        user: an id of the run's data set; None for a typed history.
        titles: titles or item ids of that history, oldest first.
        k: how many items.
        think: let the model write a thought first; None for yes where histories are read as prompts.
        temperature: of the thought; None for the model's own.
        filter_seen: leave items of the history out.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        ThinkrankError: without a trained retriever, or for an unknown user or title.
    """
    saved = folder / MODEL if is_trained(folder) else folder
    if not (saved / CONFIG_FILE).is_file():
        raise ThinkrankError(
            f"{folder}: no trained model here; run `thinkrank demo` or `thinkrank train retrieve` first"
        )
    has_catalogue = (saved / "catalogue.parquet").is_file()
    dataset: Any = None
    if user is not None or not has_catalogue:
        dataset = recipe_of(folder).settings.from_run(folder).data.load()
    catalogue = Catalogue.load(saved / "catalogue.parquet") if has_catalogue else dataset.catalogue
    past = History.of([catalogue.find(title) for title in titles]) if user is None else dataset.history(user)
    model = _model(folder, "retrieve", device)
    options: dict[str, Any] = {}
    window = None
    if isinstance(model, R2ec):
        thought, window = model.config.thought, model.config.prompt.history_window
        if temperature is not None:
            thought = thought.model_copy(update={"temperature": temperature})
        options = {"think": thinks_first(model) if think is None else think, "thought_options": thought}
    elif think or temperature is not None:
        raise ThinkrankError(f"{folder}: {type(model).__name__} writes no thoughts, so it can't think first")
    ranking = model.retrieve(Requests([past]), k, filter_seen=filter_seen, **options)
    return Recommended(checked(ranking, model, catalogue, [past]), past, catalogue, window)


def rank_pairs(
    folder: Path, pairs: pl.DataFrame, where: str, *, every_text: bool = False, device: str = "auto"
) -> pl.DataFrame:
    """Score and sort each user's candidates, users in the order they come in.

    Args:
        folder: of a run.
        pairs: with the columns user and item; see `read_pairs`.
        where: they are from, for messages.
        every_text: give also reasons that failed the check; without, their cells are empty.
        device: auto, cpu, cuda, cuda:1 or mps.

    Returns:
        The answer as `Ranking.table` gives it.

    Raises:
        ThinkrankError: without a trained ranker, or naming an unknown user or item.
    """
    _check_trained(folder, "rank")
    dataset = recipe_of(folder).settings.from_run(folder).data.load()
    model = _model(folder, "rank", device)
    catalogue = getattr(model, "catalogue", dataset.catalogue)
    known = set(catalogue.ids)
    unknown = next((item for item in pairs["item"] if item not in known), None)
    if unknown is not None:
        raise ThinkrankError(f"{where}: item {unknown!r} is not in the model's catalogue")
    users, offered = [], []
    for (user,), part in pairs.group_by("user", maintain_order=True):
        users.append(str(user))
        offered.append(part["item"].to_list())
    requests = Requests([dataset.history(user) for user in users], tuple(users))
    ranking: Ranking = model.rank(requests, Candidates.of(offered, catalogue))
    ranking = checked(ranking, model, catalogue, requests.histories)
    return ranking.table(catalogue, requests, every_text=every_text)


def read_pairs(path: Path) -> pl.DataFrame:
    """Read a table of users and candidates.

    Raises:
        ThinkrankError: if it cannot be read, lacks a column, has an empty cell, or names a pair twice.
    """
    if not path.is_file():
        raise ThinkrankError(f"{path}: there is no such file")
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ThinkrankError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    for name in ("user", "item"):
        if name not in table.columns:
            raise ThinkrankError(f"{path}: no column {name!r}; it has {', '.join(table.columns) or 'none'}")
    table = table.select(pl.col("user", "item").cast(pl.String))
    if table.null_count().sum_horizontal()[0]:
        row = table.select(pl.any_horizontal(pl.all().is_null()).arg_true())[0, 0]
        raise ThinkrankError(f"{path}: row {row + 1} has an empty cell")
    twice = table.filter(table.is_duplicated())
    if len(twice):
        raise ThinkrankError(f"{path}: user {twice[0, 'user']!r} has item {twice[0, 'item']!r} twice")
    return table


def rerank_lists(
    folder: Path,
    source: str,
    path: Path,
    options: Mapping[str, Any],
    *,
    k: int = 10,
    samples: int = 1,
    device: str = "auto",
) -> pl.DataFrame:
    """Write the final list for each displayed one.

    Args:
        folder: of a run.
        source: format of the lists.
        path: folder or zip archive of the lists.
        options: of the source.
        k: places of a final list.
        samples: lists written for each request, of which the evaluator picks by what it rewarded in training.
        device: auto, cpu, cuda, cuda:1 or mps.

    Returns:
        The answer as `Ranking.table` gives it.

    Raises:
        ThinkrankError: without a trained re-ranker, or if the lists are of another make than those it was trained on.
    """
    _check_trained(folder, "rerank")
    model = _model(folder, "rerank", device)
    judge: dict[str, Any] = {}
    if isinstance(model, EGLR):
        grpo = run_config(folder)["grpo"]
        judge = {"samples": samples, "reward": grpo["reward"], "places": grpo["length"]}
    elif samples > 1:
        raise ThinkrankError(
            f"{folder}: {type(model).__name__} has no evaluator that could pick one of {samples} lists"
        )
    lists = load_impressions(source, path, **options)
    ranking: Ranking = model.rerank(lists.requests, lists.candidates, k, **judge)
    return ranking.table(lists.catalogue, lists.requests)


def _check_trained(folder: Path, verb: str) -> None:
    if not is_trained(folder):
        raise ThinkrankError(f"{folder}: no trained {_NOUNS[verb]} here; run `thinkrank train {verb}` first")


def _model(folder: Path, verb: str, device: str) -> Any:
    """Load what a run trained, or a saved stage, that can be asked so."""
    if (folder / "config.toml").is_file():
        recipe = recipe_of(folder)
        model = load_model(recipe, recipe.settings.from_run(folder), folder / MODEL, device=device)
    else:
        model = load(folder, device=device)
    if not hasattr(model, verb):
        raise ThinkrankError(f"{folder} holds no {_NOUNS[verb]}, but a {type(model).__name__}")
    return model
