"""What stands behind a retriever: stages learnt on lists out of fold, their weights, and what they cost.

Shape legend: S samples, N candidates.
"""

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from thinkrank.cascade import Cascade, CascadeConfig, EvidenceRanker
from thinkrank.cascade.answers import joined
from thinkrank.cascade.crossfit import Offered, folds_of, gain_of, offered_out_of_fold
from thinkrank.cascade.gate import entropies, threshold_for
from thinkrank.cascade.order import own_scores
from thinkrank.data import ImpressionDataset, Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.evidence import Crowd
from thinkrank.options import Options
from thinkrank.pretrained import KINDS, imported, load
from thinkrank.rank import R2Rank
from thinkrank.recipes import own
from thinkrank.recipes.own import StageClass
from thinkrank.recipes.pair_stage import PairSteps, pair_ranker
from thinkrank.recipes.remembered import remembering
from thinkrank.rerank import (
    EGLR,
    EGLRConfig,
    EvaluatorTrainerOptions,
    GrpoOptions,
    WarmStartOptions,
    train_eglr,
    train_network,
)
from thinkrank.retrieve import Fused
from thinkrank.training import Progress, UnsavedRun, no_progress

logger = logging.getLogger(__name__)

BUILDING = "later stages"
_NAMES = {"rank": "ranker", "rerank": "re-ranker"}
_MEASURED, _THOUGHT_ABOUT = 256, 8
"""Validation requests by which it is measured what stages take, and how many of them are thought about."""
_AT_ONCE = 64
_EPOCHS = 10
"""Passes of a network over the ranker's lists, of which none is left to choose an epoch by."""
_HELD_OUT = 0.2
"""Share of the lists by which EGLR's trainings validate."""
PAIRS, EGLR_KIND = "r2rank", "eglr"
NETWORKS = ("pointwise", "dlcm", "prm", "setrank", "seq2slate", EGLR_KIND)
"""Kinds of re-rankers that learn here."""


class WriterSteps(Options):
    """Say how long EGLR learns behind a ranker, for each fold and once more for all."""

    evaluator: int = Field(500, ge=1, description="batches of lists that EGLR's evaluator learns from")
    warm_start: int = Field(200, ge=1, description="batches of lists that EGLR's generator learns from")
    reinforce: int = Field(50, ge=1, description="batches of lists that EGLR writes and is rewarded for")


class LaterStages(Options):
    """Say what stands behind the retriever, and what it learns from."""

    rank: str = Field(
        "evidence",
        description="the ranker: evidence, which is learnt here in seconds; r2rank, a language model that learns on "
        "the retriever's lists and reads every pair; none; or the folder of a trained one",
    )
    rerank: str = Field(
        "none",
        description="the re-ranker: none; pointwise, dlcm, prm, setrank, seq2slate or eglr, a network that learns here "
        "on the ranker's lists; or the folder of a trained one",
    )
    r2rank: PairSteps = Field(PairSteps(), description="what the ranker r2rank is, and how long it learns")
    eglr: WriterSteps = Field(WriterSteps(), description="how long the re-ranker eglr learns")
    samples: int = Field(3000, ge=1, description="validation samples that later stages and weights learn from, at most")
    folds: int = Field(3, ge=2, description="parts of the validation users; each is asked about by what the others fit")
    thinking_share: float = Field(
        0.2, ge=0, le=1, description="share of validation requests that the threshold of think auto lets think"
    )
    seed: int = Field(0, ge=0, description="seed of the samples and the folds")
    ranker: StageClass | None = Field(None, description="a ranker of your own in the place of rank")
    reranker: StageClass | None = Field(None, description="a re-ranker of your own in the place of rerank")

    @property
    def trains_networks(self) -> bool:
        """Tell whether a language model, a network or a class of your own learns here."""
        return self.rank == PAIRS or self.rerank in NETWORKS or bool(self.ranker or self.reranker)


class Building:
    """Later stages in the making.

    Args:
        options: what is wanted.
        config: how the cascade answers.
        split: whose validation part is learnt from.
        retriever: as it will answer.
        device: where stages that compute with torch answer.
        noun: what the catalogue holds, in the singular.
        folder: of the run, in which a class of your own has a folder to log and resume; None keeps nothing.
    """

    def __init__(
        self,
        options: LaterStages,
        config: CascadeConfig,
        split: Split,
        retriever: Any,
        *,
        device: str,
        noun: str = "item",
        folder: Path | None = None,
    ) -> None:
        self.options, self.config, self.split, self.retriever = options, config, split, retriever
        self.device, self.noun, self.folder = device, noun, folder
        self.asked = retriever  # again and again about the same users
        if isinstance(retriever, Fused):
            self.asked = retriever.of(remembering(retriever.parts))
        self.samples: Samples = split.valid.subset(options.samples, options.seed)
        self.folds_S = folds_of(self.samples, options.folds, seed=options.seed)
        self._retrievers: dict[int, Any] = {}
        self._rankers: dict[int, Any] = {}
        self._progress: Progress = no_progress

    def built(self, progress: Progress = no_progress) -> Cascade:
        """Make the later stages one after the other, each kept if it adds more than its standard error."""
        self._progress = progress
        with progress(BUILDING, 3) as advance:
            ranker = self._ranker()
            advance(1)
            reranker = self._reranker()
            advance(1)
            cascade = Cascade(self.retriever, ranker, reranker, config=self.config)
            cascade.config = self._calibrated(cascade)
            advance(1)
        return cascade

    def _ranker(self) -> Any:
        if self.options.rank == "evidence" and self.options.ranker is None:
            return self._evidence_ranker()
        if self.options.rank == PAIRS and self.options.ranker is None:
            return self._pair_ranker()
        ranker = self._later("rank", self.options.rank, self.options.ranker)
        if ranker is not None:
            offered = self._offered("rank")
            self._keep("rank", offered, self._scores("rank", ranker, offered))
            self._rankers = dict.fromkeys(np.unique(self.folds_S).tolist(), ranker)
        return ranker

    def _reranker(self) -> Any:
        chosen, is_own = self.options.rerank, self.options.reranker is not None
        if chosen in NETWORKS and not is_own:
            return self._network(chosen)
        reranker = self._later("rerank", chosen, self.options.reranker)
        if reranker is not None:
            offered = self._offered("rerank")
            self._keep("rerank", offered, self._scores("rerank", reranker, offered))
        return reranker

    def _network(self, kind: str) -> Any:
        """Train a network on the ranker's lists, for each fold on the others', at last on all."""
        offered = self._offered("rerank")
        num_lists, width = offered.candidates.items_BN.shape
        own_SN = np.zeros((num_lists, width))

        def trained(rows_S: np.ndarray) -> Any:
            lists = offered.lists(rows_S)
            if kind == EGLR_KIND:
                return self._writer(lists)
            made_of = imported(KINDS[kind])
            model = made_of(made_of.config_class(max_epochs=_EPOCHS, seed=self.options.seed), device=self.device)
            train_network(model, lists)
            return model

        for _, learnt_S, asked_S in offered.folds():
            rows = np.flatnonzero(asked_S)
            network, part = trained(learnt_S), self.samples.take(rows)
            given = part.requests(), offered.candidates.take(rows)
            if kind == EGLR_KIND:
                own_SN[rows] = own_scores(network.rerank(*given, width), width)
                continue
            scores_SN = network.scores(*given)
            own_SN[rows] = np.where(np.isfinite(scores_SN), scores_SN, 0.0)
        self._keep("rerank", offered, own_SN)
        return trained(offered.found_S)

    def _writer(self, lists: ImpressionDataset) -> EGLR:
        """Train EGLR on lists: its evaluator, then its generator, first on clicks and then for what it writes."""
        steps, seed, split = self.options.eglr, self.options.seed, lists.split(_HELD_OUT, 0.0)
        if not len(split.valid):
            raise ThinkrankError(
                f"stages.rerank=eglr: {len(lists)} lists that hold what was taken are too few to learn from: raise "
                "stages.samples or cascade.candidates"
            )
        model = EGLR.create(EGLRConfig(), split.train, seed=seed, device=self.device)
        for options in (
            EvaluatorTrainerOptions(steps=steps.evaluator, seed=seed),
            WarmStartOptions(steps=steps.warm_start, seed=seed),
            GrpoOptions(steps=steps.reinforce, seed=seed, failed_check="warn"),
        ):
            train_eglr(model, split, options, UnsavedRun(), progress=self._progress)
        return model

    def _evidence_ranker(self) -> EvidenceRanker:
        """Learn the weights of evidence, for each fold from the others' lists, at last from all."""
        offered = self._offered("rank")
        candidates, found_S = offered.candidates, offered.found_S
        ranker = EvidenceRanker().prepare(Crowd.of(self.split), self.retriever.catalogue, candidates.numeric_names)
        columns_SNK = ranker.columns(self.samples.requests(), candidates)

        def weighed(rows_S: np.ndarray) -> EvidenceRanker:
            return ranker.weigh(columns_SNK[rows_S], candidates.mask_BN[rows_S], offered.taken_S[rows_S])

        own_SN = np.zeros(candidates.items_BN.shape)
        for fold, learnt_S, asked_S in offered.folds():
            self._rankers[fold] = weighed(learnt_S)
            own_SN[asked_S] = columns_SNK[asked_S] @ self._rankers[fold].weights_K
        self._keep("rank", offered, own_SN)
        return weighed(found_S)

    def _pair_ranker(self) -> R2Rank:
        """Train R2Rank on the retriever's lists, for each fold on the others', at last on all."""
        offered = self._offered("rank")
        own_SN = np.zeros(offered.candidates.items_BN.shape)

        def trained(rows_S: np.ndarray) -> R2Rank:
            rows = np.flatnonzero(rows_S)
            if not len(rows):
                raise ThinkrankError(
                    "stages.rank=r2rank: no list holds what was taken: raise stages.samples or cascade.candidates"
                )
            return pair_ranker(
                self.options.r2rank,
                self.samples.take(rows),
                offered.candidates.items_BN[rows],
                self.split,
                noun=self.noun,
                seed=self.options.seed,
                device=self.device,
                progress=self._progress,
            )

        for fold, learnt_S, asked_S in offered.folds():
            self._rankers[fold] = trained(learnt_S)
            own_SN[asked_S] = self._scores("rank", self._rankers[fold], offered, asked_S)
        self._keep("rank", offered, own_SN)
        return trained(offered.found_S)

    def _later(self, verb: Literal["rank", "rerank"], chosen: str, own_class: StageClass | None) -> Any:
        """Return a trained stage: one of your own, which learns now, or one that was trained before."""
        if own_class is not None:
            stage = own.create(own_class, verb)
            own.learn(own_class, stage, self.split, own.run_inside(self.folder, verb, own_class, self.split))
            return stage
        if chosen == "none":
            return None
        stage = load(chosen, device=self.device)
        Cascade(self.retriever, **{_NAMES[verb].replace("-", ""): stage})  # refuses what cannot be asked
        return stage

    def _before(self, fold: int, others: Samples) -> Cascade:
        """Return the stages so far, fitted without the users of a fold."""
        if fold not in self._retrievers:
            fused = self.asked
            self._retrievers[fold] = fused.weighed_on(others) if isinstance(fused, Fused) else fused
        return Cascade(self._retrievers[fold], self._rankers.get(fold), config=self.config)

    def _offered(self, verb: Literal["rank", "rerank"]) -> Offered:
        return offered_out_of_fold(self.samples, self.folds_S, self._before, verb)

    def _scores(
        self, verb: str, stage: Any, offered: Offered, chosen_S: np.ndarray | None = None
    ) -> Float64[np.ndarray, "_ N"]:
        """Ask a trained stage about every list, or about some."""
        requests, candidates = offered.part(np.ones(len(self.samples), bool) if chosen_S is None else chosen_S)
        width = candidates.items_BN.shape[1]
        more = () if verb == "rank" else (width,)
        answers = [getattr(stage, verb)(part, candidates[rows], *more) for rows, part in requests.batches(_AT_ONCE)]
        return own_scores(joined(answers), width)

    def _keep(self, verb: Literal["rank", "rerank"], offered: Offered, own_SN: Float64[np.ndarray, "S N"]) -> None:
        """Find a stage's weight, and answer with it from now on."""
        blend, gain = gain_of(offered, own_SN)
        logger.info(
            "%s: NDCG@10 %.4f -> %.4f (± %.4f), likelihood %+.4f (± %.4f) on %s validation samples: %s",
            _NAMES[verb], gain.before, gain.after, gain.error, gain.likelihood, gain.likelihood_error,
            f"{gain.samples:,}", "it is kept" if blend.own else "it adds nothing and is not asked",
        )  # fmt: skip
        update = {"blends": {**self.config.blends, verb: blend}, "gains": {**self.config.gains, verb: gain}}
        self.config = self.config.model_copy(update=update)

    def _calibrated(self, cascade: Cascade) -> CascadeConfig:
        """Measure what stages take, and from which entropy on the wanted share of requests thinks."""
        able, filter_seen = cascade.thinking_stages, not self.split.dataset.repeats
        requests = self.samples.subset(_MEASURED, self.options.seed).requests()
        answer = cascade.recommend(requests, think=False if able else None, filter_seen=filter_seen)
        threshold = None
        if able:
            cascade.recommend(requests[:_THOUGHT_ABOUT], think=True, filter_seen=filter_seen)
            scores_BN = answer.stages["retrieve"].scores_BK[:, : self.config.candidates]
            threshold = threshold_for(entropies(scores_BN), self.options.thinking_share)
        update: dict[str, Any] = {"costs": cascade.costs.known}
        if self.config.threshold is None and threshold is not None and np.isfinite(threshold):
            update["threshold"] = threshold
        return self.config.model_copy(update=update)
