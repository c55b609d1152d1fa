"""One training step of a group against TRL's: the same loss, the same gradients, and how long each takes.

A group is one prompt and G completions. TRL's trainers run it as G rows that each carry the prompt; we run it as one
packed row that holds the prompt once. Both start from the same weights: SmolLM2-135M-Instruct with the same LoRA
adapter (rank 16, every linear layer of the decoder, no zeros in B, so that every gradient says something).

TRL's side is its own GRPOTrainer and RLOOTrainer around a plain transformers and peft model. Only generation is
replaced: the completions are given, and everything else, from padding and advantages to the loss, is TRL's code.
It gets what is fastest on a CPU and changes no result: the group as a single batch without padding, gradient
checkpointing off (its default is on), SDPA, bf16 autocast over bf16 weights with fp32 adapters as ours, no reference
model, no logging or saving, its default fused AdamW. The timed step is `training_step`, clipping of the gradient norm,
`optimizer.step` and `zero_grad`, without the rest of its loop; ours does the same four, and builds the packing anew.

First, in float32 and with completions of ragged length, both must agree on the advantages, the tokens'
log-probabilities, the loss and every gradient, for grpo, dr_grpo and rloo, and at two points: at the policy that wrote
the completions, where every probability ratio is 1, and away from it, where some are clipped; as in a run, the older
policy's log-probabilities are each side's own. Advantages sum to zero, so a loss is what remains of terms that cancel,
often nothing: a difference of losses is measured against the size of the terms, the mean absolute advantage. Of
advantages, log-probabilities and gradients, the largest difference counts against the largest value.

Then, in bf16, the sides take turns and each counts by its fastest step. On a CPU, TRL's language head scores the
prompt's positions too, and throws those scores away; on a GPU it does not. The figure `trl_compact_step_speedup`
compares with a TRL that leaves them out here as well, so that this waste does not count for us.

The group's tokens are this text.

Needs the extras lora and parity: `make parity`.
"""

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
import transformers
import trl
import trl.trainer.utils
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from transformers import AutoModelForCausalLM, PrinterCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from _figures import parser, tell
from thinkrank.language import LoraOptions, add_lora, load_backbone
from thinkrank.language.adapters import adapter_state, restore_adapter
from thinkrank.language.backbone import Backbone
from thinkrank.language.logprobs import selective_logprobs
from thinkrank.language.packing import Packing, packed_states
from thinkrank.language.prefix_tree import PrefixTree
from thinkrank.policy import Surrogate, clipped_surrogate, denominators, grpo_advantages, rloo_advantages

LORA = LoraOptions(rank=16, alpha=32.0)
LEARNING_RATE, MAX_GRAD_NORM = 1e-6, 1.0  # TRL's defaults
TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


@dataclass(frozen=True)
class Group:
    """A prompt, its completions and what they earned."""

    prompt: list[int]
    completions: list[list[int]]
    rewards_G: Tensor
    budget: int
    """The longest completion there can be."""

    @classmethod
    def of_text(cls, ids: list[int], prompt_tokens: int, lengths: list[int], budget: int) -> "Group":
        """The text's beginning is the prompt; the completions are pieces of what follows, a few tokens apart."""
        rest = ids[prompt_tokens:]
        stride = (len(rest) - max(lengths)) // len(lengths)
        assert stride > 0, "the text is too short"
        completions = [rest[g * stride :][:length] for g, length in enumerate(lengths)]
        rewards_G = torch.rand(len(lengths), generator=torch.Generator().manual_seed(0))
        return cls(ids[:prompt_tokens], completions, rewards_G, budget)

    @property
    def mask_GT(self) -> Tensor:
        lengths_G = torch.tensor([len(completion) for completion in self.completions])
        return torch.arange(int(lengths_G.max())) < lengths_G[:, None]


@dataclass(frozen=True)
class Method:
    """A loss under TRL's name and the options that make it ours."""

    name: str
    normalisation: str
    ratio_level: str = "token"
    scale_rewards: str = "group"

    def advantages(self, group: Group) -> Tensor:
        rewards_1G = group.rewards_G[None]
        if self.name == "rloo":
            return rloo_advantages(rewards_1G)[0]
        return grpo_advantages(rewards_1G, scale_by_std=self.scale_rewards == "group")[0]


METHODS = (
    Method("grpo", "sequence"),
    Method("dr_grpo", "constant", scale_rewards="none"),
    Method("rloo", "sum", ratio_level="sequence"),
)


# ---------------------------------------------------------------------------------------------------------- our side


def our_surrogate(
    backbone: Backbone, group: Group, method: Method, advantages_G: Tensor, older_GT: Tensor | None = None
) -> tuple[Surrogate, Tensor]:
    """The loss, with a gradient, and the log-probabilities (G, T) it came from; zero where there is no token."""
    packing = Packing(PrefixTree.groups([(group.prompt, group.completions)]), backbone.device)
    leaves = packing.forest.leaves
    states_TD = packed_states(backbone, packing)
    scores = selective_logprobs(backbone, states_TD[packing.predictors(leaves)], packing.ids_T[packing.tokens(leaves)])
    mask_GT = group.mask_GT
    logprobs_GT = torch.zeros(mask_GT.shape).masked_scatter(mask_GT, scores.logprobs_N)
    surrogate = clipped_surrogate(
        logprobs_GT,
        logprobs_GT.detach() if older_GT is None else logprobs_GT.detach() + older_GT,
        advantages_G,
        mask_GT,
        denominators_B=denominators(
            mask_GT.sum(dim=1),
            method.normalisation,
            constant_length=group.budget if method.normalisation == "constant" else None,
        ),
        ratio_level=method.ratio_level,
    )
    return surrogate, logprobs_GT.detach()


def our_step(backbone: Backbone, group: Group, method: Method) -> Callable[[], float]:
    parameters = list(adapter_state(backbone).values())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    advantages_G = method.advantages(group)

    def step() -> float:
        surrogate, _ = our_surrogate(backbone, group, method, advantages_G)
        surrogate.loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return surrogate.loss.item()

    return step


# -------------------------------------------------------------------------------------------------------- TRL's side


class _Given:
    """Mixed into a trainer: the completions are given instead of generated, and inputs may be made beforehand."""

    group: Group

    def _tokenize_prompts(self, prompts):
        return [self.group.prompt] * len(prompts), None, {}

    def _generate_single_turn(self, prompt_ids, *_):
        completions = self.group.completions
        return (completions, None) if isinstance(self, GRPOTrainer) else completions

    def _prepare_inputs(self, batch):
        return batch if isinstance(batch, dict) else super()._prepare_inputs(batch)


class _GivenGRPO(_Given, GRPOTrainer):
    pass


class _GivenRLOO(_Given, RLOOTrainer):
    pass


def trl_trainer(backbone: Backbone, group: Group, method: Method, folder: str) -> GRPOTrainer | RLOOTrainer:
    """TRL's trainer around a model of its own, with the weights of our backbone and its adapter."""
    weights = backbone.model.config._name_or_path
    plain = AutoModelForCausalLM.from_pretrained(weights, dtype=backbone.dtype, attn_implementation="sdpa")
    is_rloo = method.name == "rloo"
    own = {} if is_rloo else {"loss_type": method.name, "scale_rewards": method.scale_rewards}
    config = (RLOOConfig if is_rloo else GRPOConfig)(
        output_dir=folder,
        use_cpu=True,
        bf16=backbone.dtype == torch.bfloat16,
        per_device_train_batch_size=len(group.completions),
        num_generations=len(group.completions),
        max_completion_length=group.budget,
        gradient_checkpointing=False,
        beta=0.0,
        learning_rate=LEARNING_RATE,
        max_grad_norm=MAX_GRAD_NORM,
        lr_scheduler_type="constant",
        max_steps=1,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **own,
    )
    trainer = (_GivenRLOO if is_rloo else _GivenGRPO)(
        model=plain,
        reward_funcs=lambda completions, **_: group.rewards_G.tolist(),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["given"]}),
        processing_class=backbone.tokenizer,
        peft_config=LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.group = group
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    restore_adapter(adapter_of(trainer), adapter_state(backbone), "our adapter")
    return trainer


def adapter_of(trainer: GRPOTrainer | RLOOTrainer) -> Backbone:
    return Backbone(trainer.model, trainer.processing_class, "TRL's")


def trl_inputs(trainer: GRPOTrainer | RLOOTrainer) -> dict[str, Tensor]:
    """What TRL makes of the given completions: padded ids, masks, advantages and, for RLOO, old log-probabilities."""
    return trainer._generate_and_score_completions([{"prompt": "given"}] * len(trainer.group.completions))


def trl_logprobs(trainer: GRPOTrainer | RLOOTrainer, inputs: dict[str, Tensor]) -> Tensor:
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    with torch.no_grad():
        scores = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, inputs["completion_ids"].shape[1])
    return scores[0]


def trl_step(trainer: GRPOTrainer) -> Callable[[], float]:
    trainer.train()  # one step in TRL's own loop, which makes its optimizer
    inputs = trl_inputs(trainer)

    def step() -> float:
        loss = trainer.training_step(trainer.model_wrapped, inputs, None)
        trainer._clip_grad_norm(trainer.model_wrapped)
        trainer.optimizer.step()
        trainer.model_wrapped.zero_grad()
        return loss.item()

    return step


@contextmanager
def compact_head():
    """Let TRL's language head leave out positions that are not scored, as it does on a GPU."""
    with mock.patch.object(trl.trainer.utils, "_use_triton", return_value=True):
        yield


# ---------------------------------------------------------------------------------------------------------- equality


@dataclass(frozen=True)
class Difference:
    """How far the two sides are apart, at one point of one method; all relative."""

    advantages: float
    logprobs: float
    loss: float
    gradients: float

    def is_rounding(self) -> bool:
        exact = (self.advantages, self.logprobs, self.loss)
        return all(value <= TOLERANCE for value in exact) and self.gradients <= GRADIENT_TOLERANCE


def older(method: Method, group: Group) -> Tensor:
    """By how much an older policy's log-probabilities exceed the present ones: so much that some ratios are clipped."""
    noise_GT = 0.3 * torch.randn(group.mask_GT.shape, generator=torch.Generator().manual_seed(1))
    if method.ratio_level == "sequence":
        noise_GT = noise_GT / group.mask_GT.sum(dim=1, keepdim=True).sqrt()
    return noise_GT * group.mask_GT


def compare(backbone: Backbone, group: Group, method: Method, folder: str) -> list[Difference]:
    """Differences at the policy that wrote the completions and at an older one; prints them."""
    trainer = trl_trainer(backbone, group, method, folder)
    inputs = trl_inputs(trainer)
    their_logprobs_GT = trl_logprobs(trainer, inputs)
    advantages_G = method.advantages(group)
    theirs, ours = adapter_state(adapter_of(trainer)), adapter_state(backbone)
    differences = []
    for point in ("ratio 1", "clipped"):
        older_GT = None
        if point == "clipped":
            older_GT = older(method, group)
            old_GT = their_logprobs_GT + older_GT
            inputs |= {"old_per_token_logps": old_GT, "old_logps": old_GT.sum(dim=1)}  # GRPO's name, and RLOO's
        trainer.model.zero_grad()
        backbone.model.zero_grad()
        their_loss = trainer.training_step(trainer.model, dict(inputs), None).item()
        surrogate, logprobs_GT = our_surrogate(backbone, group, method, advantages_G, older_GT)
        surrogate.loss.backward()
        largest = max(p.grad.abs().max().item() for p in theirs.values())
        apart = max((ours[name].grad - p.grad).abs().max().item() for name, p in theirs.items())
        assert all(p.grad.abs().max() > 0 for p in theirs.values()), "an adapter without a gradient compares nothing"
        difference = Difference(
            advantages=((advantages_G - inputs["advantages"]).abs().max() / advantages_G.abs().max()).item(),
            logprobs=((logprobs_GT - their_logprobs_GT).abs().max() / logprobs_GT.abs().max()).item(),
            loss=abs(surrogate.loss.item() - their_loss) / advantages_G.abs().mean().item(),
            gradients=apart / largest,
        )
        differences.append(difference)
        print(
            f"{method.name:8} {point:8} {their_loss:12.7f} {surrogate.loss.item():12.7f} {surrogate.clip_share:8.2f}"
            f" {difference.advantages:11.1e} {difference.logprobs:9.1e} {difference.loss:9.1e}"
            f" {difference.gradients:9.1e}"
        )
    return differences


def check_equal(backbone: Backbone, group: Group, folder: str) -> dict[str, float]:
    """Compare every method; ends the program if the two sides differ by more than rounding."""
    print(f"float32, prompt {len(group.prompt)}, completions of {[len(c) for c in group.completions]} tokens")
    print("loss     point            TRL's         ours  clipped  advantages  logprobs      loss  gradients")
    differences = [d for method in METHODS for d in compare(backbone, group, method, folder)]
    if not all(difference.is_rounding() for difference in differences):
        sys.exit(
            f"against_trl: the two sides differ by more than {TOLERANCE}, "
            f"or in their gradients by more than {GRADIENT_TOLERANCE}, so nothing is timed"
        )
    return {
        "trl_advantage_max_rel": max(d.advantages for d in differences),
        "trl_logprob_max_rel": max(d.logprobs for d in differences),
        "trl_loss_max_rel": max(d.loss for d in differences),
        "trl_grad_max_rel": max(d.gradients for d in differences),
    }


# ------------------------------------------------------------------------------------------------------------ timing


def adapted(dtype: str) -> Backbone:
    """The backbone with an adapter whose matrices are all non-zero, the same at every call."""
    backbone = add_lora(load_backbone("smollm2", dtype=dtype, device="cpu"), LORA)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter_state(backbone).values():
            parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))
    return backbone


def seconds(step: Callable[[], float]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def time_steps(backbone: Backbone, group: Group, repeats: int, folder: str) -> dict[str, float]:
    """Seconds per step of each side, one after the other in turns."""
    method = METHODS[0]
    theirs = trl_step(trl_trainer(backbone, group, method, folder))

    def compact() -> float:
        with compact_head():
            return theirs()

    steps = {"thinkrank": our_step(backbone, group, method), "TRL": theirs, "TRL, compact head": compact}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # warm-up
    for _ in range(repeats):
        for name, step in steps.items():
            taken[name].append(seconds(step))
    ours = min(taken["thinkrank"])
    shape = f"prompt {len(group.prompt)}, {len(group.completions)} x {group.budget} new tokens"
    print(f"\nbfloat16, {shape}, {torch.get_num_threads()} threads, {repeats} steps each, in turns")
    print("side                 fastest    median   times ours (fastest)")
    for name, times in taken.items():
        print(f"{name:18} {min(times):7.2f} s {statistics.median(times):7.2f} s {min(times) / ours:8.2f}")
    return {
        "thinkrank_step_seconds": ours,
        "trl_step_seconds": min(taken["TRL"]),
        "trl_compact_step_seconds": min(taken["TRL, compact head"]),
        "trl_step_speedup": min(taken["TRL"]) / ours,
        "trl_compact_step_speedup": min(taken["TRL, compact head"]) / ours,
    }


def main() -> None:
    options = parser(__doc__, quick="short sequences and fewer steps")
    options.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: 2)")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    print(f"trl {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    prompt_tokens, rollouts, budget, repeats = (64, 4, 12, 2) if arguments.quick else (256, 8, 48, 5)
    ragged = [budget - (budget - 1) * i // (rollouts - 1) for i in range(rollouts)]  # from the budget down to 1 token
    exact = adapted("float32")
    ids = exact.tokenizer(__doc__)["input_ids"]
    with tempfile.TemporaryDirectory() as folder:
        figures = check_equal(exact, Group.of_text(ids, prompt_tokens, ragged, budget), folder)
        even = Group.of_text(ids, prompt_tokens, [budget] * rollouts, budget)
        figures |= time_steps(adapted("bfloat16"), even, repeats, folder)
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()
