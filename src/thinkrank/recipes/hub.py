"""Publish a saved stage on the Hugging Face hub, with a card that holds figures, data and licences."""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from thinkrank._version import __version__
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.results import ResultRow, read_results, results_markdown
from thinkrank.pretrained import CONFIG_FILE, MODEL_FILES, local_folder
from thinkrank.recipes.layers import run_config
from thinkrank.recipes.licences import Terms, data_terms, weights_terms
from thinkrank.training.run import read_manifest

logger = logging.getLogger(__name__)

METRICS = ("hit@10", "ndcg@10", "ndcg@20", "map@10", "mrr")
"""Figures of a card."""

CARD = "README.md"
RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class Upload:
    """Hold what is published of a saved stage.

    Attributes:
        files: by their paths in the repository, the card apart.
        card: its README.md.
        terms: of the data that it was trained on.
    """

    files: Mapping[str, Path]
    card: str
    terms: Terms


def prepared_upload(where: str | Path, repo: str) -> Upload:
    """Collect what `push_to_hub` uploads, without asking any hub.

    Raises:
        ThinkrankError: if there is no saved stage, or the name is none.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ThinkrankError(f"{repo!r} is not the name of a repository: give owner/name")
    if not Path(where).expanduser().is_dir():
        raise ThinkrankError(f"{where}: there is no such folder; give a run, or a saved stage")
    folder = local_folder(where)
    run = folder.parent if (folder.parent / "config.toml").is_file() else None
    files = sorted({file for pattern in MODEL_FILES for file in folder.rglob(pattern)})
    named = {file.relative_to(folder).as_posix(): file for file in files}
    return Upload(named, model_card(folder, run), _data_of(run))


def push_to_hub(
    where: str | Path, repo: str, *, private: bool = True, token: str | None = None, endpoint: str | None = None
) -> str:
    """Upload a saved stage with its card, and return the address of its page.

    Only what `thinkrank.load` reads is uploaded; the catalogue, with the titles of items, is part of it.

    Args:
        where: folder of a run, whose figures and data the card then tells, or of a saved stage alone.
        repo: `owner/name` on the hub; made if it is not there.
        private: whether a new repository is private.
        token: of the hub; None takes the one that `hf auth login` stored.
        endpoint: another hub than huggingface.co.

    Raises:
        ThinkrankError: if there is no saved stage, the name is none, or the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    upload = prepared_upload(where, repo)
    if not upload.terms.may_be_passed_on and not private:
        logger.warning("the catalogue is uploaded too, for all to read; the data's terms: %s", upload.terms.text)
    api = HfApi(token=token, endpoint=endpoint)
    adds = [CommitOperationAdd(name, file) for name, file in upload.files.items()]
    adds.append(CommitOperationAdd(CARD, upload.card.encode()))
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*about to commit a data file")  # the catalogue is one
            commit = api.create_commit(repo, adds, commit_message=f"A model of thinkrank {__version__}")
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ThinkrankError(f"{repo}: the hub did not take it: {reason}") from error
    return str(commit.repo_url)


def model_card(folder: Path, run: Path | None = None) -> str:
    """Write the card of a saved stage: what it is, what it was trained on, how good it is, its licences.

    Args:
        folder: of the stage; its own card is the beginning.
        run: folder of the run that trained it, for data and figures.
    """
    header = json.loads((folder / CONFIG_FILE).read_bytes())
    kind, body = str(header.get("kind", "model")), ""
    if (folder / CARD).is_file():
        body = re.sub(r"\A---\n.*?\n---\n", "", (folder / CARD).read_text(encoding="utf-8"), flags=re.DOTALL).strip()
    backbones = sorted(set(_backbones(folder)))
    weights, data = [weights_terms(name) for name in backbones], _data_of(run)
    parts = [
        _front_matter(folder, run, kind, weights),
        body or f"# A stage of thinkrank of kind {kind}\n\n`thinkrank.load` opens it.",
        "## Data and licences\n\n" + _licences(weights, data),
        _figures(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _licences(weights: list[Terms], data: Terms) -> str:
    rows = [*((f"base model {terms.name}", terms) for terms in weights), (f"data: {data.name}", data)]
    lines = [f"| {name} | {terms.text} |" for name, terms in rows]
    return "\n".join(["| part | terms |", "| --- | --- |", "| thinkrank | Apache-2.0 |", *lines])


def _figures(run: Path | None) -> str:
    """Show what `thinkrank evaluate` found, if the run was judged."""
    rows = _rows(run)
    if not rows:
        return ""
    return f"## Figures\n\nOn held-out samples, with 95 % intervals over users.\n\n{results_markdown(rows)}".rstrip()


def _rows(run: Path | None) -> list[ResultRow]:
    if run is None or not (run / RESULTS_FILE).is_file():
        return []
    return [row for row in read_results(run / RESULTS_FILE) if row.metric in METRICS]


def _front_matter(folder: Path, run: Path | None, kind: str, weights: list[Terms]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="recommendation",
            dataset_type=row.dataset,
            dataset_name=row.dataset,
            dataset_split=row.split,
            metric_type=row.metric,
            metric_name=f"{row.metric}, {row.system}",
            metric_value=row.value,
        )
        for row in _rows(run)
    ]
    licences = {terms.licence for terms in weights} or {"apache-2.0"}
    known = [terms.name for terms in weights if "/" in terms.name]
    data = ModelCardData(
        library_name="thinkrank",
        license=licences.pop() if len(licences) == 1 else "other",
        tags=["recommendation", kind],
        base_model=known or None,
        model_name=folder.name if run is None else run.name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _data_of(run: Path | None) -> Terms:
    """Return the terms of a run's data; a prepared folder's are those of the source it was made from."""
    if run is None:
        return data_terms("")
    made_from = read_manifest(run).get("split", {}).get("source", {}).get("source")
    return data_terms(str(made_from or run_config(run).get("data", {}).get("source", "")))


def _backbones(folder: Path) -> Iterator[str]:
    """Name the language models of a stage and of the stages inside it."""
    for file in folder.rglob(CONFIG_FILE):
        header = json.loads(file.read_bytes())
        name = header.get("config", header).get("backbone")
        if name:
            yield str(name)
