"""What saved folders answer: the questions as plain JSON, the answers with scores as float.hex().

`answer(kind, folder, questions)` needs the folder and the questions alone.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from golden.models import EASE, EGLR, LIST_BASELINES, ItemKNN, Popularity, R2ec, R2Rank, SASRec
from thinkrank.data import Catalogue, Histories, History, ImpressionDataset
from thinkrank.language.options import GenerationOptions
from thinkrank.rerank.eglr.oracle import oracle_ranking

Json = dict[str, Any]


def hexed(values: Any) -> Any:
    """Nested lists of floats as text."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    return [hexed(value) for value in values] if isinstance(values, list | tuple) else float(values).hex()


def unhexed(values: Any) -> Any:
    return [unhexed(value) for value in values] if isinstance(values, list) else float.fromhex(values)


def histories_of(questions: Json) -> list[History]:
    return [History.of(rows) for rows in questions["histories"]]


def thought(written: Any) -> Json:
    return {
        "text": written.text,
        "token_ids": written.token_ids.tolist(),
        "logprobs": hexed(written.logprobs),
        "entropies": hexed(written.entropies),
        "finish_reason": written.finish_reason,
    }


def ranking(answer: Any) -> Json:
    told = {"items": answer.items_BK.tolist(), "scores": hexed(answer.scores_BK)}
    if answer.thoughts is not None:
        told["thoughts"] = [thought(one) for one in answer.thoughts]
    if answer.reasons is not None:
        told["reasons"] = [[thought(one) for one in own] for own in answer.reasons]
    return told


def slate(answer: Any) -> Json:
    told = {"items": answer.items_BK.tolist(), "columns": answer.columns_BK.tolist(), "scores": hexed(answer.scores_BK)}
    if answer.latent is not None:
        told["thoughts"] = answer.latent.steps_BK.tolist()
        told["entropies_before"] = hexed(answer.latent.entropies_before_BK)
        told["entropies_after"] = hexed(answer.latent.entropies_after_BK)
    return told


def of_r2ec(folder: Path, questions: Json) -> Json:
    model, histories, k = R2ec.from_pretrained(folder, device="cpu"), histories_of(questions), questions["k"]
    sampled = GenerationOptions(**questions["sampled"])
    return {
        "catalogue": model.catalogue.titles,
        "without thought": ranking(model.retrieve(histories, k)),
        "without thought, seen items kept": ranking(model.retrieve(histories, k, filter_seen=False)),
        "thought first": ranking(model.retrieve(histories, k, think=True)),
        "sampled thought first": ranking(model.retrieve(histories, k, think=True, thought_options=sampled)),
        "all scores without thought": hexed(model.scores(histories)),
        "all scores after a thought": hexed(model.scores(histories, think=True)),
    }


def of_r2rank(folder: Path, questions: Json) -> Json:
    model, histories = R2Rank.from_pretrained(folder, device="cpu"), histories_of(questions)
    candidates_BN = np.array(questions["candidates"], dtype=np.int32)
    rows = [[row for row in own if row >= 0] for own in questions["candidates"]]
    unthought = model.scores_after(histories, rows)
    return {
        "catalogue": model.catalogue.titles,
        "as configured": ranking(model.rank(histories, candidates_BN)),
        "scores as configured": hexed(model.rank(histories, candidates_BN).scores_given(candidates_BN.shape[1])),
        "scores with nothing written, without padding": [hexed(own.tolist()) for own in unthought],
    }


def of_eglr(folder: Path, questions: Json) -> Json:
    model, lists, k = EGLR.from_pretrained(folder, device="cpu"), lists_of(questions["lists"]), questions["k"]
    plain = model.writer.reasoning.model_copy(update={"mode": "none"})
    fixed = model.writer.reasoning.model_copy(update={"mode": "fixed"})
    told = {
        "threshold": None if model.config.reasoning.threshold is None else model.config.reasoning.threshold.hex(),
        "thinking": slate(model.rerank(lists.requests, lists.candidates, k)),
        "thinking before every item": slate(model.rerank(lists.requests, lists.candidates, k, reasoning=fixed)),
        "without thinking": slate(model.rerank(lists.requests, lists.candidates, k, reasoning=plain)),
        "evaluator's pick of 4": slate(
            model.rerank(lists.requests, lists.candidates, k, samples=4, reward="sum", places=3, seed=2)
        ),
        "oracle's pick of 4": slate(oracle_ranking(model, lists, k, samples=4, seed=2)),
    }
    assert model.report is not None
    return told | {"report": {"auc": model.report.auc, "log_loss": model.report.log_loss.hex()}}


def of_retriever(kind: Any) -> Callable[[Path, Json], Json]:
    def told(folder: Path, questions: Json) -> Json:
        model, histories, k = kind.from_pretrained(folder), histories_of(questions), questions["k"]
        return {
            "ranking": ranking(model.retrieve(histories, k)),
            "ranking, seen items kept": ranking(model.retrieve(histories, k, filter_seen=False)),
            "all scores": hexed(model.scores(histories)),
        }

    return told


def of_list_baseline(kind: Any) -> Callable[[Path, Json], Json]:
    def told(folder: Path, questions: Json) -> Json:
        model, lists = kind.from_pretrained(folder, device="cpu"), lists_of(questions["lists"])
        return {
            "slate": slate(model.rerank(lists.requests, lists.candidates, questions["k"])),
            "all scores": hexed(model.scores(lists.requests, lists.candidates)),
        }

    return told


def lists_of(told: Mapping[str, Any]) -> ImpressionDataset:
    """The same lists again."""

    def array(name: str, kind: type[np.generic]) -> np.ndarray:
        return np.array(told[name], dtype=kind)

    return ImpressionDataset(
        name="questions",
        catalogue=Catalogue(pl.DataFrame({"item": told["catalogue"], "title": told["catalogue"]})),
        items_LN=array("items_LN", np.int32),
        feedback_LNS=array("feedback_LNS", np.float32),
        signals=tuple(told["signals"]),
        times_L=array("times_L", np.int64),
        users=tuple(told["users"]),
        users_L=array("users_L", np.int32),
        histories=Histories.of([History.of(rows) for rows in told["histories"]]),
        numeric_LNF=np.array(unhexed(told["numeric_LNF"]), dtype=np.float32),
        numeric_names=tuple(told["numeric_names"]),
        categorical_LNC=array("categorical_LNC", np.int32),
        categorical_names=tuple(told["categorical_names"]),
        categorical_values=tuple(tuple(values) for values in told["categorical_values"]),
        context_LF=np.array(unhexed(told["context_LF"]), dtype=np.float32),
        context_names=tuple(told["context_names"]),
    )


KINDS: dict[str, Callable[[Path, Json], Json]] = {
    "r2ec": of_r2ec,
    "r2rank": of_r2rank,
    "r2rank_plain": of_r2rank,
    "eglr": of_eglr,
    "sasrec": of_retriever(SASRec),
    "item_knn": of_retriever(ItemKNN),
    "ease": of_retriever(EASE),
    "popularity": of_retriever(Popularity),
    **{kind: of_list_baseline(model) for kind, (model, _) in LIST_BASELINES.items()},
}


def answer(kind: str, folder: Path, questions: Json) -> Json:
    """What the saved model of this folder answers."""
    return KINDS[kind](folder, questions)
