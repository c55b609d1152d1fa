"""The same completions, written by vLLM: the optional second engine.

**We have not run this on a GPU.** It is written against the sources of vLLM 0.33.0 and tested against what was recorded
from them (`tests/language/engines/vllm_contract.json`); one test waits for a machine that has vLLM and CUDA.

vLLM holds a frozen copy of the base model, and each writer is served as an adapter: its weights go to a folder in
peft's format, those of "trained" anew whenever they changed and under a new name, and no base is ever merged. vLLM
shares what prompts share by its prefix cache, so every prompt is sent whole. It hands out neither hidden states nor
entropies: the trainer's own model reads what was written once, in packed passes with the writer's weights, and gives
the log-probabilities, entropies and states of `Completion`.

Shape legend: T tokens of a pass, N tokens written, R completions, D width.
"""

import hashlib
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thinkrank.errors import ThinkrankError
from thinkrank.language.adapters import adapter_state
from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.base import BASE, TRAINED, Completion
from thinkrank.language.engines.transformers import before_stop, completion_seed, decode
from thinkrank.language.engines.writers import Writers
from thinkrank.language.logprobs import selective_logprobs
from thinkrank.language.options import FinishReason, GenerationOptions
from thinkrank.language.packing import Packing, packed_states
from thinkrank.language.prefix_tree import PrefixTree

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM allows as the largest rank of its adapters."""

_TEMPERATURES = (0.01, 2.0)
"""vLLM raises a positive temperature below the first without an error, and refuses one above the second."""

_PASS_TOKENS = 2**14
"""Tokens that the trainer's model reads in one pass, unless a single completion is longer."""

_FIXED = {
    "generation_config": "vllm",
    "logprobs_mode": "processed_logprobs",  # after temperature, top-k and top-p; of greedy decoding the model's own
    "enable_prefix_caching": True,
    "trust_remote_code": False,
}
"""Engine options that the promises of `Engine` rest on."""

_versions = itertools.count(1)
"""vLLM knows an adapter by its number, and cached prefixes by its name: neither is used twice in a process."""


class VllmEngine:
    """Engine that asks vLLM. Not run on a GPU by us; see the module's docstring.

    The distribution is that of `TransformersEngine`, the draws are not: the same seeds give other texts, which repeat
    from run to run as far as vLLM's own arithmetic does. Of the options, `batch_size` and `kv_gib` mean nothing here:
    vLLM schedules by its engine options `max_num_seqs` and `gpu_memory_utilization` (which should leave room for the
    model that trains). Threads may ask at once; they are served one after the other.

    Args:
        backbone: the model that trains, with the adapter of the writer "trained" if there is one.
        folder: where adapters are written for vLLM; one version is kept of each writer.
        engine: a running `vllm.LLM` to use, started as `engine_options` here would be; None starts one.
        engine_options: more arguments of `vllm.LLM`. The model is served from where it was loaded, in the number
            format of its weights, unless `model` or `dtype` say otherwise.

    Raises:
        ThinkrankError: if vLLM is not installed, or cannot serve this model or its adapter.
        ValueError: for an engine option that this class sets itself.
    """

    def __init__(self, backbone: Backbone, *, folder: Path, engine: Any = None, **engine_options: Any) -> None:
        self.backbone = backbone
        if engine is not None and engine_options:
            raise ValueError(f"a running engine takes no more options: {', '.join(sorted(engine_options))}")
        if any(weight.requires_grad and "lora_" not in name for name, weight in backbone.model.named_parameters()):
            raise ThinkrankError("vLLM's copy of the base model does not learn: freeze the base and train an adapter")
        llm, self._sampling_params, lora_request = _vllm()
        self.engine: Any = llm(**_engine_options(backbone, engine_options)) if engine is None else engine
        if self.engine.model_config.logprobs_mode != _FIXED["logprobs_mode"]:
            raise ThinkrankError(
                f"the vLLM engine reports {self.engine.model_config.logprobs_mode}: start it with "
                f"logprobs_mode={_FIXED['logprobs_mode']!r}, or its log-probabilities are not those of the sampling"
            )
        self._writers = Writers(backbone)
        self._adapters = _ServedAdapters(backbone, folder, lora_request)
        self._lock = threading.Lock()

    def publish(self, writer: str, adapter: Mapping[str, torch.Tensor]) -> None:
        """Give adapter weights a name to write under; see `Engine`."""
        with self._lock:
            self._writers.publish(writer, adapter)
            self._adapters.write(writer, adapter)

    def sample(
        self,
        prompts: PrefixTree,
        options: GenerationOptions,
        *,
        writer: str = TRAINED,
        num_samples: int = 1,
        stop: str | None = None,
        suffix: Sequence[int] = (),
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Write `num_samples` completions of every leaf of the tree; see `Engine`.

        Raises:
            ThinkrankError: if a prompt and its completion exceed the engine's `max_model_len`, the temperature is not
                one that vLLM samples with, the writer is unknown, or vLLM gave a completion up.
            ValueError: if there is not one seed per leaf.
        """
        clock = time.perf_counter()
        seeds = range(len(prompts.leaves)) if seeds is None else seeds
        wanted = [
            (leaf, completion_seed(options, seed, number))
            for leaf, seed in zip(prompts.leaves, seeds, strict=True)
            for number in range(num_samples)
        ]
        self._check(prompts, options)
        with self._writers.acting(writer):
            if not wanted:
                return [[] for _ in prompts.leaves]
            with self._lock:
                answers = self.engine.generate(
                    [{"prompt_token_ids": list(prompts.sequence(leaf))} for leaf, _ in wanted],
                    [self._sampling_params(**_request(self.backbone, options, stop, seed)) for _, seed in wanted],
                    use_tqdm=False,
                    lora_request=self._adapters.request(writer),
                )
            written = [
                _read_answer(self.backbone, leaf, answer.outputs[0], stop, options.max_new_tokens)
                for (leaf, _), answer in zip(wanted, answers, strict=True)
            ]
            scores = [score for part in _passes(prompts, written) for score in self._score(prompts, part, suffix)]
        seconds = (time.perf_counter() - clock) / len(wanted)
        done = [one.completion(*score, seconds) for one, score in zip(written, scores, strict=True)]
        return [done[start : start + num_samples] for start in range(0, len(done), num_samples)]

    def _check(self, prompts: PrefixTree, options: GenerationOptions) -> None:
        """Refuse what vLLM would change without an error."""
        low, high = _TEMPERATURES
        if options.temperature and not low <= options.temperature <= high:
            raise ThinkrankError(
                f"vLLM samples with temperatures from {low:g} to {high:g}, not {options.temperature:g}: "
                "choose one of those, 0 for greedy decoding, or the transformers engine"
            )
        vocabulary = int(self.backbone.model.config.vocab_size)
        if any(token >= vocabulary for ids in prompts.ids for token in ids):
            raise ThinkrankError(
                "vLLM knows no items as tokens: write thoughts about histories that are read late by the transformers "
                "engine, or read histories as text (model.reading)"
            )
        longest = max((prompts.ends[leaf] for leaf in prompts.leaves), default=0)
        room = int(self.engine.model_config.max_model_len)
        if longest + options.max_new_tokens > room:
            raise ThinkrankError(
                f"a prompt of {longest} tokens with {options.max_new_tokens} new ones does not fit into the {room} "
                "that the vLLM engine was started for: raise its max_model_len or shorten the prompt"
            )

    @torch.no_grad()
    def _score(
        self, prompts: PrefixTree, written: "list[_Written]", suffix: Sequence[int]
    ) -> list[tuple[list[float], list[float], torch.Tensor]]:
        """Read each completion with the trainer's model: log-probabilities, entropies and the last state."""
        forest, scored, ends = _grow(prompts, written, suffix)
        packing = Packing(forest, self.backbone.device)
        states_TD = packed_states(self.backbone, packing)
        states_ND, tokens_N = states_TD[packing.predictors(scored)], packing.ids_T[packing.tokens(scored)]
        scores = selective_logprobs(self.backbone, states_ND, tokens_N, entropy=True)
        assert scores.entropies_N is not None  # noqa: S101 - they were asked for
        lengths = [len(one.ids) for one in written]
        return [
            (logprobs_N.tolist(), entropies_N.tolist(), last_D.clone())
            for logprobs_N, entropies_N, last_D in zip(
                scores.logprobs_N.split(lengths),
                scores.entropies_N.split(lengths),
                states_TD[packing.last_tokens(ends)],
                strict=True,
            )
        ]


@dataclass(frozen=True)
class _Written:
    """Hold a completion as vLLM wrote it, cut where the reference engine stops."""

    leaf: int
    ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    num_before_stop: int

    def completion(
        self, own_logprobs: list[float], entropies: list[float], last_state: torch.Tensor, seconds: float
    ) -> Completion:
        return Completion(
            self.ids,
            self.text,
            self.logprobs,
            tuple(own_logprobs),
            tuple(entropies),
            self.finish_reason,
            seconds,
            self.num_before_stop,
            last_state,
        )


def _request(backbone: Backbone, options: GenerationOptions, stop: str | None, seed: int) -> dict[str, Any]:
    """Fill every field of vLLM's `SamplingParams` that a caller may set, so that no default of anyone's decides."""
    return {
        "n": 1,
        "temperature": options.temperature,
        "top_k": options.top_k or 0,
        "top_p": options.top_p,
        "min_p": 0.0,
        "seed": seed,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": options.max_new_tokens,
        "min_tokens": 0,
        "ignore_eos": True,  # or tokens that only the model's own generation config names would end it too
        "stop_token_ids": sorted(backbone.end_of_turn_ids),
        "stop": [] if stop is None else [stop],
        "include_stop_str_in_output": True,
        "detokenize": stop is not None,
        "skip_special_tokens": False,  # the stop is looked for in the text that `decode` gives
        "spaces_between_special_tokens": True,
        "logprobs": 0,  # of the sampled token alone
        "prompt_logprobs": None,
        "prompt_logprob_token_ids": None,
        "prompt_logprob_start": None,
        "logprob_token_ids": None,
        "flat_logprobs": False,
        "logit_bias": None,
        "allowed_token_ids": None,
        "bad_words": [],
        "structured_outputs": None,
        "thinking_token_budget": None,
        "repetition_detection": None,
        "trace_decode_token_ids": None,
        "watermarking": False,
        "skip_reading_prefix_cache": False,
        "extra_args": None,
    }


def _read_answer(backbone: Backbone, leaf: int, answer: Any, stop: str | None, budget: int) -> _Written:
    """Take one answer of vLLM, cut where the reference engine stops.

    Raises:
        ThinkrankError: if vLLM gave up, or stopped where nothing in the ids says why.
    """
    if answer.finish_reason not in ("stop", "length"):
        raise ThinkrankError(f"vLLM gave a completion up ({answer.finish_reason}): sample again, or see its log")
    ids = tuple(answer.token_ids)
    reason, num_ids, num_before_stop, text = _find_stop(backbone, ids, stop)
    if reason is None and len(ids) < budget:
        raise ThinkrankError(
            f"vLLM ended a completion after {len(ids)} of {budget} tokens ({answer.finish_reason}, "
            f"{answer.stop_reason!r}), but its tokens hold no such end: use the transformers engine for this model"
        )
    ids = ids[:num_ids]
    logprobs = tuple(float(place[token].logprob) for token, place in zip(ids, answer.logprobs[:num_ids], strict=True))
    return _Written(leaf, ids, text, logprobs, reason or "length", num_before_stop)


def _find_stop(backbone: Backbone, ids: tuple[int, ...], stop: str | None) -> tuple[FinishReason | None, int, int, str]:
    """Find the stop in the ids themselves, so that it is where `TransformersEngine` puts it.

    A token that ends the turn counts before a stop that its own text would complete. What stands behind the stop,
    where vLLM found it later than this does, is left out.

    Returns:
        why the text ends, or None; the number of ids up to the stop and with it; those before it; their text.
    """
    end = next((i for i, token in enumerate(ids) if token in backbone.end_of_turn_ids), len(ids))
    before, count = None, end
    # the stop is complete with the first token after which it is found, seldom another than the last
    while stop is not None and (found := before_stop(backbone, ids[:count], stop)) is not None:
        before, count = found, count - 1
    if before is not None:
        return "closed", count + 1, before[1], before[0]
    reason: FinishReason | None = "end_of_turn" if end < len(ids) else None
    return reason, min(end + 1, len(ids)), end, decode(backbone, ids[:end])


def _passes(prompts: PrefixTree, written: "list[_Written]") -> "Iterator[list[_Written]]":
    """Cut completions into parts of at most `_PASS_TOKENS` tokens, prompts included, shared ones once."""
    part: list[_Written] = []
    held: set[int] = set()
    size = 0
    for one in written:
        path = prompts.path(one.leaf)
        if part and size + len(one.ids) + sum(len(prompts.ids[n]) for n in path if n not in held) > _PASS_TOKENS:
            yield part
            part, held, size = [], set(), 0
        size += len(one.ids) + sum(len(prompts.ids[node]) for node in path if node not in held)
        held.update(path)
        part.append(one)
    if part:
        yield part


def _grow(
    prompts: PrefixTree, written: "list[_Written]", suffix: Sequence[int]
) -> tuple[PrefixTree, list[int], list[int]]:
    """Put behind the prompts what was written, and beside its stop the suffix.

    Returns:
        the tree; the nodes that hold the ids of each completion, two for each; the nodes where they end for
        `last_state`.
    """
    ids: list[tuple[int, ...]] = []
    parents: list[int] = []

    def put(tokens: Sequence[int], parent: int) -> int:
        ids.append(tuple(tokens))
        parents.append(parent)
        return len(ids) - 1

    copies: dict[int, int] = {-1: -1}
    scored: list[int] = []
    ends: list[int] = []
    for one in written:
        for node in prompts.path(one.leaf):
            if node not in copies:
                copies[node] = put(prompts.ids[node], copies[prompts.parents[node]])
        kept = put(one.ids[: one.num_before_stop], copies[one.leaf])
        scored += [kept, put(one.ids[one.num_before_stop :], kept)]
        ends.append(put(suffix, kept))
    return PrefixTree(tuple(ids), tuple(parents)), scored, ends


class _ServedAdapters:
    """Keep the writers' adapters on disk, as vLLM reads them."""

    def __init__(self, backbone: Backbone, folder: Path, lora_request: Any) -> None:
        self.backbone, self.folder, self._lora_request = backbone, folder, lora_request
        self._requests: dict[str, Any] = {BASE: None, TRAINED: None}
        self._fingerprint = b""

    def request(self, writer: str) -> Any:
        """Return what asks vLLM for a writer's adapter, as it is now; None if the base acts alone."""
        if writer == TRAINED:
            digest = hashlib.blake2b()
            state = adapter_state(self.backbone)
            for name, weight in state.items():
                digest.update(name.encode())
                digest.update(weight.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes())
            if digest.digest() != self._fingerprint:
                self.write(writer, state)
                self._fingerprint = digest.digest()
        return self._requests[writer]

    def write(self, writer: str, adapter: Mapping[str, torch.Tensor]) -> None:
        """Write a new version beside the old one, then delete that: vLLM has read it and will not be asked for it.

        Of a model without an adapter there is nothing to write: its writers are all the base.
        """
        if not adapter:
            self._requests[writer] = None
            return
        version = next(_versions)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f"adapter-{version}-", dir=self.folder)).resolve()
        # without a look at the base model's embeddings, for which peft would ask the hub
        self.backbone.model.save_pretrained(path, state_dict=dict(adapter), save_embedding_layers=False)
        outdated, self._requests[writer] = (
            self._requests.get(writer),
            self._lora_request(lora_name=path.name, lora_int_id=version, lora_path=str(path)),
        )
        if outdated is not None:
            shutil.rmtree(outdated.lora_path, ignore_errors=True)


def _vllm() -> tuple[Any, Any, Any]:
    """Import the three names of vLLM that are used."""
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise ThinkrankError(
            "sampling with vLLM needs the vllm extra and a CUDA device: run `pip install 'thinkrank[vllm]'`"
        ) from error
    return LLM, SamplingParams, LoRARequest


def _engine_options(backbone: Backbone, given: dict[str, Any]) -> dict[str, Any]:
    """Join the arguments of `vllm.LLM`: those given, and those that this engine's promises rest on."""
    fixed: dict[str, Any] = {**_FIXED, "enable_lora": False}
    base = backbone.model.get_base_model() if hasattr(backbone.model, "get_base_model") else backbone.model
    options = {"model": base.name_or_path, "dtype": str(backbone.dtype).removeprefix("torch."), "seed": 0, **given}
    ranks = [weight.shape[0] for name, weight in adapter_state(backbone).items() if "lora_A" in name]
    if ranks:
        allowed = next((rank for rank in _RANKS if rank >= max(ranks)), None)
        if allowed is None:
            raise ThinkrankError(f"vLLM serves adapters up to rank {_RANKS[-1]}, not {max(ranks)}: choose a lower rank")
        if options["dtype"] in ("float32", "float", torch.float32):
            raise ThinkrankError("vLLM computes adapters in 16 bits only: load the model with dtype='bfloat16'")
        fixed |= {"enable_lora": True, "max_lora_rank": allowed, "max_loras": 1, "max_cpu_loras": 1}
    if clash := fixed.keys() & given.keys():
        raise ValueError(f"the engine sets {', '.join(sorted(clash))} itself: leave it out")
    if not options["model"]:
        raise ThinkrankError(
            f"vLLM reads a model from a folder or the hub, and {backbone.source!r} came from neither: "
            "save it with save_pretrained and name the folder as `model`"
        )
    return {"tokenizer": options["model"], **options, **fixed}
