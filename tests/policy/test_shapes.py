"""Wrong shapes are refused with the type checker of the tests and without it, as users run the package."""

import inspect
from typing import Any

import jaxtyping
import pytest
import torch

from thinkrank import policy

B, G, T, N = 2, 3, 4, 5
BG, BT, BN, ONE = torch.zeros(B, G), torch.zeros(B, T), torch.zeros(B, N), torch.ones(B)
MASK, IDS = torch.ones(B, T, dtype=torch.bool), torch.zeros(B, dtype=torch.long)
CASES: dict[str, tuple[Any, list[Any], dict[str, Any]]] = {
    "grpo_advantages": (policy.grpo_advantages, [BG], {}),
    "rloo_advantages": (policy.rloo_advantages, [BG], {}),
    "tied_groups": (policy.tied_groups, [BG], {}),
    "selection_weights": (policy.selection_weights, [BG, "best"], {}),
    "softmax_similarity": (policy.softmax_similarity, [BN, IDS, 1.0], {}),
    "fuse": (policy.fuse, [BG, BG, 0.5], {}),
    "gain_reward": (policy.gain_reward, [BG, BG, 1.0], {}),
    "log_mean": (policy.log_mean, [BG], {}),
    "marginal_reward": (policy.marginal_reward, [BG], {}),
    "distillation_loss": (policy.distillation_loss, [torch.zeros(B, G, N), BN], {}),
    "denominators": (policy.denominators, [IDS, "token"], {}),
    "clipped_objective": (policy.clipped_objective, [ONE, ONE, 0.2, 0.2], {}),
    "locate_targets": (policy.locate_targets, [IDS, IDS], {}),
    "item_logprobs": (policy.item_logprobs, [BN, IDS], {"excluded_BN": torch.zeros(B, N, dtype=torch.bool)}),
    "item_surrogate": (policy.item_surrogate, [ONE, ONE, ONE, ONE], {"num_trajectories": B}),
    "clipped_surrogate": (
        policy.clipped_surrogate,
        [BT, BT, ONE, MASK],
        {
            "denominators_B": ONE,
            "sampled_logprobs_BT": BT,
            "reference_logprobs_BT": BT,
            "entropies_BT": BT,
        },
    ),
}


def wrong_calls():
    """Every tensor of every call in turn: with a dimension too many (the released bug), or a size too large."""
    for name, (function, arguments, options) in CASES.items():
        slots = [*range(len(arguments)), *options]
        for slot in slots:
            value = arguments[slot] if isinstance(slot, int) else options[slot]
            if not isinstance(value, torch.Tensor):
                continue
            changed = {"deeper": value[:, None], "longer": torch.cat([value, value])}
            tensors = sum(isinstance(other, torch.Tensor) for other in [*arguments, *options.values()])
            for kind, wrong in changed.items():
                if kind == "longer" and (tensors == 1 or name == "locate_targets"):
                    continue  # any number of rows will do
                new_arguments = [wrong if slot == place else other for place, other in enumerate(arguments)]
                new_options = {key: wrong if slot == key else other for key, other in options.items()}
                yield pytest.param(function, new_arguments, new_options, id=f"{name}-{slot}-{kind}")


@pytest.mark.parametrize("name", CASES)
def test_the_right_shapes_pass(name):
    function, arguments, options = CASES[name]
    function(*arguments, **options)
    inspect.unwrap(function)(*arguments, **options)


@pytest.mark.parametrize(("function", "arguments", "options"), list(wrong_calls()))
def test_a_wrong_shape_is_refused_with_and_without_type_checks(function, arguments, options):
    bare = inspect.unwrap(function)
    assert bare is not function
    with pytest.raises(ValueError, match="shape"):
        bare(*arguments, **options)
    with pytest.raises((jaxtyping.TypeCheckError, ValueError)):
        function(*arguments, **options)
