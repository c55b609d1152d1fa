"""The same completions, written by vLLM: the optional second engine.

**We have not run this on a GPU.** It is written against the sources of vLLM 0.33.0 and tested against what was recorded
from them (`tests/language/engines/vllm_contract.json`); one test waits for a machine that has vLLM and CUDA.

vLLM tells log-probabilities as they were drawn, and hands out neither hidden states nor entropies: see `served` for how
these are read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from thinkrank.errors import ThinkrankError
from thinkrank.language.adapters import adapter_state
from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.served import Answer, ServedEngine, served_from
from thinkrank.language.options import GenerationOptions

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM allows as the largest rank of its adapters."""

_FIXED = {
    "generation_config": "vllm",
    "logprobs_mode": "processed_logprobs",  # after temperature, top-k and top-p; of greedy decoding the model's own
    "enable_prefix_caching": True,
    "trust_remote_code": False,
}
"""Engine options that the promises of `Engine` rest on."""


class VllmEngine(ServedEngine):
    """Engine that asks vLLM; see `ServedEngine`. Not run on a GPU by us; see the module's docstring.

    vLLM schedules by its engine options `max_num_seqs` and `gpu_memory_utilization` (which should leave room for the
    model that trains).

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

    name = "vLLM"
    temperatures = (0.01, 2.0)  # it raises a positive one below without an error, and refuses one above
    room_option = "max_model_len"

    def __init__(self, backbone: Backbone, *, folder: Path, engine: Any = None, **engine_options: Any) -> None:
        if engine is not None and engine_options:
            raise ValueError(f"a running engine takes no more options: {', '.join(sorted(engine_options))}")
        super().__init__(backbone, folder)
        llm, self._sampling_params, self._lora_request = _vllm()
        self.engine: Any = llm(**_engine_options(backbone, engine_options)) if engine is None else engine
        if self.engine.model_config.logprobs_mode != _FIXED["logprobs_mode"]:
            raise ThinkrankError(
                f"the vLLM engine reports {self.engine.model_config.logprobs_mode}: start it with "
                f"logprobs_mode={_FIXED['logprobs_mode']!r}, or its log-probabilities are not those of the sampling"
            )

    @property
    def room(self) -> int:
        """Return how many tokens a prompt and its completion may have together."""
        return int(self.engine.model_config.max_model_len)

    def _load(self, name: str, number: int, folder: Path) -> Any:
        return self._lora_request(lora_name=name, lora_int_id=number, lora_path=str(folder))

    def _unload(self, adapter: Any) -> None:
        """Do nothing: vLLM has read it, and gives up what is asked for longest ago by itself."""

    def _ask(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        options: GenerationOptions,
        stop: str | None,
        adapter: Any,
    ) -> list[Answer]:
        answers = self.engine.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts],
            [self._sampling_params(**_request(self.backbone, options, stop, seed)) for seed in seeds],
            use_tqdm=False,
            lora_request=adapter,
        )
        return [_answer(one.outputs[0]) for one in answers]


def _answer(one: Any) -> Answer:
    ids = tuple(one.token_ids)
    logprobs = tuple(float(place[token].logprob) for token, place in zip(ids, one.logprobs, strict=True))
    return Answer(ids, logprobs, one.finish_reason, one.stop_reason)


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
    options = {"dtype": str(backbone.dtype).removeprefix("torch."), "seed": 0, **given}
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
    model = served_from(backbone, "vLLM", "model", given)
    return {"tokenizer": model, **options, "model": model, **fixed}
