import pytest
import torch

from thinkrank.errors import ThinkrankError
from thinkrank.language import logprobs, selective_logprobs, tiny_backbone
from thinkrank.language.logprobs import logits


@pytest.fixture(params=["frozen", "trained", "frozen bf16"])
def backbone(request, monkeypatch):
    backbone = tiny_backbone(["a small film"], seed=2)
    if "bf16" in request.param:
        backbone.model.bfloat16()
        monkeypatch.setattr(logprobs, "_CHUNK_WEIGHTS", 1000)
    backbone.model.get_output_embeddings().weight.requires_grad_(request.param == "trained")
    return backbone


def double(backbone, states, tokens, temperature, cap=None):
    """Log-probabilities and entropies in fp64, over the whole vocabulary at once."""
    everything = states.double() @ backbone.model.get_output_embeddings().weight.double().T
    if cap is not None:
        everything = cap * torch.tanh(everything / cap)
    everything = (everything / temperature).log_softmax(-1)
    return everything.gather(1, tokens[:, None])[:, 0], -(everything.exp() * everything).sum(-1)


def setting(count=23):
    random = torch.Generator().manual_seed(1)
    states = torch.randn(count, 64, generator=random).requires_grad_()
    return states, torch.randint(0, 250, (count,), generator=random)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_scores_and_gradients_equal_the_whole_vocabulary_in_fp64(backbone, monkeypatch, chunk, temperature, cap):
    vocabulary = backbone.model.get_output_embeddings().weight.shape[0]
    monkeypatch.setattr(logprobs, "_CHUNK_LOGITS", chunk * vocabulary)
    monkeypatch.setattr(backbone.model.config, "final_logit_softcapping", cap, raising=False)
    states, tokens = setting()
    ours = selective_logprobs(backbone, states, tokens, temperature=temperature, entropy=True)
    theirs = double(backbone, states, tokens, temperature, cap)
    torch.testing.assert_close(ours.logprobs_N.double(), theirs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.entropies_N.double(), theirs[1], atol=1e-5, rtol=1e-5)
    weights = torch.linspace(-1, 2, len(tokens))
    wanted = [states, *([head] if (head := backbone.model.get_output_embeddings().weight).requires_grad else [])]
    actual = torch.autograd.grad((weights * ours.logprobs_N - 0.3 * ours.entropies_N).sum(), wanted)
    expected = torch.autograd.grad((weights * theirs[0] - 0.3 * theirs[1]).sum(), wanted)
    for ours_by, theirs_by in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours_by, theirs_by, atol=1e-5, rtol=1e-4)


def test_without_entropy_none_is_given_and_the_rest_is_the_same(backbone):
    states, tokens = setting()
    bare = selective_logprobs(backbone, states, tokens)
    assert bare.entropies_N is None
    torch.testing.assert_close(bare.logprobs_N, selective_logprobs(backbone, states, tokens, entropy=True).logprobs_N)


def test_no_positions_give_no_scores(backbone):
    scores = selective_logprobs(backbone, torch.zeros(0, 64), torch.zeros(0, dtype=torch.long), entropy=True)
    assert scores.logprobs_N.shape == scores.entropies_N.shape == (0,)


def test_logits_are_those_of_the_model(backbone):
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        states = backbone.trunk()(input_ids=ids).last_hidden_state[0]
        rounding = 0.01 if backbone.dtype == torch.bfloat16 else 1e-5  # of transformers' own product
        theirs = backbone.model(input_ids=ids).logits[0].float()
        torch.testing.assert_close(logits(backbone, states), theirs, atol=rounding, rtol=rounding)


def test_logits_of_bf16_weights_are_not_rounded_to_bf16(backbone):
    states, _ = setting()
    weight = backbone.model.get_output_embeddings().weight
    exact = states.double() @ weight.double().T
    with torch.autocast("cpu", torch.bfloat16):
        ours = logits(backbone, states)
        some = logits(backbone, states, torch.tensor([7, 3]))
    torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(some.double(), exact[:, [7, 3]], atol=1e-5, rtol=1e-5)
    (by_states,) = torch.autograd.grad(ours.sum() + some.sum(), states)
    expected = (weight.double().sum(dim=0) + weight.double()[[7, 3]].sum(dim=0)).expand(len(states), -1)
    torch.testing.assert_close(by_states.double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("part", ["a bias", "an adapter"])
def test_a_head_with_more_than_a_weight_is_refused(backbone, part):
    head = torch.nn.Linear(64, 8, bias=part == "a bias")
    if part == "an adapter":
        head.lora_A = torch.nn.ModuleDict()
    backbone.model.set_output_embeddings(head)
    for ask in (lambda: selective_logprobs(backbone, *setting()), lambda: logits(backbone, setting()[0])):
        with pytest.raises(ThinkrankError, match=f"has {part}"):
            ask()


def test_a_temperature_is_positive(backbone):
    states, tokens = setting()
    with pytest.raises(ValueError, match="positive, got 0"):
        selective_logprobs(backbone, states, tokens, temperature=0.0)
