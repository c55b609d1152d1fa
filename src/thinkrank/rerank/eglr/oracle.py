"""The best of several written lists by what users really did: an upper bound on picking, and no system.

It is told the feedback, so it is no stage: it is given the displayed lists themselves, and its answer must be labelled
wherever it is shown.

Shape legend: B requests, M lists of each, R = B M.
"""

import time

import numpy as np
import torch

from thinkrank.data.impressions import ImpressionDataset
from thinkrank.rerank.eglr.config import ReasoningOptions
from thinkrank.rerank.eglr.model import EGLR, ranking_of
from thinkrank.rerank.lists import checked_lists, list_ndcg, training_batches
from thinkrank.stages.answers import Ranking


def oracle_ranking(
    model: EGLR,
    lists: ImpressionDataset,
    k: int,
    samples: int,
    *,
    signal: str | None = None,
    reasoning: ReasoningOptions | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> Ranking:
    """Write several lists for each displayed one and keep that of the best NDCG by the feedback: an upper bound.

    The lists are as many and the same as `EGLR.rerank` writes with equal arguments; `signal` is the feedback to pick
    by, None for the data set's first.

    Raises:
        ThinkrankError: if the lists lack columns, or the threshold is not set.
    """
    began = time.perf_counter()
    requests, candidates = checked_lists(lists.requests, lists.candidates)
    reader = model.schema.reader(requests, candidates)
    writer = model.writer if reasoning is None else model.writer.thinking(reasoning)
    random = torch.Generator().manual_seed(seed)
    picked = []
    history = model.config.lists.max_history
    for batch in training_batches(lists, batch_size, signal=signal, max_history=history):
        written = model.written(reader(batch).to(model.device), k, writer, samples, random)
        feedback_RN = batch.feedback_BN.numpy().repeat(samples, axis=0)
        values_R = list_ndcg(written.columns_RK.cpu().numpy(), feedback_RN, k)
        picked.append(written.best_of(torch.from_numpy(np.ascontiguousarray(values_R)).view(-1, samples)))
    return ranking_of(candidates, picked, k, seconds=time.perf_counter() - began)
