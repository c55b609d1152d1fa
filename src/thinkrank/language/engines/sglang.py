"""The same completions, written by SGLang: the optional third engine.

**We have not run this on a GPU.** It is written against the sources of SGLang 0.5.23 and tested against what was
recorded from them (`tests/language/engines/sglang_contract.json`).

SGLang tells log-probabilities after the temperature but before top-k and top-p, and hidden states of what it wrote, not
behind the closing that follows: the trainer's own model reads both, as for any server (`served`). What a token was
drawn from is then right for temperature, top-k and top-p alike.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thinkrank.errors import ThinkrankError
from thinkrank.language.adapters import adapter_state
from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.served import Answer, ServedEngine, served_from
from thinkrank.language.options import GenerationOptions
from thinkrank.language.prefix_tree import PrefixTree

_ALL = -1
"""What SGLang's top_k is for the whole vocabulary."""

_FIXED = {
    "sampling_defaults": "openai",  # not those that the model's own generation config names
    "enable_deterministic_inference": True,  # without it seeds of requests are not heard
    "skip_tokenizer_init": False,
    "trust_remote_code": False,
}
"""Engine options that the promises of `Engine` rest on."""


class SglangEngine(ServedEngine):
    """Engine that asks SGLang; see `ServedEngine`. Not run on a GPU by us; see the module's docstring.

    Top-k and top-p together are refused: SGLang takes both from the whole distribution, the other engines top-p from
    what top-k left.

    Args:
        backbone: the model that trains, with the adapter of the writer "trained" if there is one.
        folder: where adapters are written for SGLang; one version is kept of each writer.
        engine: a running `sglang.Engine` to use, started as `engine_options` here would be; None starts one.
        engine_options: more arguments of `sglang.Engine`. The model is served from where it was loaded, in the number
            format of its weights, unless `model_path` or `dtype` say otherwise.

    Raises:
        ThinkrankError: if SGLang is not installed, or cannot serve this model or its adapter.
        ValueError: for an engine option that this class sets itself.
    """

    name = "SGLang"
    temperatures = (1e-6, float("inf"))  # below it decodes greedily
    room_option = "context_length"

    def __init__(self, backbone: Backbone, *, folder: Path, engine: Any = None, **engine_options: Any) -> None:
        if engine is not None and engine_options:
            raise ValueError(f"a running engine takes no more options: {', '.join(sorted(engine_options))}")
        super().__init__(backbone, folder)
        self.engine: Any = _sglang()(**_engine_options(backbone, engine_options)) if engine is None else engine

    @property
    def room(self) -> int:
        """Return how many tokens a prompt and its completion may have together."""
        return int(self.engine.tokenizer_manager.context_len)

    def _check(self, prompts: PrefixTree, options: GenerationOptions) -> None:
        super()._check(prompts, options)
        if options.temperature and options.top_k is not None and options.top_p < 1:
            raise ThinkrankError(
                f"SGLang takes top_k and top_p both from the whole distribution, and not top_p from what top_k left: "
                f"set top_k = {options.top_k} or top_p = {options.top_p:g} alone, or use another engine"
            )

    def _load(self, name: str, number: int, folder: Path) -> str:
        self._told(self.engine.load_lora_adapter(lora_name=name, lora_path=str(folder)), "takes", name)
        return name

    def _unload(self, adapter: str) -> None:
        self._told(self.engine.unload_lora_adapter(lora_name=adapter), "gives up", adapter)

    def _told(self, answer: Any, does: str, name: str) -> None:
        if not answer.success:
            raise ThinkrankError(
                f"SGLang no longer {does} adapters ({name}: {answer.error_message}): start a new engine; a larger "
                "max_loaded_loras may help"
            )

    def _ask(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        options: GenerationOptions,
        stop: str | None,
        adapter: Any,
    ) -> list[Answer]:
        answers = self.engine.generate(
            input_ids=[list(prompt) for prompt in prompts],
            sampling_params=[_request(self.backbone, options, stop, seed) for seed in seeds],
            lora_path=None if adapter is None else [adapter] * len(prompts),
        )
        return [_answer(one) for one in answers]


def _answer(one: Any) -> Answer:
    reason = one["meta_info"]["finish_reason"]
    return Answer(tuple(one["output_ids"]), None, reason["type"], reason.get("matched", reason.get("message")))


def _request(backbone: Backbone, options: GenerationOptions, stop: str | None, seed: int) -> dict[str, Any]:
    """Fill every field of SGLang's `SamplingParams` that a caller may set, so that no default of anyone's decides."""
    return {
        "max_new_tokens": options.max_new_tokens,
        "stop": [] if stop is None else [stop],
        "stop_token_ids": sorted(backbone.end_of_turn_ids),
        "stop_regex": None,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k or _ALL,
        "min_p": 0.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "repetition_penalty": 1.0,
        "min_new_tokens": 0,
        "n": 1,
        "beam_width": None,
        "json_schema": None,
        "regex": None,
        "ebnf": None,
        "structural_tag": None,
        "ignore_eos": True,  # or tokens that only the model's own generation config names would end it too
        "skip_special_tokens": False,  # the stop is looked for in the text that `decode` gives
        "spaces_between_special_tokens": True,
        "no_stop_trim": True,
        "stream_interval": None,
        "logit_bias": None,
        "sampling_seed": seed,
        "custom_params": None,
        "watermark": None,
    }


def _sglang() -> Any:
    """Import the name of SGLang that is used."""
    try:
        from sglang import Engine
    except ImportError as error:
        raise ThinkrankError(
            "sampling with SGLang needs the sglang extra and a CUDA device: run `pip install 'thinkrank[sglang]'`"
        ) from error
    return Engine


def _engine_options(backbone: Backbone, given: dict[str, Any]) -> dict[str, Any]:
    """Join the arguments of `sglang.Engine`: those given, and those that this engine's promises rest on."""
    fixed: dict[str, Any] = {**_FIXED, "enable_lora": False}
    options = {"dtype": str(backbone.dtype).removeprefix("torch."), "random_seed": 0, **given}
    downs = {name: weight for name, weight in adapter_state(backbone).items() if ".lora_A." in name}
    if downs:
        layers = sorted({name.partition(".lora_A.")[0].rpartition(".")[2] for name in downs})
        fixed |= {
            "enable_lora": True,
            "max_lora_rank": max(weight.shape[0] for weight in downs.values()),
            "lora_target_modules": layers,
            "max_loras_per_batch": 2,  # one call is by one writer; the base counts as another
        }
    if clash := fixed.keys() & given.keys():
        raise ValueError(f"the engine sets {', '.join(sorted(clash))} itself: leave it out")
    return {**options, "model_path": served_from(backbone, "SGLang", "model_path", given), **fixed}
