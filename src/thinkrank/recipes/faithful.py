"""Measure whether what a run's model writes is true and decides its answer: R²ec's thoughts, R2Rank's reasons.

Where nothing is written reasons are counted, and what they claim is checked.

Shape legend: B requests, V readings, N candidates, I items of the catalogue.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from thinkrank.cascade import Cascade
from thinkrank.data import History, Samples
from thinkrank.data.candidates import CandidateSets
from thinkrank.evaluate import ResultRow
from thinkrank.evaluate.faithfulness import (
    HOLD,
    SHOWN,
    Faithfulness,
    Read,
    Text,
    attribute_agreement,
    measure_faithfulness,
)
from thinkrank.evidence import ClaimChecker, Reasons, TextChecker
from thinkrank.language import encode_text
from thinkrank.language.trajectories import Given
from thinkrank.rank import R2Rank
from thinkrank.recipes.base import EvaluationOptions, OpenRun
from thinkrank.recipes.reader import reader_of
from thinkrank.recipes.reasons import checker_of, counted_reasons
from thinkrank.recipes.reporting import some_sets, spread
from thinkrank.retrieve import Fused, R2ec
from thinkrank.retrieve.r2ec.controls import scores_after
from thinkrank.stages import order
from thinkrank.stages.answers import Ranking

FILE = "faithfulness.json"
THOUGHTS, REASONS, COUNTED = "R²ec, thought first", "R2Rank", "counted reasons"
"""Whose texts they are, as tables call it."""
NUM_SAMPLES, NUM_LISTS = 100, 20
"""Samples whose thought, and lists whose reasons, are written and read again, at most."""
NUM_REASONED, MOST_REASONS = 5, 2
"""Recommended items of each sample whose counted reasons are checked, and reasons of each."""
K = 10


def measured(opened: OpenRun, questions: Any, options: EvaluationOptions) -> list[ResultRow]:
    """Measure how faithful a run's texts are on some of the questions of an evaluation; nothing if it writes none.

    Args:
        opened: the run.
        questions: samples of a retriever, candidate sets of a ranker.
        options: of the evaluation; a retriever is measured if its thoughts are.
    """
    model = reader_of(opened.model)
    seed = opened.recipe.seed(opened.settings)
    if isinstance(model, R2ec) and isinstance(questions, Samples) and options.think:
        leaves_out = not (options.seen or questions.dataset.repeats)
        system, found = THOUGHTS, _of_thoughts(model, questions, checker_of(opened), filter_seen=leaves_out)
    elif isinstance(model, R2Rank) and isinstance(questions, CandidateSets) and model.config.thinks:
        system, found = REASONS, _of_reasons(model, questions, checker_of(opened))
    elif isinstance(opened.model, Cascade | Fused) and (reasons := counted_reasons(opened.settings, opened.split)):
        leaves_out = not (options.seen or questions.dataset.repeats)
        system, found = COUNTED, counted_faithfulness(opened.model, questions, reasons, filter_seen=leaves_out)
    else:
        return []
    dataset = opened.split.manifest()["dataset"]
    return found.rows(dataset=dataset, split=options.part, system=system, seeds=[seed])


def _of_thoughts(model: R2ec, samples: Samples, checker: TextChecker, *, filter_seen: bool) -> Faithfulness:
    some = samples.take(spread(samples.users, NUM_SAMPLES))
    requests = some.requests()
    ranking = model.retrieve(requests, K, filter_seen=filter_seen, think=True)
    shown = [history.last(model.config.prompt.history_window) for history in requests.histories]
    ranking = checker.marked(ranking, shown)
    thoughts = ranking.thoughts or ()
    texts, counted = [(thought.text,) for thought in thoughts], {}
    if model.config.thinker == "crowd":  # what was counted is no sentences but tokens, which a number stands for
        counted = {str(row): thought.token_ids.tolist() for row, thought in enumerate(thoughts)}
        texts = [(number,) for number in counted]
    return measure_faithfulness(
        read_thoughts(model, requests.histories, counted, filter_seen=filter_seen),
        texts,
        np.asarray(some.targets),
        np.asarray(some.users),
        checks=[[thought.check] for thought in thoughts if thought.check is not None],
        agreement=_agreement(checker, [thought.text for thought in thoughts], ranking, K),
        k=K,
    )


def _of_reasons(model: R2Rank, sets: CandidateSets, checker: TextChecker) -> Faithfulness:
    some = some_sets(sets, NUM_LISTS)
    histories, items_BN = some.requests.histories, some.items_BN
    ranking = model.rank(some.requests, some.candidates)
    shown = [history.last(model.config.prompt.history_window) for history in histories]
    ranking = checker.marked(ranking, shown)
    reasons, columns_BK = ranking.reasons or (), ranking.columns_BK
    texts: list[tuple[str, ...]] = []
    for many, columns_K in zip(reasons, np.asarray(columns_BK), strict=True):
        by_column = dict(zip(columns_K[columns_K >= 0].tolist(), many, strict=True))
        texts.append(tuple(by_column[column].text for column in sorted(by_column)))
    first = [many[0].text if many else "" for many in reasons]
    return measure_faithfulness(
        read_reasons(model, histories, items_BN),
        texts,
        np.asarray(some.positive_B),
        np.asarray(some.samples.users),
        checks=[[thought.check for thought in many if thought.check is not None] for many in reasons],
        agreement=_agreement(checker, first, ranking, 1),
        k=K,
    )


def read_thoughts(
    model: R2ec, histories: Sequence[History], counted: Mapping[str, Sequence[int]], *, filter_seen: bool = True
) -> Read:
    """Score the whole catalogue after thoughts that are given, or as answers without one are.

    Args:
        model: whose thoughts they are.
        histories: about which.
        counted: tokens of each by what is given for it; empty if texts are given.
        filter_seen: leave items of the history out.
    """

    def ids(text: str) -> Sequence[int]:
        return counted[text] if counted else encode_text(model.backbone.tokenizer, text)

    def read(rows: Sequence[int], texts: Sequence[Text]) -> Float32[np.ndarray, "V I"]:
        asked = [histories[row] for row in rows]
        scores_VI = scores_after(model, asked, [None if text is None else ids(text[0]) for text in texts])
        return order.mask_seen(scores_VI, asked) if filter_seen else scores_VI

    return read


def read_reasons(model: R2Rank, histories: Sequence[History], items_BN: Int32[np.ndarray, "B N"]) -> Read:
    """Score candidates after reasons that are given in their order, or after none."""

    def read(rows: Sequence[int], texts: Sequence[Text]) -> Float32[np.ndarray, "V N"]:
        scores_VN = np.full((len(rows), items_BN.shape[1]), -np.inf, dtype=np.float32)
        for scores_N, row, text in zip(scores_VN, rows, texts, strict=True):
            columns = np.flatnonzero(items_BN[row] >= 0)
            given = [_given(model, None if text is None else text[place]) for place in range(len(columns))]
            (scores,) = model.scores_after([histories[row]], [items_BN[row, columns].tolist()], [given])
            scores_N[columns] = scores.float().cpu().numpy()
        return scores_VN

    return read


def _given(model: R2Rank, text: str | None) -> Given:
    if text is None:
        return Given()
    ids = tuple(model.prompts.text(text))
    return Given((*ids, *model.prompts.closing_ids), len(ids))


def counted_faithfulness(model: Any, samples: Samples, reasons: Reasons, *, filter_seen: bool = True) -> Faithfulness:
    """Check what counted reasons claim of what is recommended, before any is left out.

    Args:
        model: a fitted retriever.
        samples: of whom some are asked about, spread over users.
        reasons: counts of the train part.
        filter_seen: leave items of the history out.
    """
    some, checker = samples.take(spread(samples.users, NUM_SAMPLES)), ClaimChecker(reasons)
    rows_BK = model.retrieve(some.requests(), NUM_REASONED, filter_seen=filter_seen).items_BK
    values: dict[str, list[bool]] = {HOLD: [], SHOWN: []}
    users: dict[str, list[int]] = {name: [] for name in values}
    for history, user, rows in zip(some.histories(), some.users.tolist(), rows_BK.tolist(), strict=True):
        for row in (row for row in rows if row >= 0):
            for reason in reasons.reasons(history, row, user, most=MOST_REASONS):
                holds = [claim.is_true for claim in checker.claims(reason.text, history, row, user)]
                for name, found in ((HOLD, holds), (SHOWN, [all(holds)])):
                    values[name] += found
                    users[name] += [user] * len(found)
    return Faithfulness(
        {name: np.array(found, dtype=float) for name, found in values.items()},
        {name: np.array(whose) for name, whose in users.items()},
    )


def _agreement(checker: TextChecker, texts: Sequence[str], ranking: Ranking, k: int) -> dict[str, Any]:
    named = [checker.claims.attributes(text) for text in texts]
    return dict(attribute_agreement(named, ranking.items_BK[:, :k], checker.claims.reasons.facts.values))
