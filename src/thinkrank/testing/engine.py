"""Contract of an engine that writes: inherit, say how it is made, and the tests come with it.

Shape legend: N tokens written, V vocabulary.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.language import Backbone, Completion, Engine, PrefixTree, add_lora, hidden_states, pad, tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.engines.base import BASE, TRAINED
from thinkrank.language.engines.transformers import sampling_logprobs
from thinkrank.language.logprobs import log_softmax, logits
from thinkrank.language.options import GenerationOptions, LoraOptions
from thinkrank.testing.checks import refused

TREE = PrefixTree.groups([([5, 6, 7, 8, 9, 3], [[1, 2, 3], [4, 5], [6]]), ([11, 12], [[13, 14]]), ([17], [])])
GREEDY = GenerationOptions(max_new_tokens=8)
SAMPLED = GenerationOptions(max_new_tokens=8, temperature=1.3, seed=5)
CUT = GenerationOptions(max_new_tokens=8, temperature=1.7, top_k=9, top_p=0.8, seed=4)
OTHER = "other"
"""A writer that tests publish."""
_ROUNDS = 8


def assert_same_completions(
    ours: Sequence[Sequence[Completion]], theirs: Sequence[Sequence[Completion]], atol: float = 1e-5
) -> None:
    """Compare all that does not depend on the clock: tokens exactly, numbers within a tolerance."""
    assert [len(many) for many in ours] == [len(many) for many in theirs]
    for one, other in zip(chain(*ours), chain(*theirs), strict=True):
        assert (one.ids, one.text, one.finish_reason) == (other.ids, other.text, other.finish_reason)
        assert one.ids_before_stop == other.ids_before_stop
        for name in ("logprobs", "own_logprobs", "entropies"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=atol, rel=1e-5), name
        if one.last_state is not None and other.last_state is not None:
            torch.testing.assert_close(one.last_state, other.last_state, atol=10 * atol, rtol=1e-4)


class EngineContract:
    """Tests for a class that satisfies `thinkrank.language.Engine`.

    Subclasses override the fixture `engine`. The model is tiny, in fp32, on the CPU, and has an adapter with an effect;
    its base is always the same.
    """

    @pytest.fixture
    def backbone(self) -> Backbone:
        """Make the model that writes."""
        adapted = add_lora(tiny_backbone(["a small film about trains", "another film"], seed=3), LoraOptions(rank=4))
        _shake(adapter_state(adapted), seed=0)
        return adapted

    @pytest.fixture
    def engine(self, backbone: Backbone, tmp_path: Path) -> Any:
        """Return an engine of this model; it may write into the folder."""
        raise NotImplementedError

    def test_it_is_an_engine(self, engine: Any) -> None:
        assert isinstance(engine, Engine)

    def test_every_prompt_gets_its_completions(self, engine: Any) -> None:
        written = engine.sample(TREE, SAMPLED, num_samples=3)
        assert [len(samples) for samples in written] == [3] * len(TREE.leaves)
        for one in chain(*written):
            assert 1 <= len(one.ids) <= SAMPLED.max_new_tokens
            assert len(one.ids) == len(one.logprobs) == len(one.own_logprobs) == len(one.entropies)
            assert one.seconds >= 0

    def test_no_prompts_and_no_samples_give_nothing(self, engine: Any) -> None:
        assert engine.sample(PrefixTree.rows([]), SAMPLED) == []
        assert engine.sample(PrefixTree.rows([[5], [6]]), SAMPLED, num_samples=0) == [[], []]

    @pytest.mark.parametrize("options", [GREEDY, SAMPLED, CUT], ids=["greedy", "sampled", "cut"])
    def test_logprobs_and_entropies_agree_with_scoring(
        self, engine: Any, backbone: Backbone, options: GenerationOptions
    ) -> None:
        for prompt, samples in zip(TREE.sequences(), engine.sample(TREE, options, num_samples=2), strict=True):
            for one in samples:
                logits_NV = _predicting(backbone, prompt, one.ids)
                own_NV, index = log_softmax(logits_NV), torch.tensor(one.ids)[:, None]
                assert one.own_logprobs == pytest.approx(own_NV.gather(1, index)[:, 0].tolist(), abs=1e-4)
                assert one.entropies == pytest.approx((-(own_NV.exp() * own_NV).sum(dim=1)).tolist(), abs=1e-4)
                drawn_NV = sampling_logprobs(logits_NV, options)
                assert one.logprobs == pytest.approx(drawn_NV.gather(1, index)[:, 0].tolist(), abs=1e-3)

    def test_greedy_decoding_takes_the_likeliest_token(self, engine: Any, backbone: Backbone) -> None:
        for prompt, (one,) in zip(TREE.sequences(), engine.sample(TREE, GREEDY), strict=True):
            assert list(one.ids) == _predicting(backbone, prompt, one.ids).argmax(dim=1).tolist()

    def test_nothing_outside_of_the_cut_is_drawn(self, engine: Any, backbone: Backbone) -> None:
        for prompt, samples in zip(TREE.sequences(), engine.sample(TREE, CUT, num_samples=4), strict=True):
            for one in samples:
                for row, token in zip(_predicting(backbone, prompt, one.ids).tolist(), one.ids, strict=True):
                    assert token in _kept(row, CUT)

    def test_draws_follow_the_distribution(self, engine: Any, backbone: Backbone) -> None:
        options, count = GenerationOptions(max_new_tokens=1, temperature=1.5, top_k=4, seed=0), 200
        (samples,) = engine.sample(PrefixTree.rows([[5, 6, 7]]), options, num_samples=count)
        drawn = [one.ids[0] for one in samples]
        expected_V = sampling_logprobs(_predicting(backbone, (5, 6, 7), (0,)), options).exp()[0]
        for token in expected_V.nonzero()[:, 0].tolist():
            chance = expected_V[token].item()
            assert abs(drawn.count(token) / count - chance) < 4 * (chance * (1 - chance) / count) ** 0.5 + 1e-6

    def test_what_prompts_share_changes_nothing(self, engine: Any) -> None:
        apart = engine.sample(PrefixTree.rows(TREE.sequences()), SAMPLED, num_samples=2)
        assert_same_completions(engine.sample(TREE, SAMPLED, num_samples=2), apart)

    def test_draws_depend_on_seeds_and_not_on_the_batch(self, engine: Any) -> None:
        prompts = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
        alone = engine.sample(PrefixTree.rows([prompts[2]]), SAMPLED, seeds=[40])
        among = engine.sample(PrefixTree.rows(prompts), SAMPLED, num_samples=2, seeds=[7, 8, 40])
        assert among[2][0].ids == alone[0][0].ids != among[2][1].ids
        assert_same_completions(
            engine.sample(PrefixTree.rows(prompts), SAMPLED, num_samples=2, seeds=[7, 8, 40]), among
        )
        other = engine.sample(PrefixTree.rows(prompts), SAMPLED.model_copy(update={"seed": 6}), seeds=[7, 8, 40])
        assert [one.ids for (one,) in other] != [one.ids for one, _ in among]
        with pytest.raises(ValueError, match="zip"):
            engine.sample(PrefixTree.rows(prompts), SAMPLED, seeds=[1])

    def test_the_same_question_gets_the_same_answer_in_any_batch(self, engine: Any) -> None:
        prompts = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
        among = engine.sample(PrefixTree.rows(prompts), SAMPLED, num_samples=2)
        assert_same_completions(engine.sample(PrefixTree.rows(prompts[2:]), SAMPLED, num_samples=2), among[2:])
        assert_same_completions(engine.sample(PrefixTree.rows(prompts[::-1]), SAMPLED, num_samples=2), among[::-1])
        assert among[2][0].ids != among[2][1].ids

    @pytest.mark.parametrize("suffix", [(), (21,), (21, 22, 23)])
    def test_a_stop_ends_a_completion_and_is_not_in_its_text(
        self, engine: Any, backbone: Backbone, suffix: tuple[int, ...]
    ) -> None:
        (free,) = engine.sample(PrefixTree.rows([[5, 6, 7, 8]]), GREEDY)[0]
        stop = backbone.tokenizer.decode(list(free.ids[3:5]))
        written = engine.sample(TREE, GREEDY, stop=stop, suffix=suffix)
        (stopped,) = engine.sample(PrefixTree.rows([[5, 6, 7, 8]]), GREEDY, stop=stop, suffix=suffix)[0]
        assert stopped.finish_reason == "closed"
        assert stopped.text == free.text.partition(stop)[0]
        assert free.ids[: len(stopped.ids)] == stopped.ids
        for one in (*chain(*written), stopped):
            assert stop not in one.text
            assert stop not in backbone.tokenizer.decode(list(one.ids_before_stop))

    def test_a_turns_end_ends_a_completion_and_is_left_out(self, engine: Any, backbone: Backbone) -> None:
        prompts = PrefixTree.rows([[5, 6, 7, 8]])
        (free,) = engine.sample(prompts, GREEDY)[0]
        config = backbone.model.generation_config
        config.eos_token_id = end = free.ids[2]
        (stopped,) = engine.sample(prompts, GREEDY)[0]
        assert stopped.finish_reason == "end_of_turn"
        assert stopped.ids == free.ids[: free.ids.index(end) + 1]
        assert stopped.ids_before_stop == stopped.ids[:-1]

    @pytest.mark.parametrize("suffix", [(), (21,), (21, 22, 23)])
    @pytest.mark.parametrize("writer", [BASE, TRAINED])
    def test_the_last_state_is_read_where_the_text_ends_or_not_at_all(
        self, engine: Any, backbone: Backbone, suffix: tuple[int, ...], writer: str
    ) -> None:
        (free,) = engine.sample(PrefixTree.rows([[5, 6, 7, 8]]), GREEDY, writer=writer)[0]
        for stop in (None, backbone.tokenizer.decode(list(free.ids[3:5]))):
            written = engine.sample(TREE, GREEDY, writer=writer, stop=stop, suffix=suffix)
            for prompt, (one,) in zip(TREE.sequences(), written, strict=True):
                if one.last_state is None:
                    continue
                assert one.last_state.dtype == torch.float32
                assert not one.last_state.is_inference(), "it may enter a gradient"
                ids = [*prompt, *one.ids_before_stop, *suffix]
                expected_D = _state(backbone, ids, writer)
                torch.testing.assert_close(one.last_state, expected_D, atol=1e-4, rtol=1e-4)

    def test_the_base_writes_as_if_there_were_no_adapter(self, engine: Any, backbone: Backbone) -> None:
        written = engine.sample(TREE, GREEDY, writer=BASE)
        for prompt, (one,) in zip(TREE.sequences(), written, strict=True):
            with backbone.without_adapter():
                own_NV = log_softmax(_predicting(backbone, prompt, one.ids))
            assert list(one.ids) == own_NV.argmax(dim=1).tolist()
            assert one.own_logprobs == pytest.approx(own_NV.amax(dim=1).tolist(), abs=1e-4)

    def test_the_trained_writer_has_the_adapters_present_weights(self, engine: Any, backbone: Backbone) -> None:
        before = engine.sample(TREE, GREEDY)
        assert_same_completions(engine.sample(TREE, GREEDY, writer=TRAINED), before)
        _shake(adapter_state(backbone), seed=1)
        after = engine.sample(TREE, GREEDY)
        assert [one.logprobs for (one,) in after] != [one.logprobs for (one,) in before]
        for prompt, (one,) in zip(TREE.sequences(), after, strict=True):
            own_NV = log_softmax(_predicting(backbone, prompt, one.ids))
            assert one.own_logprobs == pytest.approx(own_NV.amax(dim=1).tolist(), abs=1e-4)

    def test_a_published_writer_keeps_its_weights(self, engine: Any, backbone: Backbone) -> None:
        adapter = adapter_state(backbone)
        engine.publish(OTHER, adapter)
        before = engine.sample(TREE, SAMPLED, num_samples=2)
        assert_same_completions(engine.sample(TREE, SAMPLED, writer=OTHER, num_samples=2), before)
        _shake(adapter, seed=1)
        kept = {name: weight.clone() for name, weight in adapter.items()}
        assert_same_completions(engine.sample(TREE, SAMPLED, writer=OTHER, num_samples=2), before)
        for name, weight in adapter_state(backbone).items():
            assert torch.equal(weight, kept[name]), "no writer changes the model"
            assert weight.requires_grad

    def test_an_adapter_that_does_not_fit_is_refused(self, engine: Any, backbone: Backbone) -> None:
        adapter = {name: weight.detach() for name, weight in adapter_state(backbone).items()}
        name = next(iter(adapter))
        for wrong in ({}, {**adapter, "more": adapter[name]}, {**adapter, name: adapter[name][:-1]}):
            with refused("does not fit"):
                engine.publish(OTHER, wrong)
        with refused("unknown writer"):
            engine.sample(TREE, GREEDY, writer=OTHER)

    def test_a_name_is_taken_once(self, engine: Any, backbone: Backbone) -> None:
        engine.publish(OTHER, adapter_state(backbone))
        for taken in (BASE, TRAINED, OTHER):
            with refused(taken):
                engine.publish(taken, adapter_state(backbone))

    def test_an_unknown_writer_is_refused(self, engine: Any) -> None:
        with refused("unknown writer 'nobody'"):
            engine.sample(TREE, GREEDY, writer="nobody")

    def test_threads_with_different_writers_get_what_each_gets_alone(self, engine: Any, backbone: Backbone) -> None:
        other = {name: weight.detach().clone() for name, weight in adapter_state(backbone).items()}
        _shake(other, seed=2)
        engine.publish(OTHER, other)
        writers = (BASE, TRAINED, OTHER)
        alone = {writer: engine.sample(TREE, SAMPLED, writer=writer) for writer in writers}
        assert len({tuple(one.logprobs for (one,) in written) for written in alone.values()}) == len(writers)
        together = threading.Barrier(len(writers))

        def ask(writer: str) -> list[list[list[Completion]]]:
            together.wait()
            return [engine.sample(TREE, SAMPLED, writer=writer) for _ in range(_ROUNDS)]

        with ThreadPoolExecutor(len(writers)) as pool:
            for writer, rounds in zip(writers, pool.map(ask, writers), strict=True):
                for written in rounds:
                    assert_same_completions(written, alone[writer])


def _shake(adapter: dict[str, Tensor], seed: int) -> None:
    """Give adapter weights some effect, the same wherever tests run."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter.values():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))


@torch.no_grad()
def _predicting(backbone: Backbone, prompt: Sequence[int], ids: Sequence[int]) -> Float[Tensor, "N V"]:
    """Read prompt and completion in one plain pass and return the logits that predict the completion."""
    states_BTD = hidden_states(backbone, *pad([[*prompt, *ids]], backbone.pad_id))
    return logits(backbone, states_BTD[0, len(prompt) - 1 : -1])


@torch.no_grad()
def _state(backbone: Backbone, ids: Sequence[int], writer: str) -> Float[Tensor, "D"]:
    """Read a sequence in one plain pass and return the state at its end."""
    sequence = pad([ids], backbone.pad_id)
    if writer == TRAINED:
        return hidden_states(backbone, *sequence)[0, -1]
    with backbone.without_adapter():
        return hidden_states(backbone, *sequence)[0, -1]


def _kept(row: Sequence[float], options: GenerationOptions) -> list[int]:
    """Return the tokens that may be drawn: the k likeliest, then the fewest of them that hold top_p."""
    weights = (torch.tensor(row, dtype=torch.float64) / options.temperature).softmax(dim=0).tolist()
    ranked = sorted(range(len(row)), key=lambda token: -row[token])[: options.top_k]
    mass, kept, total = sum(weights[token] for token in ranked), [], 0.0
    for token in ranked:
        kept.append(token)
        total += weights[token] / mass
        if total >= options.top_p:
            break
    return kept
