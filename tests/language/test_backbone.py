import subprocess
import sys
import time

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from thinkrank import ThinkrankError
from thinkrank.language import add_lora, load_backbone, load_lora, save_lora, tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.options import LoraOptions


def test_the_tiny_model_is_ready_in_under_two_seconds_and_is_always_the_same():
    tiny_backbone(["warm up"])
    started = time.process_time()
    first = load_backbone("tiny", texts=["Heat", "Alien"])
    assert time.process_time() - started < 2
    second = load_backbone("tiny", texts=["Heat", "Alien"])
    for one, two in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["./no/such/folder", "nowhere/to/be/found", "missing.gguf", "~/absent"])
def test_a_model_that_is_not_there_is_named(name):
    with pytest.raises(ThinkrankError, match="no such"):
        load_backbone(name)


def test_a_folder_without_a_model_says_what_it_must_hold(tmp_path):
    with pytest.raises(ThinkrankError, match=f"cannot load the language model .*{tmp_path.name}"):
        load_backbone(str(tmp_path))


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(ThinkrankError, match="unknown device 'gpu'"):
        load_backbone("tiny", device="gpu")


def test_weights_are_never_read_from_a_pickle(tmp_path):
    backbone = tiny_backbone(["x"])
    backbone.model.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path), dtype="float32").hidden_size == 64
    (tmp_path / "model.safetensors").unlink()
    torch.save(backbone.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ThinkrankError, match=r"no file named model\.safetensors"):
        load_backbone(str(tmp_path), dtype="float32")


def test_a_saved_folder_loads_as_the_same_model(tmp_path):
    backbone = tiny_backbone(["Heat"])
    backbone.model.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    loaded = load_backbone(str(tmp_path), dtype="float32", device="cpu")
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, backbone.model(input_ids=ids).logits)
    assert load_backbone(str(tmp_path), dtype="bfloat16", device="cpu").dtype == torch.bfloat16


def test_an_adapter_begins_without_effect_and_comes_back_from_disk(tmp_path):
    base, ids = tiny_backbone(["Heat"]), torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        plain = base.model(input_ids=ids).logits
        adapted = add_lora(base, LoraOptions(rank=2))
        assert torch.equal(adapted.model(input_ids=ids).logits, plain)
        for weight in adapter_state(adapted).values():
            weight.normal_()
        changed = adapted.model(input_ids=ids).logits
        save_lora(adapted, tmp_path)
        restored = load_lora(tiny_backbone(["Heat"]), tmp_path, LoraOptions(rank=2))
        assert torch.equal(restored.model(input_ids=ids).logits, changed)
    with pytest.raises(ThinkrankError, match="does not fit"):
        load_lora(tiny_backbone(["Heat"]), tmp_path, LoraOptions(rank=3))


def test_a_model_takes_one_adapter():
    backbone = tiny_backbone(["Heat"])
    add_lora(backbone, LoraOptions(rank=2))
    with pytest.raises(ThinkrankError, match="has an adapter already"):
        add_lora(backbone, LoraOptions(rank=2))


def test_a_damaged_gguf_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("THINKRANK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ThinkrankError, match=r"broken\.gguf: cannot be converted"):
        load_backbone(str(tmp_path / "broken.gguf"))


def test_a_cache_without_room_for_the_copy_of_a_gguf_file_is_named(tmp_path, monkeypatch, full_disk):
    monkeypatch.setenv("THINKRANK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "large.gguf").touch()
    tiny = tiny_backbone(["Heat"])
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tiny.tokenizer)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: tiny.model)
    with pytest.raises(ThinkrankError, match=r"/cache/.* cannot be written: .*, or set THINKRANK_CACHE"):
        load_backbone(str(tmp_path / "large.gguf"))
    assert not [*(tmp_path / "cache").rglob("*.safetensors")]


def test_only_the_adapter_of_the_top_layers_is_trained_in_fp32():
    adapted = add_lora(tiny_backbone(["Heat"], num_layers=4), LoraOptions(rank=2, top_layers=1))
    trained = {name: p for name, p in adapted.model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".layers.3." in name and "lora_" in name for name in trained)
    assert all(p.dtype == torch.float32 for p in trained.values())


@pytest.mark.parametrize("module", ["thinkrank.devices", "thinkrank.stages.answers", "thinkrank.language.options"])
def test_what_needs_no_language_model_loads_no_transformers(module):
    code = f"import sys, {module}; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.weights
def test_smollm2_is_converted_once_and_writes_english():
    from thinkrank.language import ChatFrame, GenerationOptions, PrefixTree, TransformersEngine, encode_text

    backbone = load_backbone("smollm2")
    assert backbone.hidden_size == 576
    frame = ChatFrame.of(backbone.tokenizer)
    prompt = [*frame.before, *encode_text(backbone.tokenizer, "What is the capital of France?"), *frame.after]
    written = TransformersEngine(backbone).sample(PrefixTree.rows([prompt]), GenerationOptions(max_new_tokens=24))[0][0]
    assert "Paris" in written.text
