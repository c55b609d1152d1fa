"""The SGLang engine against its recorded contract.

SGLang does not run where these tests run. `RecordedEngine` below accepts exactly what `sglang_contract.json` records of
its interface, and answers with tokens that our own sampler draws from the adapter folder it was given.
"""

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
    SglangEngine,
    TransformersEngine,
    add_lora,
    hidden_states,
    pad,
    tiny_backbone,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.language.engines.served import drawn_logprobs
from thinkrank.language.engines.transformers import completion_seed
from thinkrank.language.options import LoraOptions
from thinkrank.testing import EngineContract
from thinkrank.testing.engine import GREEDY, SAMPLED

CONTRACT = json.loads(Path(__file__).with_name("sglang_contract.json").read_text(encoding="utf-8"))
FOREST = PrefixTree.groups([([5, 6, 7, 8], [[9], [10, 11]]), ([12, 13], []), ([14], [[15], [16, 17, 18]])])
CUTS = [
    GenerationOptions(max_new_tokens=8, temperature=1.7, top_k=9, seed=4),
    GenerationOptions(max_new_tokens=8, temperature=1.7, top_p=0.8, seed=4),
]


class RecordedEngine:
    """`sglang.Engine` as far as it is recorded, on a tiny model of its own."""

    def __init__(self, *, context_length=4096, **options):
        assert options.keys() <= set(CONTRACT["engine"]["options"])
        self.options = options
        self.tokenizer_manager = SimpleNamespace(context_len=context_length)
        self.loaded = {}
        self.calls = []
        self.fault = ""

    def load_lora_adapter(self, lora_name, lora_path, pinned=False):
        assert set(CONTRACT["adapter"]["files"]) <= {file.name for file in Path(lora_path).iterdir()}
        assert lora_name not in self.loaded
        self.loaded[lora_name] = self._read(lora_path)  # the folder may go once it is loaded
        return SimpleNamespace(success=not self.fault, error_message=self.fault, loaded_adapters=None)

    def unload_lora_adapter(self, lora_name):
        del self.loaded[lora_name]
        return SimpleNamespace(success=True, error_message=None, loaded_adapters=None)

    def _read(self, path):
        from peft import PeftModel

        base = fresh_base()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return type(base)(PeftModel.from_pretrained(base.model, path).eval(), base.tokenizer, "tiny")

    def generate(self, *, input_ids, sampling_params, lora_path=None):
        self.calls.append((input_ids, sampling_params, lora_path))
        names = lora_path or [None] * len(input_ids)
        return [self._answer(*asked) for asked in zip(input_ids, sampling_params, names, strict=True)]

    def _answer(self, ids, sent, name):
        assert sent.keys() == set(CONTRACT["sampling_params"]["fields"])
        backbone = fresh_base() if name is None else self.loaded[name]
        backbone.model.generation_config.eos_token_id = list(sent["stop_token_ids"])
        options = GenerationOptions(
            max_new_tokens=sent["max_new_tokens"],
            temperature=sent["temperature"],
            top_k=None if sent["top_k"] == CONTRACT["sampling_params"]["whole_vocabulary"] else sent["top_k"],
            top_p=sent["top_p"],
            seed=sent["sampling_seed"],
        )
        stop = sent["stop"][0] if sent["stop"] else None
        ((written,),) = TransformersEngine(backbone).sample(PrefixTree.rows([ids]), options, stop=stop)
        if written.finish_reason == "length":
            return answer(written.ids, {"type": "length", "length": len(written.ids)})
        matched = stop if written.finish_reason == "closed" else written.ids[-1]
        return answer(written.ids, {"type": "stop", "matched": matched})


class Scripted(RecordedEngine):
    """Answers what it is told to."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)

    def _answer(self, ids, sent, name):
        return self.answers.pop(0)


def answer(ids, finish_reason):
    assert list(finish_reason) == CONTRACT["answer"]["finish_reasons"][finish_reason["type"]]
    return {"text": "", "output_ids": list(ids), "meta_info": {"finish_reason": finish_reason}}


def fresh_base():
    return tiny_backbone(["a small film about trains", "another film"], seed=3)


@pytest.fixture
def adapted():
    backbone = add_lora(fresh_base(), LoraOptions(rank=4))
    teach(backbone, 0)
    return backbone


def teach(backbone, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter_state(backbone).values():
            weight.normal_(0, 0.1, generator=generator)


@pytest.fixture
def served(tmp_path):
    def start(backbone, engine=None, **options):
        return SglangEngine(backbone, folder=tmp_path / "adapters", engine=engine or RecordedEngine(**options))

    return start


class TestContract(EngineContract):
    @pytest.fixture
    def engine(self, backbone, served):
        return served(backbone)

    @pytest.mark.parametrize("options", [GREEDY, SAMPLED, *CUTS], ids=["greedy", "sampled", "top_k", "top_p"])
    def test_logprobs_and_entropies_agree_with_scoring(self, engine, backbone, options):
        super().test_logprobs_and_entropies_agree_with_scoring(engine, backbone, options)

    def test_nothing_outside_of_the_cut_is_drawn(self, engine, backbone):
        """It is SGLang that draws; of both cuts together see below."""


def test_both_cuts_together_are_refused_since_they_mean_something_else_there(served, adapted):
    both = GenerationOptions(max_new_tokens=8, temperature=1.0, top_k=9, top_p=0.8)
    with pytest.raises(ThinkrankError, match=r"set top_k = 9 or top_p = 0\.8 alone"):
        served(adapted).sample(FOREST, both)
    greedy = both.model_copy(update={"temperature": 0.0})
    assert served(adapted).sample(FOREST, greedy)


def test_a_token_at_the_rim_of_a_cut_keeps_a_probability(adapted):
    with torch.no_grad():
        states_ND = hidden_states(adapted, *pad([[5, 6, 7]], 0))[0]
        logits_NV = adapted.model(input_ids=torch.tensor([[5, 6, 7]])).logits[0].float()
    order_NV = logits_NV.argsort(dim=1, descending=True)
    options = GenerationOptions(temperature=1.0, top_k=3)
    kept, beyond = (drawn_logprobs(adapted, states_ND, order_NV[:, place], options) for place in (2, 3))
    expected_N = logits_NV.gather(1, order_NV[:, :3]).log_softmax(dim=1)[:, 2]
    torch.testing.assert_close(kept, expected_N, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(beyond, kept)


def test_an_adapter_is_handed_over_once_until_its_weights_change_and_then_given_up(served, tmp_path):
    backbone = add_lora(fresh_base(), LoraOptions(rank=4))
    sampler = served(backbone)
    options = GenerationOptions(max_new_tokens=3)
    names = []
    for seed in (None, None, 1, 1):
        if seed is not None:
            teach(backbone, seed)
        written, expected = sampler.sample(FOREST, options), TransformersEngine(backbone).sample(FOREST, options)
        assert [one.ids for many in written for one in many] == [one.ids for many in expected for one in many]
        names.append(sampler.engine.calls[-1][2][0])
        assert list(sampler.engine.loaded) == names[-1:]
        assert len([*(tmp_path / "adapters").iterdir()]) == 1
    assert names[0] == names[1] != names[2] == names[3]


def test_what_is_withdrawn_is_given_up_by_the_server_and_on_disk(served, adapted, tmp_path):
    engine = served(adapted)
    for name in ("first", "second"):
        engine.publish(name, adapter_state(adapted))
    engine.withdraw("first")
    assert len(engine.engine.loaded) == len(list((tmp_path / "adapters").iterdir())) == 1
    with pytest.raises(ThinkrankError, match="unknown writer 'first'"):
        engine.sample(FOREST, SAMPLED, writer="first")
    assert len(engine.sample(FOREST, SAMPLED, writer="second")) == len(FOREST.leaves)


def test_without_its_adapter_the_base_alone_is_asked(served, adapted):
    sampler = served(adapted)
    sampler.sample(FOREST, GenerationOptions(max_new_tokens=3), writer="base")
    assert sampler.engine.calls[0][2] is None


def test_each_completion_has_its_own_seed(served, adapted):
    sampler = served(adapted)
    sampler.sample(PrefixTree.rows([[5, 6], [7]]), SAMPLED, num_samples=2, seeds=[31, 32])
    seeds = [sent["sampling_seed"] for sent in sampler.engine.calls[0][1]]
    assert seeds == [completion_seed(SAMPLED, leaf, number) for leaf in (31, 32) for number in (0, 1)]


def test_a_completion_that_was_given_up_is_no_completion(served, adapted):
    told = answer([20], {"type": "abort", "message": "out of memory"})
    with pytest.raises(ThinkrankError, match=r"SGLang gave a completion up \(abort\)"):
        served(adapted, Scripted(told)).sample(PrefixTree.rows([[5]]), GenerationOptions())


def test_an_adapter_that_is_not_taken_is_an_error(served, adapted):
    sampler = served(adapted)
    sampler.engine.fault = "no room"
    with pytest.raises(ThinkrankError, match=r"no longer takes adapters .*no room.*max_loaded_loras"):
        sampler.sample(FOREST, GenerationOptions(max_new_tokens=1))


def test_the_engine_is_started_with_what_the_promises_rest_on(adapted, tmp_path, monkeypatch):
    stand_in = ModuleType("sglang")
    stand_in.__dict__.update(Engine=RecordedEngine)
    monkeypatch.setitem(sys.modules, "sglang", stand_in)
    sampler = SglangEngine(adapted, folder=tmp_path, model_path="some/model", mem_fraction_static=0.4)
    assert sampler.engine.options == {
        "model_path": "some/model",
        "dtype": "float32",
        "random_seed": 0,
        "mem_fraction_static": 0.4,
        "sampling_defaults": "openai",
        "enable_deterministic_inference": True,
        "skip_tokenizer_init": False,
        "trust_remote_code": False,
        "enable_lora": True,
        "max_lora_rank": 4,
        "lora_target_modules": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
        "max_loras_per_batch": 2,
    }
    with pytest.raises(ThinkrankError, match="name the folder as `model_path`"):
        SglangEngine(adapted, folder=tmp_path)
    with pytest.raises(ValueError, match="sets skip_tokenizer_init itself"):
        SglangEngine(adapted, folder=tmp_path, model_path="some/model", skip_tokenizer_init=True)


def test_a_machine_without_sglang_is_told_the_extra(adapted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sglang", None)
    with pytest.raises(ThinkrankError, match=r"pip install 'thinkrank\[sglang\]'"):
        SglangEngine(adapted, folder=tmp_path)
