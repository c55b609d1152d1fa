"""Expert iteration: the evaluator's best of several lists is what the generator imitates next.

Reconstructed: the paper reinforces with GRPO alone. Its Pass@K, several lists of which the evaluator picks one, costs K
times the work at every answer; imitated, it costs that in training only.

Shape legend: B requests, K places.
"""

from typing import Any

import torch

from thinkrank.rerank.eglr.decoding import Noise, Written
from thinkrank.rerank.eglr.options import ExpertOptions
from thinkrank.rerank.eglr.rollouts import by_place, gathered, replayed
from thinkrank.rerank.eglr.writing import WriterTrainer
from thinkrank.rerank.lists import ListBatch, TrainingBatch


class ExpertTrainer(WriterTrainer[ExpertOptions]):
    """Imitate the best of several lists: L = -mean_{b,k} log π(item_k of the best list | what precedes it).

    The first list of each request is the greedy one, so what is imitated is never worse to the evaluator than that, and
    a group whose best list is the greedy one only makes it surer. A thought has no loss of its own here; gradients flow
    through those before each choice.
    """

    def learn(self, batch: TrainingBatch) -> dict[str, Any]:
        """Write lists, have the best picked, and make it likelier."""
        self.module.eval()
        best, gain = self.picked(batch)
        logprobs_BK = replayed(self.model.writer, batch, best).logprobs_RK
        loss = -logprobs_BK[best.chosen_RK].mean() * self.world.fraction(best.chosen_RK.sum())
        norm = self.descend(loss)
        gains = self.world.mean({"gain_of_the_best": gain}, len(batch))
        best = gathered(best, self.world)
        return {"loss": self.world.total(loss.item()), **gains, "gradient_norm": norm, **by_place(best)}

    @torch.inference_mode()
    def written(self, batch: ListBatch) -> Written:
        """Write lists of each request, the first greedily; draws do not depend on who shares the requests."""
        options, writer = self.options, self.model.writer
        context = writer.context(batch, options.best_of)
        rows, candidates = context.mask_RN.shape
        whole, mine = self.world.spread(rows)
        noise = Noise.sample(whole, options.length, candidates, self.random(), greedy_every=options.best_of).take(mine)
        return writer.write(context, options.length, noise.to(self.model.device))

    def picked(self, batch: ListBatch) -> tuple[Written, float]:
        """Return the evaluator's best list of each request, and by how much it beats the greedy one on average."""
        options, evaluator = self.options, self.evaluator
        written = self.written(batch).copied()
        rewards_RK = evaluator.rewards(evaluator.joint(batch), written.columns_RK, options.reward)
        values_BM = rewards_RK.detach().sum(dim=1).view(-1, options.best_of)
        gain = (values_BM.max(dim=1).values - values_BM[:, 0]).mean()
        return written.best_of(values_BM), float(gain)
