"""Engines that ask a server, which holds a copy of the base model: what those have in common.

The server's copy is frozen, and each writer is served as an adapter: its weights go to a folder in peft's format,
those of "trained" anew whenever they changed (by a fingerprint, at each call) and under a new name, and no base is ever
merged. Servers share what prompts share by caches of their own, so every prompt is sent whole. What was written is read
once by the trainer's own model, in packed passes with the writer's weights: that gives the entropies, the states, and
the log-probabilities under the model's own distribution of `Completion`; and, where a server does not tell them as
they were drawn, those after temperature, top-k and top-p.

Shape legend: T tokens of a pass, N tokens written, V vocabulary, D width.
"""

import hashlib
import itertools
import shutil
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thinkrank.errors import ThinkrankError
from thinkrank.language.adapters import adapter_state
from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.base import BASE, TRAINED, Completion
from thinkrank.language.engines.transformers import before_stop, completion_seed, decode, leaf_seeds, sampling_logprobs
from thinkrank.language.engines.writers import Writers
from thinkrank.language.logprobs import logits, selective_logprobs
from thinkrank.language.options import FinishReason, GenerationOptions
from thinkrank.language.packing import Packing, packed_states
from thinkrank.language.prefix_tree import PrefixTree

_PASS_TOKENS = 2**14
"""Tokens that the trainer's model reads in one pass, unless a single completion is longer."""

_ROWS = 256
"""Tokens whose distributions over the whole vocabulary are held together."""

_versions = itertools.count(1)
"""A server knows an adapter by its number or name, and cached prefixes by it: none is used twice in a process."""


@dataclass(frozen=True)
class Answer:
    """Hold what a server wrote.

    Attributes:
        ids: the tokens.
        logprobs: of each, after temperature, top-k and top-p; None if the server does not tell that.
        finish_reason: "stop" or "length"; anything else means that it gave up.
        because: what the server says of the reason, for whoever reads an error.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    finish_reason: str
    because: object = None


class ServedEngine(ABC):
    """Engine that asks a server. Threads may ask at once; they are served one after the other.

    The distribution is that of `TransformersEngine`, the draws are not: the same seeds give other texts, which repeat
    from run to run as far as the server's own arithmetic does. Of the options, `batch_size` and `kv_gib` mean nothing
    here: servers schedule by their own.

    Args:
        backbone: the model that trains, with the adapter of the writer "trained" if there is one.
        folder: where adapters are written for the server; one version is kept of each writer.

    Raises:
        ThinkrankError: if more than an adapter trains.
    """

    name: ClassVar[str]
    """What messages call the server."""
    temperatures: ClassVar[tuple[float, float]]
    """From which to which it samples, besides 0."""
    room_option: ClassVar[str]
    """The engine option that decides `room`."""

    def __init__(self, backbone: Backbone, folder: Path) -> None:
        self.backbone = backbone
        if any(weight.requires_grad and "lora_" not in name for name, weight in backbone.model.named_parameters()):
            raise ThinkrankError(
                f"{self.name}'s copy of the base model does not learn: freeze the base and train an adapter"
            )
        self._writers = Writers(backbone)
        self._adapters = _ServedAdapters(backbone, folder, self._load, self._unload)
        self._lock = threading.Lock()

    @property
    @abstractmethod
    def room(self) -> int:
        """Return how many tokens a prompt and its completion may have together."""

    @abstractmethod
    def _ask(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        options: GenerationOptions,
        stop: str | None,
        adapter: Any,
    ) -> list[Answer]:
        """Have the server write one completion of each prompt, with an adapter that `_load` returned or None."""

    @abstractmethod
    def _load(self, name: str, number: int, folder: Path) -> Any:
        """Let the server know an adapter, by a name and a number that were never used; return what `_ask` is given."""

    @abstractmethod
    def _unload(self, adapter: Any) -> None:
        """Let the server forget an adapter that it will not be asked for again."""

    def publish(self, writer: str, adapter: Mapping[str, Tensor]) -> None:
        """Give adapter weights a name to write under; see `Engine`."""
        with self._lock:
            self._writers.publish(writer, adapter)
            self._adapters.write(writer, adapter)

    def withdraw(self, writer: str) -> None:
        """Forget what was published under a name, and let the server forget it."""
        with self._lock:
            self._writers.withdraw(writer)
            self._adapters.drop(writer)

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
            ThinkrankError: if a prompt and its completion exceed `room`, the server does not sample so, the writer is
                unknown, or the server gave a completion up.
            ValueError: if there is not one seed per leaf.
        """
        clock = time.perf_counter()
        seeds = leaf_seeds(prompts) if seeds is None else seeds
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
                answers = self._ask(
                    [list(prompts.sequence(leaf)) for leaf, _ in wanted],
                    [seed for _, seed in wanted],
                    options,
                    stop,
                    self._adapters.request(writer),
                )
            written = [
                self._read_answer(leaf, answer, stop, options.max_new_tokens)
                for (leaf, _), answer in zip(wanted, answers, strict=True)
            ]
            scores = [
                score for part in _passes(prompts, written) for score in self._score(prompts, part, suffix, options)
            ]
        seconds = (time.perf_counter() - clock) / len(wanted)
        done = [one.completion(*score, seconds) for one, score in zip(written, scores, strict=True)]
        return [done[start : start + num_samples] for start in range(0, len(done), num_samples)]

    def _check(self, prompts: PrefixTree, options: GenerationOptions) -> None:
        """Refuse what the server would change without an error."""
        low, high = self.temperatures
        if options.temperature and not low <= options.temperature <= high:
            raise ThinkrankError(
                f"{self.name} samples with temperatures from {low:g} to {high:g}, not {options.temperature:g}: "
                "choose one of those, 0 for greedy decoding, or the transformers engine"
            )
        vocabulary = int(self.backbone.model.config.vocab_size)
        if any(token >= vocabulary for ids in prompts.ids for token in ids):
            raise ThinkrankError(
                f"{self.name} knows no items as tokens: write thoughts about histories that are read late by the "
                "transformers engine, or read histories as text (model.reading)"
            )
        longest = max((prompts.ends[leaf] for leaf in prompts.leaves), default=0)
        if longest + options.max_new_tokens > self.room:
            raise ThinkrankError(
                f"a prompt of {longest} tokens with {options.max_new_tokens} new ones does not fit into the "
                f"{self.room} that the {self.name} engine was started for: raise its {self.room_option} or shorten "
                "the prompt"
            )

    def _read_answer(self, leaf: int, answer: Answer, stop: str | None, budget: int) -> "_Written":
        """Take one answer, cut where the reference engine stops.

        Raises:
            ThinkrankError: if the server gave up, or stopped where nothing in the ids says why.
        """
        if answer.finish_reason not in ("stop", "length"):
            raise ThinkrankError(
                f"{self.name} gave a completion up ({answer.finish_reason}): sample again, or see its log"
            )
        reason, num_ids, num_before_stop, text = _find_stop(self.backbone, answer.ids, stop)
        if reason is None and len(answer.ids) < budget:
            raise ThinkrankError(
                f"{self.name} ended a completion after {len(answer.ids)} of {budget} tokens ({answer.finish_reason}, "
                f"{answer.because!r}), but its tokens hold no such end: use the transformers engine for this model"
            )
        logprobs = None if answer.logprobs is None else answer.logprobs[:num_ids]
        return _Written(leaf, answer.ids[:num_ids], text, logprobs, reason or "length", num_before_stop)

    @torch.no_grad()
    def _score(
        self, prompts: PrefixTree, written: "list[_Written]", suffix: Sequence[int], options: GenerationOptions
    ) -> list[tuple[list[float], list[float], list[float], Tensor]]:
        """Read each completion with the trainer's model.

        Returns:
            for each, its log-probabilities as drawn, those under the model's own distribution, the entropies of that,
            and the last state.
        """
        forest, scored, ends = _grow(prompts, written, suffix)
        packing = Packing(forest, self.backbone.device)
        states_TD = packed_states(self.backbone, packing)
        states_ND, tokens_N = states_TD[packing.predictors(scored)], packing.ids_T[packing.tokens(scored)]
        scores = selective_logprobs(self.backbone, states_ND, tokens_N, entropy=True)
        assert scores.entropies_N is not None  # noqa: S101 - they were asked for
        lengths = [len(one.ids) for one in written]
        told = all(one.logprobs is not None for one in written)
        drawn_N = scores.logprobs_N if told else drawn_logprobs(self.backbone, states_ND, tokens_N, options)
        return [
            (list(one.logprobs or drawn.tolist()), own.tolist(), entropies.tolist(), last_D.clone())
            for one, drawn, own, entropies, last_D in zip(
                written,
                drawn_N.split(lengths),
                scores.logprobs_N.split(lengths),
                scores.entropies_N.split(lengths),
                states_TD[packing.last_tokens(ends)],
                strict=True,
            )
        ]


def drawn_logprobs(
    backbone: Backbone, states_ND: Float[Tensor, "N D"], tokens_N: Int[Tensor, "N"], options: GenerationOptions
) -> Float[Tensor, "N"]:
    """Return the log-probability of each token under the distribution it was drawn from; see `sampling_logprobs`.

    A token that the server's rounding let in and ours cuts off has the one it would have if it were the last let in:
    it was drawn, so its probability is not 0.
    """
    parts = [torch.empty(0, device=states_ND.device)]
    for start in range(0, len(tokens_N), _ROWS):
        logits_NV = logits(backbone, states_ND[start : start + _ROWS]).float()
        index_N1 = tokens_N[start : start + _ROWS, None]
        drawn_NV = sampling_logprobs(logits_NV, options)
        drawn_N = drawn_NV.gather(1, index_N1)[:, 0]
        least_N = drawn_NV.masked_fill(drawn_NV.isneginf(), torch.inf).amin(dim=1)
        parts.append(torch.where(drawn_N.isneginf(), least_N, drawn_N))
    return torch.cat(parts)


@dataclass(frozen=True)
class _Written:
    """Hold a completion as the server wrote it, cut where the reference engine stops."""

    leaf: int
    ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...] | None
    finish_reason: FinishReason
    num_before_stop: int

    def completion(
        self, logprobs: list[float], own: list[float], entropies: list[float], last_state: Tensor, seconds: float
    ) -> Completion:
        return Completion(
            self.ids,
            self.text,
            tuple(logprobs),
            tuple(own),
            tuple(entropies),
            self.finish_reason,
            seconds,
            self.num_before_stop,
            last_state,
        )


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
    """Keep the writers' adapters on disk, as servers read them.

    Args:
        backbone: whose adapter "trained" is.
        folder: where they are written.
        load: lets the server know one.
        unload: lets it forget one.
    """

    def __init__(self, backbone: Backbone, folder: Path, load: Any, unload: Any) -> None:
        self.backbone, self.folder, self._load, self._unload = backbone, folder, load, unload
        self._served: dict[str, tuple[Any, Path] | None] = {BASE: None, TRAINED: None}
        self._fingerprint = b""

    def request(self, writer: str) -> Any:
        """Return what asks the server for a writer's adapter, as it is now; None if the base acts alone."""
        if writer == TRAINED:
            digest = hashlib.blake2b()
            state = adapter_state(self.backbone)
            for name, weight in state.items():
                digest.update(name.encode())
                digest.update(weight.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes())
            if digest.digest() != self._fingerprint:
                self.write(writer, state)
                self._fingerprint = digest.digest()
        served = self._served[writer]
        return None if served is None else served[0]

    def write(self, writer: str, adapter: Mapping[str, Tensor]) -> None:
        """Write a new version beside the old one, then delete that: the server will not be asked for it again.

        Of a model without an adapter there is nothing to write: its writers are all the base.
        """
        if not adapter:
            self._served[writer] = None
            return
        version = next(_versions)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f"adapter-{version}-", dir=self.folder)).resolve()
        # without a look at the base model's embeddings, for which peft would ask the hub
        self.backbone.model.save_pretrained(path, state_dict=dict(adapter), save_embedding_layers=False)
        outdated, self._served[writer] = self._served.get(writer), (self._load(path.name, version, path), path)
        self._give_up(outdated)

    def drop(self, writer: str) -> None:
        """Delete a writer's version; nobody writes by that name again."""
        self._give_up(self._served.pop(writer))

    def _give_up(self, served: tuple[Any, Path] | None) -> None:
        if served is not None:
            self._unload(served[0])
            shutil.rmtree(served[1], ignore_errors=True)


def served_from(backbone: Backbone, server: str, option: str, given: Mapping[str, Any]) -> str:
    """Return the folder or hub id from which a server loads the base model.

    Args:
        backbone: the model.
        server: what messages call it.
        option: the engine option that names another.
        given: engine options.

    Raises:
        ThinkrankError: if it came from neither, and none is given.
    """
    base = backbone.model.get_base_model() if hasattr(backbone.model, "get_base_model") else backbone.model
    name = str(given.get(option, base.name_or_path))
    if not name:
        raise ThinkrankError(
            f"{server} reads a model from a folder or the hub, and {backbone.source!r} came from neither: "
            f"save it with save_pretrained and name the folder as `{option}`"
        )
    return name
