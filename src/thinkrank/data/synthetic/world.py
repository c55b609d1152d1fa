"""A world whose true preferences are known: tastes that drift, choices made by them, clicks on lists.

Shape legend: U users, E events of each user, D days, V attribute values (styles, then kinds), I items, B histories,
K length of a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Integer

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.synthetic import feedback
from thinkrank.data.synthetic.options import SECONDS_PER_DAY, WorldOptions
from thinkrank.data.synthetic.words import name_items, numbered
from thinkrank.errors import ThinkrankError

NAME = "synthetic"
START = 1_577_836_800
"""The first second of every world: 2020-01-01, UTC."""

# Each kind of chance has its own stream, so that more drift, say, changes no item and no first taste.
_ITEMS, _APPEALS, _TASTES, _DRIFT, _TIMES, _CHOICES = range(6)

Slate: TypeAlias = Sequence[int] | Integer[np.ndarray, "K"]
"""Catalogue rows, the first place first."""


@dataclass(frozen=True, eq=False)
class World:
    """Users, items and events that follow from the options alone, on every machine with the same NumPy.

    What an item is worth to a user on day d (its utility, a logit) is

        utility = appeal_item + taste_user,d[style] + taste_user,d[kind],

    appeals and first tastes being normal with mean 0. At every midnight each taste takes a step of a random walk,
    normal with standard deviation `drift`. Users act at random seconds, no two in the same one, and take an item they
    have not taken with probability softmax(utility / temperature).

    In memory the tastes take 8 * users * days * (styles + kinds) bytes.

    Attributes:
        options: what the world is like.
    """

    options: WorldOptions = field(default_factory=WorldOptions)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Return the items; their words also stand in the columns ``categories``, ``style`` and ``kind``."""
        return name_items(self.styles_I, self.kinds_I)

    @cached_property
    def styles_I(self) -> Int64[np.ndarray, "I"]:
        """Return the number of each item's style, from 0."""
        return self._pairs_I // self.options.kinds

    @cached_property
    def kinds_I(self) -> Int64[np.ndarray, "I"]:
        """Return the number of each item's kind, from 0."""
        return self._pairs_I % self.options.kinds

    @cached_property
    def appeals_I(self) -> Float64[np.ndarray, "I"]:
        """Return what each item is worth to everybody."""
        return self.options.appeal * self._random(_APPEALS).standard_normal(self.options.items)

    @cached_property
    def tastes_UDV(self) -> Float64[np.ndarray, "U D V"]:
        """Return what each style, then each kind, is worth to each user on each day."""
        options = self.options
        values = options.styles + options.kinds
        first = options.taste * self._random(_TASTES).standard_normal((options.users, 1, values))
        steps = options.drift * self._random(_DRIFT).standard_normal((options.users, options.days - 1, values))
        return np.cumsum(np.concatenate([first, steps], axis=1), axis=1)

    @cached_property
    def times_UE(self) -> Int64[np.ndarray, "U E"]:
        """Return when each user acts, in seconds since 1970, UTC; ascending in rows, and no second twice."""
        options = self.options
        shape = (options.users, options.events)
        drawn = self._random(_TIMES).choice(options.days * SECONDS_PER_DAY, shape, replace=False)
        return START + np.sort(drawn.astype(np.int64), axis=1)

    @cached_property
    def items_UE(self) -> Int32[np.ndarray, "U E"]:
        """Return what each user takes."""
        random, options = self._random(_CHOICES), self.options
        chosen_UE = np.empty((options.users, options.events), dtype=np.int32)
        for user, times_E in enumerate(self.times_UE):
            logits_EI = self._utilities(np.full(options.events, user), times_E) / options.temperature
            # The largest of logits with Gumbel noise is a draw from their softmax.
            noisy_EI = logits_EI + random.gumbel(size=logits_EI.shape)
            for event in range(options.events):
                chosen_UE[user, event] = noisy_EI[event].argmax()
                noisy_EI[:, chosen_UE[user, event]] = -np.inf
        return chosen_UE

    def dataset(self) -> Dataset:
        """Return what happened. User u of `Dataset.users` is user u here, and rows of the catalogue are the same."""
        interactions = pl.DataFrame(
            {
                "user": np.repeat(numbered("u", self.options.users), self.options.events),
                "item": self.catalogue.frame["item"].to_numpy()[self.items_UE.ravel()],
                "timestamp": self.times_UE.ravel(),
            }
        )
        source = {"source": NAME, "files": [], "options": self.options.model_dump()}
        return Dataset(NAME, interactions, self.catalogue, source=source)

    def utilities(self, user: int, time: int) -> Float64[np.ndarray, "I"]:
        """Compute what each item is worth to a user.

        Args:
            user: number, from 0.
            time: seconds since 1970, UTC, while the world lasts.

        Raises:
            ThinkrankError: if there is no such user or time.
        """
        if not 0 <= user < self.options.users:
            raise ThinkrankError(f"there is no user {user}; this world has 0 to {self.options.users - 1}")
        end = START + self.options.days * SECONDS_PER_DAY
        if not START <= time < end:
            raise ThinkrankError(f"time {time} is not of this world, which lasts from {START} to {end - 1}")
        return self._utilities(np.array([user]), np.array([time]))[0]

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """Score like an oracle: the true utilities at the time of the event that follows each history.

        No ranking of the items not yet taken has a higher expected hit rate, MRR or NDCG, at any cut-off. Use it beside
        other systems wherever the `scores` of a retriever goes. Whose history it is, it knows by the second of the
        newest event; earlier ones may be left out.

        Raises:
            ThinkrankError: if a history is empty, without times, not of this world, or all its user did.
        """
        users_B, events_B = self._following(histories)
        return self._utilities(users_B, self.times_UE[users_B, events_B]).astype(np.float32)

    def probabilities(self, histories: Sequence[History]) -> Float64[np.ndarray, "B I"]:
        """Compute the chance of each item to follow each history; 0 for what its user took before.

        Raises:
            ThinkrankError: as `scores` does.
        """
        users_B, events_B = self._following(histories)
        logits_BI = self._utilities(users_B, self.times_UE[users_B, events_B]) / self.options.temperature
        for logits_I, user, event in zip(logits_BI, users_B, events_B, strict=True):
            logits_I[self.items_UE[user, :event]] = -np.inf
        odds_BI = np.exp(logits_BI - logits_BI.max(axis=1, keepdims=True))
        return np.asarray(odds_BI / odds_BI.sum(axis=1, keepdims=True))

    def click_probabilities(self, user: int, time: int, slate: Slate) -> Float64[np.ndarray, "K"]:
        """Compute the chance of a click at each place of a list that is shown; see `feedback.click_probabilities`.

        An item's attraction is sigmoid(utility). Clicks change nothing: tastes drift by themselves.

        Args:
            user: number, from 0.
            time: seconds since 1970, UTC, while the world lasts.
            slate: catalogue rows, the first place first; each at most once.

        Raises:
            ThinkrankError: if there is no such user, time or item, or an item stands twice in the list.
        """
        attractions_K, kinds_K = self._attractions(user, time, slate)
        clicks_1K = feedback.click_probabilities(
            attractions_K[None],
            kinds_K[None],
            position_bias=self.options.position_bias,
            saturation=self.options.saturation,
        )
        return clicks_1K[0]

    def click(self, user: int, time: int, slate: Slate, random: np.random.Generator) -> Bool[np.ndarray, "K"]:
        """Show a list once and return which places were clicked; arguments as in `click_probabilities`."""
        probabilities_K = self.click_probabilities(user, time, slate)
        return random.random(len(probabilities_K)) < probabilities_K

    def expected_clicks(self, user: int, time: int, slate: Slate) -> float:
        """Compute the mean number of clicks on a list; arguments as in `click_probabilities`."""
        return float(self.click_probabilities(user, time, slate).sum())

    def best_slate(self, user: int, time: int, candidates: Slate, k: int) -> Int64[np.ndarray, "k"]:
        """Find the list of k candidates with the most expected clicks, exactly; see `feedback.best_list`.

        Arguments, raises: as `click_probabilities`, and ThinkrankError if there are too many lists to try them all.
        """
        attractions_N, kinds_N = self._attractions(user, time, candidates)
        best_K = feedback.best_list(
            attractions_N, kinds_N, k, position_bias=self.options.position_bias, saturation=self.options.saturation
        )
        return np.asarray(candidates, dtype=np.int64)[best_K]

    @cached_property
    def _pairs_I(self) -> Int64[np.ndarray, "I"]:
        pairs = self._random(_ITEMS).choice(self.options.styles * self.options.kinds, self.options.items, replace=False)
        return np.sort(pairs.astype(np.int64))

    @cached_property
    def _event_by_time(self) -> dict[int, tuple[int, int]]:
        num_events = self.options.events
        return {time: divmod(place, num_events) for place, time in enumerate(self.times_UE.ravel().tolist())}

    def _random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.options.seed, stream])

    def _utilities(
        self, users_B: Int64[np.ndarray, "B"], times_B: Int64[np.ndarray, "B"]
    ) -> Float64[np.ndarray, "B I"]:
        tastes_BV = self.tastes_UDV[users_B, (times_B - START) // SECONDS_PER_DAY]
        of_kinds_BI = tastes_BV[:, self.options.styles + self.kinds_I]
        return np.asarray(self.appeals_I + tastes_BV[:, self.styles_I] + of_kinds_BI)

    def _following(self, histories: Sequence[History]) -> tuple[Int64[np.ndarray, "B"], Int64[np.ndarray, "B"]]:
        """Find whose histories they are, and which of the user's events comes next."""
        following = np.empty((len(histories), 2), dtype=np.int64)
        for index, history in enumerate(histories):
            if history.times is None or not len(history):
                raise ThinkrankError(f"history {index} is empty or has no times, so nobody knows whose it is")
            item, time = int(history.items[-1]), int(history.times[-1])
            user, event = self._event_by_time.get(time, (-1, -1))
            if user < 0 or self.items_UE[user, event] != item:
                raise ThinkrankError(f"history {index} is not of this world: nobody took item {item} at {time}")
            if event + 1 == self.options.events:
                raise ThinkrankError(f"history {index} is all that user {user} did, so nothing follows it")
            following[index] = user, event + 1
        return following[:, 0], following[:, 1]

    def _attractions(
        self, user: int, time: int, slate: Slate
    ) -> tuple[Float64[np.ndarray, "K"], Int64[np.ndarray, "K"]]:
        """Return the attraction and the kind of each item."""
        rows_K = np.asarray(slate, dtype=np.int64)
        if len(rows_K) and not 0 <= rows_K.min() <= rows_K.max() < self.options.items:
            stranger = next(int(row) for row in rows_K if not 0 <= row < self.options.items)
            raise ThinkrankError(f"the list holds item {stranger}; the catalogue has 0 to {self.options.items - 1}")
        if len(np.unique(rows_K)) < len(rows_K):
            raise ThinkrankError(f"the list {rows_K.tolist()} holds an item twice")
        utilities_K = self.utilities(user, time)[rows_K]
        return 1 / (1 + np.exp(-utilities_K)), self.kinds_I[rows_K]
