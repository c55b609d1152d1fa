"""The vLLM engine against its recorded contract.

vLLM does not run where these tests run. `RecordedLLM` below accepts exactly what `vllm_contract.json`
records of vLLM's interface, and answers with tokens that our own sampler draws from the adapter folder it was given.
The last test is the one that meets vLLM itself; it waits for a machine with vLLM and CUDA.
"""

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from thinkrank.errors import ThinkrankError
from thinkrank.language import (
    GenerationOptions,
    PrefixTree,
    TransformersEngine,
    VllmEngine,
    add_lora,
    hidden_states,
    load_backbone,
    pad,
    tiny_backbone,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.language.engines import served as module
from thinkrank.language.engines.transformers import completion_seed, sampling_logprobs
from thinkrank.language.options import LoraOptions
from thinkrank.testing import EngineContract

CONTRACT = json.loads(Path(__file__).with_name("vllm_contract.json").read_text(encoding="utf-8"))
FOREST = PrefixTree.groups([([5, 6, 7, 8], [[9], [10, 11]]), ([12, 13], []), ([14], [[15], [16, 17, 18]])])
SAMPLED = GenerationOptions(max_new_tokens=8, temperature=1.7, top_k=30, top_p=0.9, seed=4)


class SamplingParams:
    def __init__(self, **fields):
        assert fields.keys() <= set(CONTRACT["sampling_params"]["fields"])
        self.sent = fields


class LoRARequest:
    def __init__(self, **fields):
        assert list(fields) == CONTRACT["lora_request"]["fields"]
        assert fields["lora_int_id"] >= 1
        self.__dict__.update(fields)


class RecordedLLM:
    """`vllm.LLM` as far as it is recorded, on a tiny model of its own."""

    def __init__(self, *, max_model_len=4096, logprobs_mode="raw_logprobs", **options):
        assert options.keys() <= set(CONTRACT["engine"]["options"])
        self.options = options
        self.model_config = SimpleNamespace(max_model_len=max_model_len, logprobs_mode=logprobs_mode)
        self.calls = []

    def generate(self, prompts, sampling_params, *, use_tqdm=True, lora_request=None):
        self.calls.append((prompts, sampling_params, lora_request))
        backbone = self._serve(lora_request)
        return [self._answer(backbone, *asked) for asked in zip(prompts, sampling_params, strict=True)]

    def _serve(self, lora_request):
        backbone = fresh_base()
        if lora_request is not None:
            from peft import PeftModel

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                backbone = type(backbone)(
                    PeftModel.from_pretrained(backbone.model, lora_request.lora_path).eval(), backbone.tokenizer, "tiny"
                )
        return backbone

    def _answer(self, backbone, prompt, params):
        assert list(prompt) == CONTRACT["engine"]["prompt"]
        sent = params.sent
        backbone.model.generation_config.eos_token_id = list(sent["stop_token_ids"])
        options = GenerationOptions(
            max_new_tokens=sent["max_tokens"],
            temperature=sent["temperature"],
            top_k=sent["top_k"] or None,
            top_p=sent["top_p"],
            seed=sent["seed"],
        )
        stop = sent["stop"][0] if sent["stop"] else None
        prompts = PrefixTree.rows([prompt["prompt_token_ids"]])
        ((written,),) = TransformersEngine(backbone).sample(prompts, options, stop=stop)
        reason = {"length": None, "closed": stop, "end_of_turn": written.ids[-1]}[written.finish_reason]
        return answer(written.ids, written.logprobs, "length" if reason is None else "stop", reason)


class Scripted(RecordedLLM):
    """Answers what it is told to."""

    def __init__(self, *answers):
        super().__init__(logprobs_mode="processed_logprobs")
        self.answers = list(answers)

    def _answer(self, backbone, prompt, params):
        return self.answers.pop(0)


def answer(ids, logprobs, finish_reason, stop_reason=None):
    """A `RequestOutput` with one `CompletionOutput`; what we do not read is absent."""
    assert finish_reason in CONTRACT["answer"]["finish_reasons"]
    places = [{token: SimpleNamespace(logprob=logprob)} for token, logprob in zip(ids, logprobs, strict=True)]
    completion = SimpleNamespace(
        token_ids=list(ids), logprobs=places, finish_reason=finish_reason, stop_reason=stop_reason
    )
    return SimpleNamespace(outputs=[completion])


def fresh_base():
    return tiny_backbone(["a small film about trains", "another film"], seed=3)


def teach(backbone, seed):
    """Give the adapter some effect, the same wherever the tests run."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter_state(backbone).values():
            weight.normal_(0, 0.1, generator=generator)


@pytest.fixture(scope="module")
def base():
    return fresh_base()


@pytest.fixture(scope="module")
def adapted():
    backbone = add_lora(fresh_base(), LoraOptions(rank=4))
    teach(backbone, 0)
    return backbone


@pytest.fixture
def vllm(monkeypatch):
    """A module `vllm` that holds the recorded names."""
    names = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    names["vllm"].__dict__.update(LLM=RecordedLLM, SamplingParams=SamplingParams)
    names["vllm.lora.request"].__dict__.update(LoRARequest=LoRARequest)
    for name, stand_in in names.items():
        monkeypatch.setitem(sys.modules, name, stand_in)


@pytest.fixture
def served(vllm, tmp_path):
    """Start a sampler on the stand-in."""

    def start(backbone, engine=None, **options):
        engine = engine or RecordedLLM(logprobs_mode="processed_logprobs", **options)
        return VllmEngine(backbone, folder=tmp_path / "adapters", engine=engine)

    return start


class TestContract(EngineContract):
    @pytest.fixture
    def engine(self, backbone, served):
        return served(backbone)


def flat(written):
    return [completion for samples in written for completion in samples]


def assert_same(actual, expected):
    """All that does not depend on the clock."""
    for one, other in zip(flat(actual), flat(expected), strict=True):
        assert (one.ids, one.text, one.finish_reason) == (other.ids, other.text, other.finish_reason)
        assert one.ids_before_stop == other.ids_before_stop
        for numbers in ("logprobs", "own_logprobs", "entropies"):
            assert getattr(one, numbers) == pytest.approx(getattr(other, numbers), abs=1e-5)
        torch.testing.assert_close(one.last_state, other.last_state, atol=1e-4, rtol=1e-4)


def assert_ends_read(backbone, prompts, written, suffix):
    """Each `last_state` is that of one plain pass over the prompt, the ids before the stop and the suffix."""
    for prompt, samples in zip(prompts.sequences(), written, strict=True):
        for one in samples:
            with torch.no_grad():
                states = hidden_states(backbone, *pad([[*prompt, *one.ids_before_stop, *suffix]], 0))
            torch.testing.assert_close(one.last_state, states[0, -1], atol=1e-4, rtol=1e-4)


def test_greedy_completions_are_those_of_the_reference_engine(served, adapted):
    options = GenerationOptions(max_new_tokens=6)
    assert_same(served(adapted).sample(FOREST, options), TransformersEngine(adapted).sample(FOREST, options))


@pytest.mark.parametrize("suffix", [(), (20, 21)])
@pytest.mark.parametrize("num_tokens", [1, 2, 3])
def test_a_stop_ends_where_the_reference_engine_ends_it(served, adapted, num_tokens, suffix):
    prompts = PrefixTree.rows([token, 6] for token in range(5, 17))
    options = GenerationOptions(max_new_tokens=8)
    reference = TransformersEngine(adapted)
    free = [one.ids for one in flat(reference.sample(prompts, options))]
    parts = (adapted.tokenizer.decode(ids[i : i + num_tokens]) for ids in free for i in range(9 - num_tokens))
    stop = next(text for text in parts if text.isascii())
    stopped = served(adapted).sample(prompts, options, stop=stop, suffix=suffix)
    assert "closed" in {one.finish_reason for one in flat(stopped)}
    expected = reference.sample(prompts, options, stop=stop, suffix=suffix)
    assert_same(stopped, expected)
    assert_ends_read(adapted, prompts, stopped, suffix)
    assert_ends_read(adapted, prompts, expected, suffix)


@pytest.mark.parametrize("suffix", [(), (20,)])
def test_a_turn_ends_where_the_reference_engine_ends_it(served, suffix):
    backbone = fresh_base()
    reference = TransformersEngine(backbone)
    options = GenerationOptions(max_new_tokens=10)
    free = flat(reference.sample(FOREST, options))[0]
    for end in (free.ids[0], free.ids[3]):
        backbone.model.generation_config.eos_token_id = end
        stopped = served(backbone).sample(FOREST, options, suffix=suffix)
        assert stopped[0][0].finish_reason == "end_of_turn"
        assert_same(stopped, reference.sample(FOREST, options, suffix=suffix))


def test_tokens_behind_the_stop_are_dropped(served, base):
    ids = [20, 21, 22, 23, 24]
    stop = base.tokenizer.decode(ids[2:3])
    late = answer(ids, [-1.0, -2.0, -3.0, -4.0, -5.0], "stop", stop)
    ((one,),) = served(base, Scripted(late)).sample(
        PrefixTree.rows([[5]]), GenerationOptions(max_new_tokens=9), stop=stop
    )
    assert one.ids == (20, 21, 22)
    assert one.logprobs == (-1.0, -2.0, -3.0)
    assert one.ids_before_stop == (20, 21)
    assert len(one.own_logprobs) == len(one.entropies) == 3


def test_a_turns_end_counts_before_the_stop_its_text_completes(served, base):
    (end,) = base.end_of_turn_ids
    stop = base.tokenizer.decode([end])
    told = answer([20, end], [-1.0, -2.0], "stop", stop)
    ((one,),) = served(base, Scripted(told)).sample(PrefixTree.rows([[5]]), GenerationOptions(), stop=stop)
    assert one.finish_reason == "end_of_turn"
    assert one.ids_before_stop == (20,)


def test_a_text_cut_by_its_budget_says_length(served, base):
    told = answer([20, 21], [-1.0, -2.0], "length")
    ((one,),) = served(base, Scripted(told)).sample(PrefixTree.rows([[5]]), GenerationOptions(max_new_tokens=2))
    assert one.finish_reason == "length"
    assert one.ids_before_stop == one.ids == (20, 21)


@pytest.mark.parametrize("reason", ["abort", "error", "repetition"])
def test_a_completion_that_was_given_up_is_no_completion(served, base, reason):
    with pytest.raises(ThinkrankError, match=f"gave a completion up \\({reason}\\)"):
        served(base, Scripted(answer([20], [-1.0], reason))).sample(PrefixTree.rows([[5]]), GenerationOptions())


def test_a_stop_that_the_tokens_do_not_show_is_an_error(served, base):
    told = answer([20, 21], [-1.0, -2.0], "stop", "</think>")
    with pytest.raises(ThinkrankError, match="hold no such end"):
        served(base, Scripted(told)).sample(PrefixTree.rows([[5]]), GenerationOptions(), stop="</think>")


def test_every_field_that_decides_what_is_written_is_sent(served, base):
    sampler = served(base)
    sampler.sample(FOREST, GenerationOptions(max_new_tokens=2))
    ((_, params, _),) = sampler.engine.calls
    recorded = CONTRACT["sampling_params"]
    assert params[0].sent.keys() == set(recorded["fields"]) - set(recorded["about_transport"])


def test_a_request_is_the_recorded_one(served, base):
    sampler = served(base)
    options = GenerationOptions(max_new_tokens=16, temperature=0.7, top_k=20, top_p=0.9, seed=1)
    sampler.sample(PrefixTree.rows([[5, 6, 7]]), options, stop="</think>", seeds=[12])
    (((prompt,), (params,), lora_request),) = sampler.engine.calls
    assert prompt == CONTRACT["example"]["prompt"]
    assert params.sent == CONTRACT["example"]["sampling_params"]
    assert lora_request is None


def test_a_model_config_with_penalties_and_temperature_is_not_heard(served):
    backbone = fresh_base()
    config = backbone.model.generation_config
    config.repetition_penalty, config.temperature, config.max_new_tokens = 5.0, 9.0, 1
    sampler = served(backbone)
    sampler.sample(FOREST, GenerationOptions(max_new_tokens=2))
    ((_, params, _),) = sampler.engine.calls
    assert [params[0].sent[name] for name in ("repetition_penalty", "temperature", "max_tokens")] == [1.0, 0.0, 2]


def test_each_completion_has_its_own_seed_whatever_else_is_written(served, base):
    def seeds_of(prompts, **more):
        sampler = served(base)
        sampler.sample(prompts, SAMPLED, num_samples=2, **more)
        return [params.sent["seed"] for params in sampler.engine.calls[0][1]]

    both = seeds_of(PrefixTree.rows([[5, 6], [7]]), seeds=[31, 32])
    assert len(set(both)) == 4
    assert both[2:] == seeds_of(PrefixTree.rows([[7]]), seeds=[32])
    assert both == [completion_seed(SAMPLED, leaf, number) for leaf in (31, 32) for number in (0, 1)]


def test_prompts_are_sent_whole_and_in_order(served, base):
    sampler = served(base)
    sampler.sample(FOREST, GenerationOptions(max_new_tokens=1), num_samples=2)
    ((prompts, _, _),) = sampler.engine.calls
    expected = [list(sequence) for sequence in FOREST.sequences() for _ in range(2)]
    assert [prompt["prompt_token_ids"] for prompt in prompts] == expected


def test_an_adapter_is_written_once_until_its_weights_change(served, tmp_path):
    from safetensors.torch import load_file

    backbone = add_lora(fresh_base(), LoraOptions(rank=4))
    sampler = served(backbone)
    options = GenerationOptions(max_new_tokens=3)
    requests = []
    for seed in (None, None, 1, 1):
        if seed is not None:
            teach(backbone, seed)
        assert_same(sampler.sample(FOREST, options), TransformersEngine(backbone).sample(FOREST, options))
        requests.append(sampler.engine.calls[-1][2])
        (folder,) = (tmp_path / "adapters").iterdir()
        assert Path(requests[-1].lora_path) == folder
        assert set(CONTRACT["lora_request"]["files"]) <= {file.name for file in folder.iterdir()}
        on_disk = load_file(folder / "adapter_model.safetensors")
        for name, weight in adapter_state(backbone).items():
            assert torch.equal(on_disk[name.replace(".default.", ".")], weight)
    assert requests[0] is requests[1]
    assert requests[2] is requests[3]
    for field in CONTRACT["lora_request"]["fields"]:
        assert getattr(requests[1], field) != getattr(requests[2], field)


def test_two_samplers_never_name_an_adapter_alike(served, adapted):
    options = GenerationOptions(max_new_tokens=1)
    requests = []
    for sampler in (served(adapted), served(adapted)):
        sampler.sample(FOREST, options)
        requests.append(sampler.engine.calls[0][2])
    assert requests[0].lora_int_id != requests[1].lora_int_id
    assert requests[0].lora_name != requests[1].lora_name


def test_without_its_adapter_the_base_alone_is_asked(served, adapted):
    sampler = served(adapted)
    options = GenerationOptions(max_new_tokens=3)
    expected = TransformersEngine(adapted).sample(FOREST, options, writer="base")
    assert_same(sampler.sample(FOREST, options, writer="base"), expected)
    assert sampler.engine.calls[0][2] is None
    sampler.sample(FOREST, options)
    assert sampler.engine.calls[1][2] is not None


def test_reading_in_many_passes_changes_nothing(served, adapted, monkeypatch):
    whole = served(adapted).sample(FOREST, SAMPLED, num_samples=3, suffix=(20,))
    monkeypatch.setattr(module, "_PASS_TOKENS", 25)
    assert_same(served(adapted).sample(FOREST, SAMPLED, num_samples=3, suffix=(20,)), whole)


def test_the_last_state_may_enter_a_gradient(served, base):
    ((one,),) = served(base).sample(PrefixTree.rows([[5, 6]]), GenerationOptions(max_new_tokens=2))
    weight = torch.ones(base.hidden_size, requires_grad=True)
    (one.last_state @ weight).backward()
    assert torch.equal(weight.grad, one.last_state)


def test_no_prompts_and_no_samples_ask_for_nothing(served, base):
    sampler = served(base)
    assert sampler.sample(PrefixTree.rows([]), GenerationOptions()) == []
    assert sampler.sample(PrefixTree.rows([[5], [6]]), GenerationOptions(), num_samples=0) == [[], []]
    assert not sampler.engine.calls


@pytest.mark.parametrize("temperature", [0.001, 2.5])
def test_a_temperature_that_vllm_would_change_is_refused(served, base, temperature):
    low, high = CONTRACT["sampling_params"]["temperatures"]
    with pytest.raises(ThinkrankError, match=f"from {low:g} to {high:g}"):
        served(base).sample(FOREST, GenerationOptions(temperature=temperature))


def test_a_budget_that_vllm_would_cut_is_refused(served, base):
    with pytest.raises(ThinkrankError, match="6 tokens with 8 new ones does not fit into the 13"):
        served(base, max_model_len=13).sample(PrefixTree.rows([[5], [5] * 6]), GenerationOptions(max_new_tokens=8))


def test_items_as_tokens_are_refused(served, base):
    item = base.model.config.vocab_size + 3
    with pytest.raises(ThinkrankError, match="no items as tokens"):
        served(base).sample(PrefixTree.rows([[5, item]]), GenerationOptions(max_new_tokens=8))


def test_an_engine_that_reports_other_log_probabilities_is_refused(served, base):
    with pytest.raises(ThinkrankError, match="raw_logprobs"):
        served(base, RecordedLLM())


def test_the_engine_is_started_with_what_the_promises_rest_on(vllm, base, tmp_path):
    sampler = VllmEngine(base, folder=tmp_path, model="some/model", gpu_memory_utilization=0.4)
    assert sampler.engine.model_config.logprobs_mode == "processed_logprobs"
    assert sampler.engine.options == {
        "model": "some/model",
        "tokenizer": "some/model",
        "dtype": "float32",
        "seed": 0,
        "gpu_memory_utilization": 0.4,
        "generation_config": "vllm",
        "enable_prefix_caching": True,
        "trust_remote_code": False,
        "enable_lora": False,
    }


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (4, 8), (33, 64)])
def test_the_engine_is_started_for_the_rank_of_the_adapter(vllm, tmp_path, rank, allowed):
    backbone = add_lora(fresh_base(), LoraOptions(rank=rank))
    options = VllmEngine(backbone, folder=tmp_path, model="some/model", dtype="bfloat16").engine.options
    assert options["enable_lora"]
    assert options["max_lora_rank"] == allowed
    assert allowed in CONTRACT["engine"]["max_lora_rank"]
    assert options["dtype"] in CONTRACT["engine"]["adapter_dtypes"]


def test_a_model_is_served_from_the_folder_it_was_loaded_from(vllm, base, tmp_path):
    base.model.save_pretrained(tmp_path / "model")
    base.tokenizer.save_pretrained(tmp_path / "model")
    loaded = load_backbone(str(tmp_path / "model"), dtype="bfloat16", device="cpu")
    for backbone in (loaded, add_lora(loaded, LoraOptions(rank=2))):
        options = VllmEngine(backbone, folder=tmp_path).engine.options
        assert options["model"] == options["tokenizer"] == str(tmp_path / "model")
        assert options["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "from a folder or the hub"),
        ({"model": "some/model", "logprobs_mode": "raw_logprobs"}, "sets logprobs_mode itself"),
        ({"engine": object(), "dtype": "bfloat16"}, "takes no more options: dtype"),
    ],
)
def test_an_engine_that_could_not_keep_them_is_not_started(vllm, base, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        VllmEngine(base, folder=tmp_path, **options)


def test_an_adapter_on_a_32_bit_model_is_refused(vllm, adapted, tmp_path):
    with pytest.raises(ThinkrankError, match="dtype='bfloat16'"):
        VllmEngine(adapted, folder=tmp_path, model="some/model")


def test_a_base_that_learns_is_refused(served):
    backbone = fresh_base()
    backbone.model.requires_grad_(True)
    with pytest.raises(ThinkrankError, match="freeze the base"):
        served(backbone)


def test_a_machine_without_vllm_is_told_the_extra(base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ThinkrankError, match=r"pip install 'thinkrank\[vllm\]'"):
        VllmEngine(base, folder=tmp_path)


@pytest.mark.weights
@pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None or not torch.cuda.is_available(),
    reason="vLLM itself is not run here: it needs the vllm extra and a CUDA device",
)
@pytest.mark.parametrize("options", [SAMPLED, GenerationOptions(max_new_tokens=32)], ids=["sampled", "greedy"])
def test_vllm_itself_samples_what_the_trainer_scores(tmp_path, options):
    backbone = add_lora(load_backbone("smollm2", dtype="bfloat16", device="cuda"), LoraOptions(rank=8))
    with torch.no_grad():
        for name, weight in adapter_state(backbone).items():
            if "lora_B" in name:
                weight.normal_(0, 0.01)
    sampler = VllmEngine(backbone, folder=tmp_path, gpu_memory_utilization=0.4, max_model_len=512)
    prompts = PrefixTree.groups([(backbone.tokenizer("A film about trains that")["input_ids"], [[28], [284]])])
    for _ in range(2):
        off = []
        for prompt, samples in zip(
            prompts.sequences(), sampler.sample(prompts, options, num_samples=4, stop="."), strict=True
        ):
            for one in samples:
                with torch.no_grad(), backbone.precision():
                    ids = torch.tensor([[*prompt, *one.ids]], device=backbone.device)
                    logits = backbone.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
                chosen = torch.tensor(one.ids, device=backbone.device)[:, None]
                expected = sampling_logprobs(logits, options).gather(1, chosen)[:, 0].cpu()
                known = expected.isfinite()  # a token at the rim of a cut may fall on its other side
                off += (torch.tensor(one.logprobs) - expected)[known].abs().tolist()
                assert known.float().mean() > 0.95
        assert sum(off) / len(off) < 0.02
        with torch.no_grad():
            for weight in adapter_state(backbone).values():
                weight.mul_(1.5)
