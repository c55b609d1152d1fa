"""Writing lists: the loop of choices and thoughts, for any generator.

What the loop does at each place of the list, for all rows at once:

1. score the candidates and take the entropy of the choice;
2. while a row's gate says so, let it consume a thought and score again; only those rows are computed;
3. choose among what is available, at the choosing temperature, and consume what was chosen.

Rows are independent: each gets what it would get alone. Writing anew (`write`) and recomputing what was written
(`replay`) are the same loop; in a replay items and the number of thoughts are given, because a gate that was asked
again under changed weights would change what the probabilities are conditioned on.

Stated behaviour. Candidates may be fewer than places: the list then ends early (column -1). With one candidate left
there is no choice, so nothing is thought in any mode, and its probability is 1. Of equal scores the first candidate is
chosen. With as many places as candidates the list is a permutation.

Shape legend: B requests, R rows, A some of these rows, N candidates, K places, M lists per request.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.rerank.eglr.config import GATED
from thinkrank.rerank.eglr.generators.base import Context, Generator, Rows, Slot
from thinkrank.rerank.eglr.reasoning import Reasoner, entropy, log_probabilities, masked_scores

Gate = Callable[[int, int, Tensor | None, "_Moment", Tensor], Tensor | None]
"""Called with place, number of thoughts so far, indices of A rows (None: all R), what these are about to choose by, and
how many candidates all R rows have left; returns which of the A think (once more), None if none does."""

Observer = Callable[[int, Tensor | None, Tensor], None]
"""Called at one place before and after every thought with the number of thoughts so far, the indices of A rows (None:
all R), and their scores."""

Choice = Callable[[int, Tensor], Tensor]
"""Called with place and log-probabilities of the R rows' candidates; returns a column for each."""


@dataclass(frozen=True)
class Written:
    """Hold lists, and how they came about. Places beyond the last candidate hold 0 (columns: -1).

    Attributes:
        columns_RK: which candidate stands at each place.
        logprobs_RK: of that choice, in nats, under the distribution it is drawn from.
        entropies_before_RK: of the choice before thinking, in nats, at the gate's temperature.
        entropies_after_RK: the same after thinking; equal where nothing was thought.
        steps_RK: how many thoughts preceded the choice.
        compared_RK: what the gate compares, before thinking: the entropy, normalised or not, or the predicted gain.
    """

    columns_RK: Int[Tensor, "R K"]
    logprobs_RK: Float[Tensor, "R K"]
    entropies_before_RK: Float[Tensor, "R K"]
    entropies_after_RK: Float[Tensor, "R K"]
    steps_RK: Int[Tensor, "R K"]
    compared_RK: Float[Tensor, "R K"]

    @property
    def chosen_RK(self) -> Bool[Tensor, "R K"]:
        """Return True where there was a candidate to choose."""
        return self.columns_RK >= 0

    def copied(self) -> "Written":
        """Return a copy that a gradient may be computed with: what was written while serving may not be."""
        return Written(*(getattr(self, field.name).clone() for field in fields(Written)))

    def best_of(self, values_BM: Float[Tensor, "B M"]) -> "Written":
        """Keep, of the M lists of each request, which follow one another, that of largest value, of equals the first.

        With an evaluator's judgement as the value this is the paper's Pass@K.
        """
        lists = values_BM.shape[1]
        index_B = torch.arange(len(values_BM), device=values_BM.device) * lists + values_BM.argmax(dim=1)
        return Written(*(getattr(self, field.name)[index_B] for field in fields(Written)))


@dataclass(frozen=True)
class Replayed(Written):
    """Hold lists whose probabilities were recomputed.

    Attributes:
        choice_entropies_RK: of the distribution that items are drawn from, in nats.
        wanted_logprobs_RK: of choosing any wanted candidate that is left; 0 where none is.
        taught_logprobs_RK: of all that is left, weighted as was asked; None if nothing was asked.
        by_thought_RKT: that of `taught_logprobs_RK`, or without weights of `wanted_logprobs_RK`, after 0, 1, ...
            thoughts; NaN beyond those that were made. None if it was not asked for.
        gains_RKT: of the thoughts that the predictor expects after 0, 1, ... thoughts, NaN where none followed; None
            without a predictor, or if it was not asked for.
    """

    choice_entropies_RK: Float[Tensor, "R K"]
    wanted_logprobs_RK: Float[Tensor, "R K"]
    taught_logprobs_RK: Float[Tensor, "R K"] | None = None
    by_thought_RKT: Float[Tensor, "R K T"] | None = None
    gains_RKT: Float[Tensor, "R K T"] | None = None


def joined(parts: Sequence[Written]) -> Written:
    """Join several batches into one."""
    return Written(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Written)))


@dataclass(frozen=True)
class Noise:
    """Hold chance for a batch of lists, drawn before the first choice, so that a row's draws do not depend on others'.

    Attributes:
        choice_RKN: exponential draws; item i is chosen where log p_i - log draw_i is largest, so each with its
            probability (Gumbel-max). Rows of ones choose greedily. None: every row does.
        thinking_RK: uniform draws for the mode "random"; None for the others.
    """

    choice_RKN: Float[Tensor, "R K N"] | None = None
    thinking_RK: Float[Tensor, "R K"] | None = None

    @classmethod
    def sample(
        cls, rows: int, places: int, candidates: int, random: torch.Generator, *, greedy_every: int | None = None
    ) -> "Noise":
        """Draw for rows that choose at random, and may think at random.

        R rows, K places and N candidates are drawn on the CPU; every `greedy_every` rows one chooses greedily,
        beginning with the first (None: none does).
        """
        choice_RKN = torch.empty(rows, places, candidates).exponential_(generator=random)
        choice_RKN.clamp_(min=torch.finfo(choice_RKN.dtype).tiny)
        if greedy_every is not None:
            choice_RKN[::greedy_every] = 1.0
        return cls(choice_RKN, torch.rand(rows, places, generator=random))

    def to(self, device: torch.device) -> "Noise":
        """Copy the draws to another device."""
        return Noise(*(None if drawn is None else drawn.to(device) for drawn in (self.choice_RKN, self.thinking_RK)))

    def take(self, rows: slice) -> "Noise":
        """Return the draws of some rows."""
        return Noise(*(None if drawn is None else drawn[rows] for drawn in (self.choice_RKN, self.thinking_RK)))


def write(
    generator: Generator, reasoner: Reasoner, context: Context, places: int, noise: Noise | None = None
) -> Written:
    """Write one list per row of the context, greedily or at random.

    The context is what `generator.encode` returned, a row for each list; there is at least 1 place; without noise
    choices are greedy.

    Raises:
        ValueError: if the mode is "entropy" and the threshold is not set, or "random" and there is no noise.
    """
    noise = noise or Noise()
    trace = _loop((generator, reasoner), context, places, _gate(reasoner, noise), _choice(noise))
    written = Written(**trace)
    _check_lists(context.mask_RN, written.columns_RK)
    return written


def replay(
    generator: Generator,
    reasoner: Reasoner,
    context: Context,
    columns_RK: Int[Tensor, "R K"],
    steps_RK: Int[Tensor, "R K"],
    wanted_RN: Bool[Tensor, "R N"] | None = None,
    weights_RKN: Float[Tensor, "R K N"] | None = None,
    *,
    every_thought: bool = False,
) -> Replayed:
    """Recompute probabilities and entropies of lists that were written, with as many thoughts as there were.

    The reasoner's mode is not looked at. Columns are -1 from where a list ended; `steps_RK` are the thoughts before
    each choice, `wanted_RN` the candidates whose probability, taken together, is asked for too (None: none is), and
    `weights_RKN`, 0 for what is not available, by what the log-probabilities of each place are to be summed. With
    `every_thought` what is taught is told after every thought too.

    Raises:
        ValueError: if a list repeats a candidate or names one that does not exist.
    """
    _check_lists(context.mask_RN, columns_RK)
    chosen_RK = columns_RK.clamp(min=0)

    def recorded(place: int, thoughts: int, rows_A: Tensor | None, *_: object) -> Tensor:
        return _some(steps_RK[:, place], rows_A) > thoughts

    wanted_RN = torch.zeros_like(context.mask_RN) if wanted_RN is None else wanted_RN
    trace = _loop(
        (generator, reasoner),
        context,
        columns_RK.shape[1],
        recorded,
        lambda place, _: chosen_RK[:, place],
        _Lesson(wanted_RN, weights_RKN, int(steps_RK.max()) + 1 if every_thought else 0),
    )
    return Replayed(**trace)


@dataclass(frozen=True)
class _Lesson:
    """Hold what a replay is asked for.

    Attributes:
        wanted_RN: the candidates whose probability, taken together, is asked for.
        weights_RKN: by what log-probabilities are summed; None if that is not asked for.
        moments: T, the most thoughts before a place and one; 0 if what comes after every thought is not asked for.
    """

    wanted_RN: Bool[Tensor, "R N"]
    weights_RKN: Float[Tensor, "R K N"] | None
    moments: int

    def taught(
        self, place: int, rows_A: Tensor | None, logprobs_AN: Float[Tensor, "A N"], available_AN: Bool[Tensor, "A N"]
    ) -> Float[Tensor, "A"]:
        """Return the log-probability of what is taught at a place: the weighted sum, or of any wanted candidate."""
        if self.weights_RKN is None:
            return _any_of(logprobs_AN, _some(self.wanted_RN, rows_A) & available_AN)
        return (_some(self.weights_RKN[:, place], rows_A) * logprobs_AN).sum(dim=1)


@dataclass(frozen=True)
class _Moment(Rows):
    """Hold what each row is about to choose by.

    Attributes:
        state: the generator's.
        scores_RN: masked.
        entropies_R: of the choice, in nats, at the gate's temperature.
    """

    state: Rows
    scores_RN: Float[Tensor, "R N"]
    entropies_R: Float[Tensor, "R"]


def _moment(generator: Generator, reasoner: Reasoner, context: Context, state: Rows, available_RN: Tensor) -> _Moment:
    scores_RN = masked_scores(generator.logits(context, state), available_RN)
    return _Moment(state, scores_RN, entropy(log_probabilities(scores_RN, reasoner.options.gate_temperature)))


def _think(
    writer: tuple[Generator, Reasoner],
    context: Context,
    moment: _Moment,
    available_RN: Bool[Tensor, "R N"],
    left_R: Int[Tensor, "R"],
    place: int,
    gate: Gate,
    observe: Observer,
) -> tuple[_Moment, Int[Tensor, "R"]]:
    """Let rows think as long as their gate is open. Only these are computed, and the others stay as they are.

    Returns:
        The moment of choice, and how often each row thought.
    """
    generator, reasoner = writer
    counts_R = torch.zeros_like(left_R)
    open_R = gate(place, 0, None, moment, left_R)
    rows_A = None if open_R is None else (open_R & (left_R > 1)).nonzero()[:, 0]
    if rows_A is None or not len(rows_A):
        return moment, counts_R
    now, thoughts = moment, 0
    if len(rows_A) < len(left_R):
        now, context, available_RN = moment.take(rows_A), context.take(rows_A), available_RN.index_select(0, rows_A)
    while True:
        tokens_AD = reasoner.token(now.scores_RN, available_RN, context, now.state, thoughts)
        state = generator.step(context, now.state, tokens_AD, Slot(place, thoughts))
        now = _moment(generator, reasoner, context, state, available_RN)
        thoughts += 1
        observe(thoughts, rows_A, now.scores_RN)
        open_A = gate(place, thoughts, rows_A, now, left_R)
        more = rows_A[:0] if open_A is None else open_A.nonzero()[:, 0]
        if open_A is None or not len(more):
            counts_R.index_fill_(0, rows_A, thoughts)
            return moment.put(rows_A, now), counts_R
        if len(more) < len(rows_A):
            done = (~open_A).nonzero()[:, 0]
            rows_D = rows_A.index_select(0, done)
            moment = moment.put(rows_D, now.take(done))
            counts_R.index_fill_(0, rows_D, thoughts)
            rows_A, now, context = rows_A.index_select(0, more), now.take(more), context.take(more)
            available_RN = available_RN.index_select(0, more)


def _loop(
    writer: tuple[Generator, Reasoner],
    context: Context,
    places: int,
    gate: Gate | None,
    choice: Choice,
    lesson: _Lesson | None = None,
) -> dict[str, Tensor]:
    """Return the fields of `Written` or, if something is taught, of `Replayed`."""
    if places < 1:
        raise ValueError(f"a list has at least one place, got {places}")
    generator, reasoner = writer
    available_RN, num_R = context.mask_RN, context.mask_RN.sum(dim=1)
    first_R = torch.arange(len(num_R), device=num_R.device) * available_RN.shape[1]
    state = generator.init_state(context)
    trace: defaultdict[str, list[Tensor]] = defaultdict(list)
    for place in range(places):
        left_R = (num_R - place).clamp(min=0)
        moment = _moment(generator, reasoner, context, state, available_RN)
        trace["entropies_before_RK"].append(moment.entropies_R.clone())  # thinking may overwrite it
        compared_R = reasoner.compared(moment.scores_RN, moment.entropies_R, left_R, at=(place, 0))
        trace["compared_RK"].append(compared_R.clone())
        counts_R, steps = torch.zeros_like(left_R), _Steps(lesson, reasoner, place, available_RN, left_R)
        steps.observe(0, None, moment.scores_RN)
        if gate is not None:
            moment, counts_R = _think(writer, context, moment, available_RN, left_R, place, gate, steps.observe)
        logprobs_RN = log_probabilities(moment.scores_RN, reasoner.options.choose_temperature)
        chosen_R = choice(place, logprobs_RN)
        trace["columns_RK"].append(chosen_R)
        trace["logprobs_RK"].append(logprobs_RN.gather(1, chosen_R[:, None])[:, 0])
        trace["entropies_after_RK"].append(moment.entropies_R)
        trace["steps_RK"].append(counts_R)
        if lesson is not None:
            trace["choice_entropies_RK"].append(entropy(logprobs_RN))
            trace["wanted_logprobs_RK"].append(_any_of(logprobs_RN, lesson.wanted_RN & available_RN))
            if lesson.weights_RKN is not None:
                trace["taught_logprobs_RK"].append(lesson.taught(place, None, logprobs_RN, available_RN))
            for name, values_RT in steps.told().items():
                trace[name].append(values_RT)
        if place + 1 < places:  # nobody asks what the last item changes
            available_RN = available_RN.scatter(1, chosen_R[:, None], False)
            tokens_RD = context.tokens_RND.flatten(0, 1).index_select(0, first_R + chosen_R)
            state = generator.step(context, moment.state, tokens_RD, Slot(place, None))
    ended_RK = torch.arange(places, device=num_R.device) >= num_R[:, None]
    return {
        name: values.masked_fill(ended_RK.view(*ended_RK.shape, *[1] * (values.ndim - 2)), _ENDED.get(name, 0))
        for name, values in ((name, torch.stack(column, dim=1)) for name, column in trace.items())
    }


_ENDED = {"columns_RK": -1, "by_thought_RKT": torch.nan, "gains_RKT": torch.nan}
"""What stands on places behind the last candidate, where it is not 0."""


class _Steps:
    """Keep what is taught, and what the predictor expects, after every thought at one place."""

    def __init__(
        self, lesson: _Lesson | None, reasoner: Reasoner, place: int, available_RN: Tensor, left_R: Tensor
    ) -> None:
        self.lesson, self.reasoner, self.place = lesson, reasoner, place
        self.available_RN, self.left_R = available_RN, left_R
        self.taught: list[Tensor] = []
        self.gains: list[Tensor] = []

    def observe(self, thoughts: int, rows_A: Tensor | None, scores_AN: Tensor) -> None:
        """Note a moment of some rows, if it was asked for."""
        if self.lesson is None or not self.lesson.moments:
            return
        logprobs_AN = log_probabilities(scores_AN, self.reasoner.options.choose_temperature)
        available_AN, left_A = _some(self.available_RN, rows_A), _some(self.left_R, rows_A)
        self.taught.append(self._all(self.lesson.taught(self.place, rows_A, logprobs_AN, available_AN), rows_A))
        if self.reasoner.options.predicts_gain:
            self.gains.append(self._all(self.reasoner.gain(scores_AN, left_A, self.place, thoughts), rows_A))

    def told(self) -> dict[str, Tensor]:
        """Return the fields of `Replayed` for this place, R x T each."""
        named = {"by_thought_RKT": self.taught, "gains_RKT": self.gains}
        return {name: self._filled(columns) for name, columns in named.items() if columns}

    def _all(self, values_A: Tensor, rows_A: Tensor | None) -> Tensor:
        if rows_A is None:
            return values_A
        return values_A.new_full((len(self.left_R),), torch.nan).index_copy(0, rows_A, values_A)

    def _filled(self, columns: list[Tensor]) -> Tensor:
        moments = self.lesson.moments if self.lesson else 0
        return torch.stack([*columns, *[torch.full_like(columns[0], torch.nan)] * (moments - len(columns))], dim=1)


def _any_of(logprobs_RN: Float[Tensor, "R N"], wanted_RN: Bool[Tensor, "R N"]) -> Float[Tensor, "R"]:
    """Return the log-probability of any wanted candidate, log Σ_{i wanted} p_i; 0 where nothing is wanted."""
    nothing_R = ~wanted_RN.any(dim=1)
    return (
        logprobs_RN.masked_fill(~(wanted_RN | nothing_R[:, None]), -torch.inf).logsumexp(1).masked_fill(nothing_R, 0.0)
    )


def _gate(reasoner: Reasoner, noise: Noise) -> Gate | None:
    """Say when a row thinks, by the configured mode; None if it never does."""
    options, thinking_RK = reasoner.reasoning, noise.thinking_RK
    most, threshold = options.max_steps, options.threshold
    if options.mode == "none" or most == 0:
        return None
    if options.lacks_threshold:
        raise ValueError(
            f"the threshold of the {options.mode} gate is not set; calibrate it, or give reasoning.threshold"
        )
    if options.mode == "random" and thinking_RK is None:
        raise ValueError("thinking at random needs noise")

    def opens(place: int, thoughts: int, rows_A: Tensor | None, now: _Moment, left_R: Tensor) -> Tensor | None:
        if thoughts >= most or (options.mode == "prefix" and place > 0):
            return None
        if threshold is not None and options.mode in GATED:
            left_A = _some(left_R, rows_A)
            return reasoner.compared(now.scores_RN, now.entropies_R, left_A, at=(place, thoughts)) > threshold
        if thinking_RK is not None and options.mode == "random":
            return _some(thinking_RK[:, place], rows_A) < options.random_rate
        return torch.ones_like(now.entropies_R, dtype=torch.bool)

    return opens


def _some(values_R: Tensor, rows_A: Tensor | None) -> Tensor:
    return values_R if rows_A is None else values_R.index_select(0, rows_A)


def _choice(noise: Noise) -> Choice:
    """Choose greedily, or at random by Gumbel-max."""
    if noise.choice_RKN is None:
        return lambda place, logprobs_RN: logprobs_RN.argmax(dim=1)
    log_noise_RKN = noise.choice_RKN.log()
    return lambda place, logprobs_RN: (logprobs_RN - log_noise_RKN[:, place]).argmax(dim=1)


def _check_lists(mask_RN: Bool[Tensor, "R N"], columns_RK: Int[Tensor, "R K"]) -> None:
    """Refuse lists that repeat a candidate, name padding, or end before their candidates do.

    Raises:
        ValueError: in that case.
    """
    places_K = torch.arange(columns_RK.shape[1], device=mask_RN.device)
    there_RK = places_K < mask_RN.sum(dim=1, keepdim=True)
    counts_RN = torch.zeros_like(mask_RN, dtype=torch.long)
    in_range = bool((columns_RK < mask_RN.shape[1]).all()) and torch.equal(columns_RK >= 0, there_RK)
    if in_range:
        counts_RN.scatter_add_(1, columns_RK.clamp(min=0), there_RK.long())
    if not in_range or bool((counts_RN > mask_RN).any()):
        raise ValueError(
            "a list repeats a candidate, names padding or ends too early; scores that are no numbers do that, too"
        )
