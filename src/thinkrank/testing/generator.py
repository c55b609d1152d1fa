"""Contract of a generator of lists: what is written can be replayed, with gradient, in any company and padding.

Shape legend: R rows, N candidates, K places, E width of joint embeddings.
"""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thinkrank.rerank.eglr.config import ReasoningOptions
from thinkrank.rerank.eglr.decoding import Noise, replay, write
from thinkrank.rerank.eglr.generators.base import Context, Generator
from thinkrank.rerank.eglr.reasoning import Reasoner, calibrate_threshold

JOINT, WIDTH = 6, 8
"""Of the joint embeddings a generator under test reads, and of its tokens."""
LENGTHS = (6, 3, 1, 5, 2)
MODES = ["none", "entropy", "gain", "fixed", "prefix", "random"]
TOKENS = ["soft_candidates", "last_state", "learned_pause", "mean_candidates", "argmax_item"]


@dataclass
class Case:
    """A generator with its requests, one row each, in fp64."""

    generator: Any
    reasoner: Reasoner
    joint: Tensor
    mask: Tensor

    def context(self) -> Context:
        """Encode the candidates."""
        context: Context = self.generator.encode(self.joint, self.mask)
        return context

    def draws(self, places: int, seed: int = 1) -> Noise:
        """Draw what sampling lists of so many places needs."""
        rows, candidates = self.mask.shape
        return Noise.sample(rows, places, candidates, torch.Generator().manual_seed(seed))

    def write(self, places: int, draws: Noise | None = None) -> Any:
        """Write a list for each row; the most likely ones without draws."""
        with torch.no_grad():
            return write(self.generator, self.reasoner, self.context(), places, draws)

    def replay(self, written: Any, wanted: Tensor | None = None) -> Any:
        """Compute the probabilities of what was written, with gradient."""
        return replay(self.generator, self.reasoner, self.context(), written.columns_RK, written.steps_RK, wanted)

    def alone(self, row: int) -> "Case":
        """Return one row without the others, and without its padding."""
        width = int(self.mask[row].sum())
        return Case(self.generator, self.reasoner, self.joint[row : row + 1, :width], self.mask[row : row + 1, :width])


def make_case(generator: nn.Module, seed: int = 0, lengths: tuple[int, ...] = LENGTHS, **reasoning: Any) -> Case:
    """Make random requests of some lengths, and a reasoner of the given options.

    Without a threshold it is set so that about half of the places think.

    Args:
        generator: under test; it is turned to fp64 and to evaluation.
        seed: of requests and reasoner.
        lengths: candidates of each request.
        reasoning: of `ReasoningOptions`.
    """
    torch.manual_seed(seed)
    asked = {"mode": "entropy", "max_steps": 3, **reasoning}
    options = ReasoningOptions(**{"predicts_gain": asked["mode"] == "gain", **asked})
    reasoner = Reasoner(WIDTH, options).double()
    with torch.no_grad():
        for parameter in reasoner.parameters():
            parameter.normal_()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    joint = torch.randn(*mask.shape, JOINT, dtype=torch.float64)
    case = Case(generator.double().eval(), reasoner, joint, mask)
    if options.lacks_threshold:
        reasoner.set_threshold(math.inf)
        written = case.write(max(lengths))
        reasoner.set_threshold(calibrate_threshold(written.compared_RK[written.chosen_RK], 0.5))
    return case


class GeneratorContract:
    """Tests for a module with the four functions of `thinkrank.rerank.Generator`.

    Subclasses override `make`, whose generator reads joint embeddings of width `JOINT` and has tokens of width `WIDTH`.
    """

    @classmethod
    def make(cls) -> nn.Module:
        """Return a generator with fresh weights, drawn from torch's present seed."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def generator(cls) -> nn.Module:
        """Make it once for all tests of the class."""
        torch.manual_seed(5)
        return cls.make()

    def test_it_is_known_by_its_four_functions(self, generator: nn.Module) -> None:
        assert isinstance(generator, Generator)

    @pytest.mark.parametrize("token", TOKENS)
    def test_a_replay_gives_the_probabilities_of_the_rollout(self, generator: nn.Module, token: str) -> None:
        case = make_case(generator, token=token, step_codes=True)
        written = case.write(6, case.draws(6))
        assert (written.steps_RK > 0).any()
        with torch.enable_grad():
            replayed = case.replay(written)
        assert replayed.logprobs_RK.requires_grad
        for name in ("logprobs_RK", "entropies_before_RK", "entropies_after_RK", "steps_RK", "columns_RK"):
            difference = getattr(replayed, name).detach() - getattr(written, name)
            assert float(difference.abs().max()) <= 1e-15, name

    @pytest.mark.parametrize(("mode", "sampled"), [(mode, True) for mode in MODES] + [("entropy", False)])
    def test_a_row_gets_what_it_would_get_alone(self, generator: nn.Module, mode: str, sampled: bool) -> None:
        case = make_case(generator, mode=mode)
        chance = case.draws(5)
        assert chance.choice_RKN is not None
        assert chance.thinking_RK is not None
        together = case.write(5, chance if sampled else Noise())
        for row, width in enumerate(LENGTHS):
            one = Noise(chance.choice_RKN[row : row + 1, :, :width], chance.thinking_RK[row : row + 1])
            single = case.alone(row).write(5, one if sampled else Noise())
            assert torch.equal(single.columns_RK[0], together.columns_RK[row])
            assert torch.equal(single.steps_RK[0], together.steps_RK[row])
            for name in ("logprobs_RK", "entropies_before_RK", "entropies_after_RK"):
                torch.testing.assert_close(getattr(single, name)[0], getattr(together, name)[row], atol=1e-12, rtol=0)

    def test_rows_think_at_different_places_and_for_different_times(self, generator: nn.Module) -> None:
        """Make sure that the tests above compare as much as they seem to."""
        case = make_case(generator)
        thoughts = case.write(5, case.draws(5)).steps_RK
        assert len({tuple(row) for row in thoughts.tolist()}) > 2

    def test_padding_may_hold_anything(self, generator: nn.Module) -> None:
        case = make_case(generator)
        written = case.write(4)
        case.joint = case.joint.masked_fill(~case.mask[:, :, None], 1e3)
        again = case.write(4)
        assert torch.equal(again.columns_RK, written.columns_RK)
        torch.testing.assert_close(again.logprobs_RK, written.logprobs_RK, atol=1e-12, rtol=0)

    def test_it_learns_through_its_thoughts(self, generator: nn.Module) -> None:
        """Check the gradient of log-probabilities against finite differences, with thoughts in between."""
        case = make_case(generator, mode="fixed", max_steps=2, lengths=(4, 3))
        written = case.write(3, case.draws(3))
        parameters = [p for p in case.generator.parameters() if p.requires_grad]
        weights = torch.randn(written.logprobs_RK.shape, dtype=torch.float64)

        def value() -> Tensor:
            summed: Tensor = (case.replay(written).logprobs_RK * weights).sum()
            return summed

        gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
        random = torch.Generator().manual_seed(3)
        for _ in range(3):
            directions = [torch.randn(p.shape, generator=random, dtype=p.dtype) for p in parameters]
            slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    for p, d in zip(parameters, directions, strict=True):
                        p.add_(sign * 1e-6 * d)
                    values.append(float(value().detach()))
                    for p, d in zip(parameters, directions, strict=True):
                        p.sub_(sign * 1e-6 * d)
            assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7)
