"""What the writer and the item head know of the next item, against loops over values and items."""

import math
from collections import Counter

import pytest
import torch

from thinkrank.errors import ThinkrankError
from thinkrank.language import hidden_states, pad, tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.retrieve import R2ec
from thinkrank.retrieve.r2ec.knowledge import compare_knowledge
from thinkrank.teachers.attributes import attribute_columns


def test_both_distributions_are_those_of_plain_loops(config, split):
    model = R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(split.dataset.catalogue.titles))
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in adapter_state(model.backbone).values():
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=random))
    columns = attribute_columns(model.catalogue)
    name, column = next(iter(columns.items()))
    first = [values[0] if values else None for values in column]
    counts = Counter()
    for history in split.train_histories():
        counts.update(first[item] for item in history.items.tolist() if first[item])
    values = [value for value, _ in counts.most_common(3)]
    samples = [sample for sample in split.valid[:10] if first[sample.target] in values]
    nats = {"writer": 0.0, "reader": 0.0, "prior": 0.0}
    guessed = Counter()
    for sample in samples:
        prompt, closing = model.prompts.user(sample.history).prompt.ids, model.prompts.closing_ids
        written, implied = {}, {}
        scores = model.scores([sample.history])[0].tolist()
        shares = {item: math.exp(s) for item, s in enumerate(scores) if item not in sample.history.items.tolist()}
        for value in values:
            chosen = [*model.prompts.text(value), *closing]
            with torch.no_grad():
                states = hidden_states(model.backbone, *pad([[*prompt, *chosen]], model.backbone.pad_id))[0]
                logits = model.backbone.model.get_output_embeddings()(states).double().log_softmax(1)
            written[value] = math.exp(sum(logits[len(prompt) - 1 + t][token].item() for t, token in enumerate(chosen)))
            implied[value] = sum(share for item, share in shares.items() if first[item] == value)
        target = first[sample.target]
        prior = {value: counts[value] for value in values}
        for who, known in (("writer", written), ("reader", implied), ("prior", prior)):
            nats[who] -= math.log(known[target] / sum(known.values())) / len(samples)
            guessed[who] += max(values, key=known.__getitem__) == target
    found = compare_knowledge(model, split, split.valid[:10], most=3)
    assert (found.attribute, found.values, found.samples) == (name, 3, len(samples))
    assert found.writer_nats == pytest.approx(nats["writer"], abs=1e-3)
    assert found.reader_nats == pytest.approx(nats["reader"], abs=1e-3)
    assert found.prior_nats == pytest.approx(nats["prior"], abs=1e-6)
    assert found.writer_first == pytest.approx(guessed["writer"] / len(samples))
    assert found.reader_first == pytest.approx(guessed["reader"] / len(samples))
    assert str(found).startswith(f"{name} of the next item, {len(samples)} samples: the writer's words")
    with pytest.raises(ThinkrankError, match="no attribute 'colour'"):
        compare_knowledge(model, split, split.valid[:3], attribute="colour")
