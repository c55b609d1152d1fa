"""A writer of its own: another adapter, another prompt, or both, beside the one that reads."""

import copy

import pytest
import torch

from thinkrank.language import GenerationOptions, Packing, PrefixTree, packed_states, tiny_backbone
from thinkrank.language.adapters import adapter_state, restore_adapter
from thinkrank.retrieve import R2ec, RecpoOptions
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.retrieve.r2ec.recpo import RecpoTrainer
from thinkrank.retrieve.r2ec.weights import weights
from thinkrank.retrieve.r2ec.writing import begin_writer
from thinkrank.training import Run

FEW = {"steps": 6, "validate_every": 3, "checkpoint_every": 2, "refresh_every": 4, "warmup_steps": 0}
RECPO = RecpoOptions(
    **FEW, users=2, group_size=3, rollout=GenerationOptions(max_new_tokens=4, temperature=1.5), validation_samples=4,
    learning_rate=5e-3, candidates="catalogue", item_floor=1.0, line_weight=0.5,
)  # fmt: skip


def created(config, split, *, gap=False, shaken=0.3, **changes):
    if gap:
        prompt = config.prompt.model_copy(update={"history_window": 2})
        changes |= {"prompt": prompt, "writer_prompt": prompt.model_copy(update={"history_window": 7, "noun": "toy"})}
    config = config.model_copy(update=changes)
    model = R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(split.dataset.catalogue.titles))
    shake(adapter_state(model.backbone).values(), shaken, 7)
    return model


def shake(tensors, scale, seed):
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(scale * torch.randn(tensor.shape, generator=random))


def test_a_resumed_training_goes_on_with_both_adapters(config, split, tmp_path):
    options = RECPO.model_copy(update={"kl_coefficient": 0.1, "validate_every": 9})
    whole, resumed = (
        RecpoTrainer(created(config, split, gap=True, thinker="apart"), split, options, Run(tmp_path, {}, {}))
        for _ in range(2)
    )
    whole.start()
    whole.step()
    whole.save()
    resumed.start()
    assert whole.step() == resumed.step()
    for name, tensor in weights(whole.model).items():
        assert torch.equal(tensor, weights(resumed.model)[name]), name
    at_start = whole.at_start[next(iter(whole.at_start))]
    assert not torch.equal(at_start, next(iter(whole.model.writer.values())))


def of_other_adapter(model, tensors, work):
    """What comes of work under other adapter weights, put into the one adapter there is, on a copy."""
    other = copy.deepcopy(model.backbone)
    restore_adapter(other, {name: tensor.detach() for name, tensor in tensors.items()}, "a test")
    return work(other)


@pytest.mark.parametrize("gap", [False, True])
def test_what_is_written_trains_the_writer_and_what_is_read_the_reader(config, split, tmp_path, gap):
    """Each adapter's gradient against a model that has it alone, behind the writer's prompt and the reader's."""
    model = created(config, split, gap=gap, thinker="apart")
    fit = RecpoTrainer(model, split, RECPO, Run(tmp_path, {}, {}))
    shake(model.writer.values(), 0.3, 8)
    fit._republish()
    groups, _ = fit.rollouts()
    (part,) = fit.compare(groups)
    candidates = fit.candidates(groups)
    fit.learn_from(part, *candidates, len(groups), sum(len(group.prompt.line_ends) for group in groups))
    asked = part.groups[0].asked
    assert (asked is not None) == gap
    if gap:
        assert len(asked.line_ends) > 2 >= len(part.groups[0].prompt.line_ends)

    def alone(backbone):
        total = 0.0
        for number, (group, written) in enumerate((g, w) for g in groups for w in g.written):
            prompt = (group.asked or group.prompt).prompt
            states = packed_states(backbone, Packing(PrefixTree.rows([(*prompt.ids, *written.ids)]), backbone.device))
            logits = backbone.model.get_output_embeddings()(states).log_softmax(1)
            chosen = [logits[len(prompt) - 1 + t][token] for t, token in enumerate(written.ids)]
            total = total - part.token_advantages_R[number] * torch.stack(chosen).mean() / len(part.token_advantages_R)
        return torch.autograd.grad(total, list(adapter_state(backbone).values()))

    theirs = of_other_adapter(model, model.writer, alone)
    scale = max(gradient.abs().max() for gradient in theirs)
    assert scale > 1e-5
    for ours, their in zip(model.writer.values(), theirs, strict=True):
        assert (ours.grad - their).abs().max() < 1e-3 * scale
    kept = [p.grad.clone() for p in adapter_state(model.backbone).values()]
    quiet = RecpoTrainer(model, split, RECPO.model_copy(update={"token_weight": 0.0}), Run(tmp_path / "b", {}, {}))
    quiet.optimizer.zero_grad()
    for parameter in (*model.writer.values(), *adapter_state(model.backbone).values()):
        parameter.grad = None
    quiet.learn_from(part, *quiet.candidates(groups), len(groups), sum(len(g.prompt.line_ends) for g in groups))
    assert all(parameter.grad is None for parameter in model.writer.values())
    for ours, parameter in zip(kept, adapter_state(model.backbone).values(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)


def test_the_engine_writes_with_the_writers_present_weights(config, split, tmp_path):
    model = created(config, split, gap=True, thinker="apart")
    fit = RecpoTrainer(model, split, RECPO, Run(tmp_path / "run", {}, {}))
    fit.start()
    for _ in range(3):
        fit.step()
    histories = split.valid.histories()[:6]
    written = [thought.ids for thought in model.think(histories)]
    alone = created(config, split, gap=True)
    restore_adapter(alone.backbone, {name: tensor.detach() for name, tensor in model.writer.items()}, "a test")
    assert written == [thought.ids for thought in alone.think(histories)]
    assert len(model.engine._writers._published) == 1
    model.save_pretrained(tmp_path / "saved")
    loaded = R2ec.from_pretrained(tmp_path / "saved", backbone=tiny_backbone(split.dataset.catalogue.titles))
    assert written == [thought.ids for thought in loaded.think(histories)]
    for name, tensor in weights(loaded).items():
        assert torch.equal(tensor, weights(model)[name]), name
    assert (loaded.scores(histories, think=True) == model.scores(histories, think=True)).all()


@pytest.mark.parametrize("gap", [False, True])
def test_a_cold_start_teaches_the_writer_to_write_and_the_reader_to_read(config, split, options, tmp_path, gap):
    """Nothing of the thoughts' loss reaches the reader's adapter, and nothing of the answers' the writer's."""
    model = created(config, split, gap=gap, thinker="apart")
    cold = options.model_copy(update={"thought_share": 1.0, "supervision": "last"})
    fit = ContrastiveTrainer(model, split, cold, Run(tmp_path, {}, {}))
    fit.start()
    batch = fit.render(next(fit.batches()))
    packing, states = fit.states(batch)
    thoughts = fit._thought_loss(batch, packing, states)
    parameters = [*adapter_state(model.backbone).values(), *model.writer.values()]
    found = torch.autograd.grad(thoughts, parameters, allow_unused=True, retain_graph=True)
    half = len(found) // 2
    assert all(gradient is None for gradient in found[:half])
    assert max(gradient.abs().max() for gradient in found[half:]) > 1e-4
    found = torch.autograd.grad(fit._losses(batch, packing, states).sum(), parameters, allow_unused=True)
    assert all(gradient is None for gradient in found[half:])
    expected = 0.0
    for (ids, span), readout in zip(batch.asked, batch.readouts, strict=True):
        read = packing.ids_T[[packing.place(readout.node, position) for position in readout.thought]]
        assert list(ids[span.start : span.stop]) == read.tolist()
        logits = of_other_adapter(
            model,
            model.writer,
            lambda other, ids=ids: other.model.get_output_embeddings()(
                packed_states(other, Packing(PrefixTree.rows([ids]), other.device))
            ),
        )
        expected -= sum(logits[place - 1].log_softmax(0)[ids[place]].item() for place in span)
    assert thoughts.item() == pytest.approx(expected, rel=1e-4)
    if gap:
        assert max(len(ids) for ids, _ in batch.asked) > max(map(len, list(batch.forest.sequences())))


def test_a_model_that_is_saved_over_another_keeps_none_of_its_writer(config, split, tmp_path):
    first = R2ec.create(config.model_copy(update={"thinker": "apart"}), split.dataset.catalogue)
    begin_writer(first)
    first.save_pretrained(tmp_path)
    assert (tmp_path / "writer.safetensors").is_file()
    R2ec.create(config, split.dataset.catalogue).save_pretrained(tmp_path)
    assert not (tmp_path / "writer.safetensors").is_file()
    assert not R2ec.from_pretrained(tmp_path, device="cpu").writer


def test_prompts_must_end_thoughts_alike(config):
    other = config.prompt.model_copy(update={"closing": "<so>"})
    with pytest.raises(ValueError, match=r"writer_prompt\.closing must"):
        type(config).model_validate({**config.model_dump(), "writer_prompt": other.model_dump()})


def test_a_validation_asks_the_writer_as_an_answer_does(config, split, tmp_path):
    model = created(config, split, gap=True, thinker="apart")
    fit = RecpoTrainer(model, split, RECPO, Run(tmp_path, {}, {}))
    samples = fit.validation
    written = [thought.ids for thought in fit._think(samples, range(len(samples)))]
    assert written == [thought.ids for thought in model.think(samples.requests())]
