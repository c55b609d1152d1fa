import pytest
import torch

from thinkrank.language import Forest, GenerationOptions, TransformersSampler, add_lora, tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.options import LoraOptions
from thinkrank.language.sampling import sampling_logprobs

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16], [17]]


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(["a small film about trains", "another film"], seed=3)


def generate(backbone, prompts, options, **more):
    """One continuation per prompt, in order."""
    written = TransformersSampler(backbone).sample(Forest.rows(prompts), options, **more)
    return [continuation for (continuation,) in written]


def own_logprobs(backbone, prompt, ids):
    """The model's log-probabilities of `ids` after `prompt`, by one plain forward pass."""
    with torch.no_grad():
        logits = backbone.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].double()
    return logits[len(prompt) - 1 : -1]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text"])
def test_greedy_writes_what_transformers_writes(architecture):
    backbone = tiny_backbone(["a film"], architecture=architecture, seed=1)
    written = generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=12))
    for prompt, continuation in zip(PROMPTS, written, strict=True):
        expected = backbone.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=backbone.pad_id,
        )[0, len(prompt) :]
        assert list(continuation.ids) == expected.tolist()


def test_logprobs_and_entropies_are_those_of_the_model(backbone):
    for prompt, written in zip(PROMPTS, generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=8)), strict=True):
        logprobs = own_logprobs(backbone, prompt, written.ids).log_softmax(-1)
        chosen = logprobs.gather(1, torch.tensor(written.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(written.logprobs).double(), chosen, atol=1e-5, rtol=1e-5)
        entropies = -(logprobs.exp() * logprobs).sum(-1)
        torch.testing.assert_close(torch.tensor(written.entropies).double(), entropies, atol=1e-5, rtol=1e-5)


def test_sampled_logprobs_are_under_the_cut_and_tempered_distribution(backbone):
    options = GenerationOptions(max_new_tokens=8, temperature=1.7, top_k=9, top_p=0.8, seed=4)
    for prompt, written in zip(PROMPTS, generate(backbone, PROMPTS, options), strict=True):
        for row, token, logprob in zip(
            own_logprobs(backbone, prompt, written.ids), written.ids, written.logprobs, strict=True
        ):
            probabilities = (row / 1.7).softmax(-1)
            kept, total = [], 0.0
            ranked = sorted(range(len(row)), key=lambda i: -row[i])[:9]
            mass = sum(probabilities[i] for i in ranked)
            for i in ranked:
                kept.append(i)
                total += probabilities[i] / mass
                if total >= 0.8:
                    break
            assert token in kept
            expected = (probabilities[token] / sum(probabilities[i] for i in kept)).log()
            assert logprob == pytest.approx(expected.item(), abs=1e-4)


def test_the_sampling_distribution_sums_to_one_and_cuts_by_rank():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    kept = sampling_logprobs(logits, GenerationOptions(temperature=0.5, top_k=2)).exp()
    assert kept.sum().item() == pytest.approx(1.0)
    assert (kept > 0).tolist() == [[True, True, False, False]]
    nucleus = sampling_logprobs(logits, GenerationOptions(temperature=1.0, top_p=0.5)).exp()
    assert nucleus.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_samples_follow_the_distribution(backbone):
    options = GenerationOptions(max_new_tokens=1, temperature=1.5, top_k=4, batch_size=400, seed=0)
    drawn = [written.ids[0] for written in generate(backbone, [PROMPTS[0]] * 400, options)]
    expected = sampling_logprobs(own_logprobs(backbone, PROMPTS[0], [0]).float(), options).exp()[0]
    for token in expected.nonzero()[:, 0].tolist():
        share = drawn.count(token) / 400
        assert abs(share - expected[token].item()) < 4 * (expected[token].item() / 400) ** 0.5


def test_the_same_seed_draws_the_same_text(backbone):
    options = GenerationOptions(max_new_tokens=6, temperature=1.5, seed=7)
    first, second = (generate(backbone, PROMPTS, options) for _ in range(2))
    assert [w.ids for w in first] == [w.ids for w in second]
    other = generate(backbone, PROMPTS, options.model_copy(update={"seed": 8}))
    assert [w.ids for w in first] != [w.ids for w in other]


def test_the_closing_ends_a_continuation_and_is_not_part_of_its_text(backbone):
    free = generate(backbone, PROMPTS[:1], GenerationOptions(max_new_tokens=10))[0]
    whole = backbone.tokenizer.decode(free.ids)
    closing = backbone.tokenizer.decode(free.ids[3:5])
    stopped = generate(backbone, PROMPTS[:1], GenerationOptions(max_new_tokens=10), closing=closing)[0]
    assert stopped.finish_reason == "closed"
    assert stopped.text == whole.partition(closing)[0]
    assert closing not in stopped.text
    assert free.ids[: len(stopped.ids)] == stopped.ids
    assert backbone.tokenizer.decode(stopped.ids_before_stop) == stopped.text


def test_a_turns_end_stops_and_is_left_out_of_the_thought(backbone):
    free = generate(backbone, PROMPTS[:1], GenerationOptions(max_new_tokens=10))[0]
    backbone.model.generation_config.eos_token_id = free.ids[2]
    try:
        stopped = generate(backbone, PROMPTS[:1], GenerationOptions(max_new_tokens=10))[0]
    finally:
        backbone.model.generation_config.eos_token_id = backbone.tokenizer.eos_token_id
    assert stopped.finish_reason == "end_of_turn"
    end = free.ids.index(free.ids[2])
    assert stopped.ids == free.ids[: end + 1]
    assert stopped.ids_before_stop == free.ids[:end]


def test_a_model_config_with_penalties_and_temperature_changes_nothing(backbone):
    expected = generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=6))
    config = backbone.model.generation_config
    config.repetition_penalty, config.temperature, config.do_sample = 5.0, 9.0, True
    try:
        actual = generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=6))
    finally:
        config.repetition_penalty, config.temperature, config.do_sample = None, None, None
    assert [w.ids for w in actual] == [w.ids for w in expected]


def test_the_sampler_feels_the_adapter():
    backbone = add_lora(tiny_backbone(["a film"], seed=3), LoraOptions(rank=4))
    before = generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=1))
    with torch.no_grad():
        for name, weight in adapter_state(backbone).items():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(0))
    after = generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=1))
    for prompt, written in zip(PROMPTS, after, strict=True):
        expected = own_logprobs(backbone, prompt, written.ids).log_softmax(-1)[0, written.ids[0]]
        assert written.logprobs[0] == pytest.approx(expected.item(), abs=1e-5)
    assert [w.logprobs for w in before] != [w.logprobs for w in after]
