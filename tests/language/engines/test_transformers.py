import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
import torch
from transformers import TopPLogitsWarper

from thinkrank.errors import ThinkrankError
from thinkrank.language import (
    GenerationOptions,
    LoraOptions,
    Packing,
    PrefixCache,
    PrefixTree,
    TransformersEngine,
    add_lora,
    load_backbone,
    packed_states,
    selective_logprobs,
    tiny_backbone,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.language.engines.kv_cache import KVCache
from thinkrank.language.engines.transformers import _uniforms, choose, sampling_logprobs
from thinkrank.testing import EngineContract


class TestContract(EngineContract):
    @pytest.fixture(params=[0, 1000], ids=["nothing kept", "prefixes kept"])
    def engine(self, backbone, request):
        return TransformersEngine(backbone, PrefixCache(backbone, request.param) if request.param else None)


PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16], [17]]


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(["a small film about trains", "another film"], seed=3)


def generate(backbone, prompts, options, **more):
    """One completion per prompt, in order."""
    written = TransformersEngine(backbone).sample(PrefixTree.rows(prompts), options, **more)
    return [completion for (completion,) in written]


def own_logprobs(backbone, prompt, ids):
    """The model's log-probabilities of `ids` after `prompt`, by one plain forward pass."""
    with torch.no_grad():
        logits = backbone.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].double()
    return logits[len(prompt) - 1 : -1]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text"])
def test_greedy_writes_what_transformers_writes(architecture):
    backbone = tiny_backbone(["a film"], architecture=architecture, seed=1)
    written = generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=12))
    for prompt, completion in zip(PROMPTS, written, strict=True):
        expected = backbone.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=backbone.pad_id,
        )[0, len(prompt) :]
        assert list(completion.ids) == expected.tolist()


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


def test_top_p_cuts_where_transformers_cuts_at_the_boundary_too():
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(300, 60, generator=random) * 3
    even = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]).log().repeat(60, 12)  # sums that end on the boundary
    for top_p in (0.25, 0.5, 0.75, 0.875, 0.9):
        for rows in (drawn, even[:, :5], even, torch.zeros(1, 8)):
            kept = sampling_logprobs(rows, GenerationOptions(temperature=1.0, top_p=top_p)) > -torch.inf
            assert torch.equal(kept, TopPLogitsWarper(top_p)(None, rows) > -torch.inf)


def test_the_rarest_tokens_can_be_drawn():
    rare = 1000
    logits = torch.cat([torch.zeros(1), torch.full((rare,), 1e-9).log()])[None].expand(rare, -1)
    draws = (1 + (torch.arange(rare, dtype=torch.float64) + 0.5) * 1e-9) / (1 + 1e-9 * rare)
    chosen, *_ = choose(logits, GenerationOptions(temperature=1.0), draws)
    assert len(set(chosen.tolist())) > 0.9 * rare, "the rest is the rounding of the first token's own probability"
    assert choose(logits[:1], GenerationOptions(temperature=1.0), torch.tensor([1.0]).double())[0].item() == rare
    uniforms = torch.tensor(
        _uniforms(GenerationOptions(max_new_tokens=100, temperature=1.0), 0, 0), dtype=torch.float64
    )
    assert (uniforms * 2**24 % 1 > 0).any(), "24 bits would miss them"


def test_a_model_config_with_penalties_and_temperature_changes_nothing(backbone):
    expected = generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=6))
    config = backbone.model.generation_config
    config.repetition_penalty, config.temperature, config.do_sample = 5.0, 9.0, True
    try:
        actual = generate(backbone, PROMPTS, GenerationOptions(max_new_tokens=6))
    finally:
        config.repetition_penalty, config.temperature, config.do_sample = None, None, None
    assert [w.ids for w in actual] == [w.ids for w in expected]


TREE = PrefixTree.groups([([5, 6, 7, 8, 9, 3], [[1, 2, 3], [4, 5], [6]]), ([11, 12], [[13, 14]]), ([17], [])])
SAMPLED = GenerationOptions(max_new_tokens=9, temperature=1.3, seed=5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3_text"])
def test_what_is_shared_changes_nothing(architecture):
    backbone = tiny_backbone(["a film"], architecture=architecture, seed=1)
    shared = TransformersEngine(backbone).sample(TREE, SAMPLED, num_samples=3)
    alone = TransformersEngine(backbone).sample(PrefixTree.rows(TREE.sequences()), SAMPLED, num_samples=3)
    assert [[c.ids for c in samples] for samples in shared] == [[c.ids for c in samples] for samples in alone]
    assert len({c.ids for samples in shared for c in samples}) > 10, "every completion has draws of its own"
    for ours, theirs in zip(chain(*shared), chain(*alone), strict=True):
        torch.testing.assert_close(torch.tensor(ours.logprobs), torch.tensor(theirs.logprobs), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.last_state, theirs.last_state, atol=1e-5, rtol=1e-5)


def test_a_window_shorter_than_the_prompt_hides_its_beginning():
    backbone = tiny_backbone(["a film"], architecture="gemma3_text", seed=1, sliding_window=4)
    forest = PrefixTree.groups([(list(range(30, 50)), [[1, 2, 3], list(range(60, 68))])])
    for leaf, (written,) in zip(
        forest.leaves, TransformersEngine(backbone).sample(forest, GenerationOptions(max_new_tokens=8)), strict=True
    ):
        prompt = list(forest.sequence(leaf))
        logprobs = own_logprobs(backbone, prompt, written.ids).log_softmax(-1)
        assert list(written.ids) == logprobs.argmax(-1).tolist()
        chosen = logprobs.gather(1, torch.tensor(written.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(written.logprobs).double(), chosen, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1000), (3, 1000), (64, 60), (64, 33)])
def test_company_and_memory_change_no_completion(backbone, rows, tokens):
    free = TransformersEngine(backbone).sample(TREE, SAMPLED, num_samples=4)
    gib = tokens * 2 * 2 * 2 * 16 * 4 / 2**30  # layers, keys and values, heads, width, bytes
    tight = SAMPLED.model_copy(update={"batch_size": rows, "kv_gib": gib})
    bound = TransformersEngine(backbone).sample(TREE, tight, num_samples=4)
    assert [[c.ids for c in samples] for samples in bound] == [[c.ids for c in samples] for samples in free]


def test_memory_is_never_above_its_limit(backbone, monkeypatch):
    held = []
    rebuild = KVCache.rebuild

    def watched(memory, kept, joining):
        states = rebuild(memory, kept, joining)
        levels = [level for side in memory.sides for level in side.levels]
        pairs = [*memory.own, *(pair for level in levels for pair in level.layers.values())]
        tensors = [tensor for pair in pairs for tensor in pair]
        held.append(sum(t.numel() * t.itemsize for t in tensors) / memory.limit)
        return states

    monkeypatch.setattr(KVCache, "rebuild", watched)
    options = SAMPLED.model_copy(update={"kv_gib": 70 * 256 / 2**30})
    TransformersEngine(backbone).sample(TREE, options, num_samples=4)
    assert 0.5 < max(held) <= 1
    assert len(held) > 3


def test_a_prompt_that_fits_no_memory_is_refused(backbone):
    with pytest.raises(ThinkrankError, match=r"a prompt of 3 tokens with 9 new ones .* raise kv_gib"):
        TransformersEngine(backbone).sample(PrefixTree.rows([[1, 2, 3]]), SAMPLED.model_copy(update={"kv_gib": 1e-7}))


def last_state(backbone, ids):
    with torch.no_grad():
        return backbone.trunk()(input_ids=torch.tensor([list(ids)])).last_hidden_state[0, -1]


@pytest.mark.parametrize("suffix", [(), (21,), (21, 22), (21, 22, 23)])
def test_the_last_state_is_read_where_the_text_ends(backbone, suffix):
    options = GenerationOptions(max_new_tokens=10)
    free = generate(backbone, PROMPTS, options)
    endings = {"length": {}, "closed": {"stop": backbone.tokenizer.decode(free[0].ids[3:6])}}
    for reason, more in endings.items():
        written = generate(backbone, PROMPTS, options, suffix=suffix, **more)
        assert written[0].finish_reason == reason
        for prompt, completion in zip(PROMPTS, written, strict=True):
            expected = last_state(backbone, [*prompt, *completion.ids_before_stop, *suffix])
            torch.testing.assert_close(completion.last_state, expected, atol=1e-5, rtol=1e-5)
    backbone.model.generation_config.eos_token_id = [free[0].ids[0], free[1].ids[4]]
    try:
        written = generate(backbone, PROMPTS, options, suffix=suffix)
    finally:
        backbone.model.generation_config.eos_token_id = backbone.tokenizer.eos_token_id
    assert written[0].finish_reason == "end_of_turn"
    assert written[0].ids_before_stop == ()
    for prompt, completion in zip(PROMPTS, written, strict=True):
        expected = last_state(backbone, [*prompt, *completion.ids_before_stop, *suffix])
        torch.testing.assert_close(completion.last_state, expected, atol=1e-5, rtol=1e-5)


def test_the_last_state_may_enter_a_gradient(backbone):
    state = generate(backbone, PROMPTS[:1], GenerationOptions(max_new_tokens=2))[0].last_state
    weight = torch.ones(64, requires_grad=True)
    (weight * state).sum().backward()
    torch.testing.assert_close(weight.grad, state)


def test_the_sampler_and_the_trainer_see_the_same_adapter():
    backbone = add_lora(tiny_backbone(["a film"], seed=3), LoraOptions(rank=4))
    base = {name: p.clone() for name, p in backbone.model.named_parameters() if "lora_" not in name}
    random = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(2):
        written = TransformersEngine(backbone).sample(TREE, SAMPLED, num_samples=2)
        forest = TREE.grow([[c.ids for c in samples] for samples in written])
        packing = Packing(forest)
        scores = selective_logprobs(
            backbone,
            packed_states(backbone, packing)[packing.predictors(forest.leaves)],
            packing.ids_T[packing.tokens(forest.leaves)],
            entropy=True,
        )
        ours = torch.tensor([x for samples in written for c in samples for x in c.own_logprobs])
        torch.testing.assert_close(ours, scores.logprobs_N.detach(), atol=1e-5, rtol=1e-5)
        entropies = torch.tensor([x for samples in written for c in samples for x in c.entropies])
        torch.testing.assert_close(entropies, scores.entropies_N.detach(), atol=1e-5, rtol=1e-5)
        seen.append(written[0][0].own_logprobs[0])
        with torch.no_grad():
            for weight in adapter_state(backbone).values():
                weight.add_(0.2 * torch.randn(weight.shape, generator=random))
    assert seen[0] != seen[1]
    for name, p in backbone.model.named_parameters():
        assert "lora_" in name or torch.equal(p, base[name]), "the base is never merged into"


def test_a_thread_that_trains_is_not_disturbed_by_threads_that_ask():
    backbone = add_lora(tiny_backbone(["a film"], seed=3), LoraOptions(rank=4))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in adapter_state(backbone).values():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=random))
    engine, packing = TransformersEngine(backbone), Packing(TREE)
    other = {name: -weight.detach() for name, weight in adapter_state(backbone).items()}
    engine.publish("other", other)

    def gradients():
        loss = packed_states(backbone, packing).square().mean()
        return torch.autograd.grad(loss, list(adapter_state(backbone).values()))

    alone = gradients()
    expected = [engine.sample(TREE, SAMPLED, writer=writer)[0][0].logprobs for writer in ("base", "other")]
    over = threading.Event()

    def ask():
        answers = []
        while not over.is_set():
            answers.append([engine.sample(TREE, SAMPLED, writer=w)[0][0].logprobs for w in ("base", "other")])
        return answers

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        for _ in range(20):
            for ours, theirs in zip(gradients(), alone, strict=True):
                assert torch.equal(ours, theirs)
        over.set()
        answers = [answer for future in asking for answer in future.result()]
    assert len(answers) >= 2
    assert all(answer == expected for answer in answers)


@pytest.mark.weights
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.6)])
def test_smollm2_samples_what_it_is_trained_as(dtype, tolerance):
    backbone = add_lora(load_backbone("smollm2", dtype=dtype), LoraOptions(rank=4))
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapter_state(backbone).values():
            weight.normal_(std=0.02, generator=random)
    prompt = backbone.tokenizer("Seen: Alien, Heat, Fargo. In one sentence, what does this person like?")["input_ids"]
    forest = PrefixTree.groups([(prompt[:12], [prompt[12:], prompt[12:-3]])])
    written = TransformersEngine(backbone).sample(
        forest, GenerationOptions(max_new_tokens=12, temperature=1.0), num_samples=3
    )
    grown = forest.grow([[c.ids for c in samples] for samples in written])
    packing = Packing(grown)
    with torch.no_grad():
        scores = selective_logprobs(
            backbone,
            packed_states(backbone, packing)[packing.predictors(grown.leaves)],
            packing.ids_T[packing.tokens(grown.leaves)],
        )
    ours = torch.tensor([x for samples in written for c in samples for x in c.own_logprobs])
    assert (ours - scores.logprobs_N).abs().mean() < tolerance / 3
    assert (ours - scores.logprobs_N).abs().max() < tolerance
