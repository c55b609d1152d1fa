"""Lists in a synthetic world, so that the clicks to expect of any order of them are known.

Shape legend: L lists, N candidates, K length of a slate, I items.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64, Integer
from pydantic import Field, field_validator

from thinkrank.data.features import histories_before
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.synthetic import feedback
from thinkrank.data.synthetic.options import (
    SECONDS_PER_DAY,
    Drift,
    Items,
    Kinds,
    PositionBias,
    Saturation,
    Styles,
    Temperature,
    Users,
    WorldOptions,
)
from thinkrank.data.synthetic.words import KINDS, STYLES
from thinkrank.data.synthetic.world import START, World
from thinkrank.errors import ThinkrankError

NAME = "synthetic"
_LISTS_AT_ONCE = 4_096
_USERS, _TIMES, _CANDIDATES, _SCORES, _CLICKS = range(100, 105)  # streams of chance that the world does not use

_Info: TypeAlias = Any  # pydantic.ValidationInfo, which the shape checks of the tests cannot read


class ListWorldOptions(WorldOptions):
    """Describe a `ListWorld`; also the options of the lists of source ``synthetic``.

    By default few users see few items often, in an order little better than chance: small as it is, an evaluator can
    learn from this world what an order is worth that was never displayed.
    """

    users: Users = 5
    styles: Styles = 10
    kinds: Kinds = 5
    items: Items = 50
    drift: Drift = 0.0
    temperature: Temperature = 1.0
    position_bias: PositionBias = 0.5
    saturation: Saturation = 0.3
    lists: int = Field(8000, ge=1, description="how many lists are shown, at random times to random users")
    candidates: int = Field(15, ge=2, validate_default=True, description="how many different items each list has")
    score_noise: float = Field(
        4.0,
        ge=0,
        description="standard deviation of the noise by which the displayed order departs from the true utility",
    )

    @field_validator("candidates")
    @classmethod
    def _catalogue_suffices(cls, candidates: int, info: _Info) -> int:
        if candidates > info.data.get("items", candidates):
            raise ValueError(f"there are only {info.data['items']} items")
        return candidates


@dataclass(frozen=True, eq=False)
class ListWorld:
    """A `World` whose users are shown lists, on which they click by chances that follow from the options.

    The displayed order is that of ``score``, the true utility with noise: a first stage, right more often than not.
    Clicks follow `feedback.click_probabilities`: they fall with the place, and with earlier items of the same kind. The
    best order of a list is thus not that of single items.

    Attributes:
        options: what it is like.
    """

    options: ListWorldOptions = field(default_factory=ListWorldOptions)

    @cached_property
    def world(self) -> World:
        """Return who the users are, and what they did besides."""
        return World(WorldOptions(**self.options.model_dump(include=set(WorldOptions.model_fields))))

    @cached_property
    def lists(self) -> ImpressionDataset:
        """Return what was shown and clicked, in time order.

        The signal is ``click``, the numeric feature ``score``, categories are ``style`` and ``kind``, and a history is
        what the user took before.
        """
        options, world = self.options, self.world
        users_L = self._random(_USERS).integers(options.users, size=options.lists)
        times_L = START + np.sort(self._random(_TIMES).integers(options.days * SECONDS_PER_DAY, size=options.lists))
        items_LN = self._candidates()
        scores_LN = self._utilities(users_L, times_L, items_LN)
        scores_LN += options.score_noise * self._random(_SCORES).standard_normal(scores_LN.shape)
        order_LN = np.argsort(-scores_LN, axis=1, kind="stable")
        items_LN, scores_LN = (np.take_along_axis(array, order_LN, axis=1) for array in (items_LN, scores_LN))
        clicks_LN = self._click_probabilities(users_L, times_L, items_LN)
        clicked_LN = self._random(_CLICKS).random(clicks_LN.shape) < clicks_LN
        events_UE = world.items_UE.shape
        return ImpressionDataset(
            name=NAME,
            catalogue=world.catalogue,
            items_LN=items_LN.astype(np.int32),
            feedback_LNS=clicked_LN[:, :, None].astype(np.float32),
            signals=("click",),
            times_L=times_L,
            users=tuple(world.dataset().users),
            users_L=users_L.astype(np.int32),
            histories=histories_before(
                np.repeat(np.arange(events_UE[0]), events_UE[1]),
                world.items_UE.ravel(),
                world.times_UE.ravel(),
                users_L,
                times_L,
            ),
            numeric_LNF=scores_LN[:, :, None].astype(np.float32),
            numeric_names=("score",),
            categorical_LNC=np.stack([world.styles_I[items_LN] + 1, world.kinds_I[items_LN] + 1], 2).astype(np.int32),
            categorical_names=("style", "kind"),
            categorical_values=(STYLES[: options.styles], KINDS[: options.kinds]),
            context_LF=np.zeros((options.lists, 0), dtype=np.float32),
            context_names=(),
            source={"source": NAME, "files": [], "options": options.model_dump()},
        )

    def click_probabilities(
        self, lists: ImpressionDataset, slots_LK: Integer[np.ndarray, "L K"]
    ) -> Float64[np.ndarray, "L K"]:
        """Compute the chance of a click at each place of slates made from lists of this world.

        Args:
            lists: `self.lists` or any part of it.
            slots_LK: the slate of each list, as places in its displayed order, from 0; each at most once.

        Raises:
            ThinkrankError: if a place is not of the list, or stands twice in a slate.
        """
        _check_slots(slots_LK, lists.items_LN.shape[1])
        items_LK = np.take_along_axis(lists.items_LN, slots_LK.astype(np.int64), axis=1)
        return self._click_probabilities(lists.users_L, lists.times_L, items_LK)

    def expected_clicks(
        self, lists: ImpressionDataset, slots_LK: Integer[np.ndarray, "L K"]
    ) -> Float64[np.ndarray, "L"]:
        """Compute the mean number of clicks on each slate; arguments as for `click_probabilities`."""
        return np.asarray(self.click_probabilities(lists, slots_LK).sum(axis=1))

    def best_slots(self, lists: ImpressionDataset, k: int | None = None) -> Int64[np.ndarray, "L K"]:
        """Find the slate of k places with the most expected clicks, exactly; see `feedback.best_order`.

        Args:
            lists: as for `click_probabilities`.
            k: length of the slates; None for all candidates.

        Raises:
            ThinkrankError: if k is not 1 to the number of candidates.
        """
        num_candidates = lists.items_LN.shape[1]
        k = num_candidates if k is None else k
        if not 1 <= k <= num_candidates:
            raise ThinkrankError(f"a slate of {k} cannot be made of {num_candidates} candidates")
        attractions_LN = _sigmoid(self._utilities(lists.users_L, lists.times_L, lists.items_LN))
        kinds_LN = self.world.kinds_I[lists.items_LN]
        return feedback.best_order(attractions_LN, kinds_LN, saturation=self.options.saturation)[:, :k]

    def regret(self, lists: ImpressionDataset, slots_LK: Integer[np.ndarray, "L K"]) -> Float64[np.ndarray, "L"]:
        """Compute the expected clicks that each slate leaves to the best slate of its length; arguments as before."""
        best_LK = self.best_slots(lists, slots_LK.shape[1])
        return np.asarray(self.expected_clicks(lists, best_LK) - self.expected_clicks(lists, slots_LK))

    def _random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.options.seed, stream])

    def _candidates(self) -> Int64[np.ndarray, "L N"]:
        random, options = self._random(_CANDIDATES), self.options
        blocks = []
        for start in range(0, options.lists, _LISTS_AT_ONCE):
            lots_LI = random.random((min(_LISTS_AT_ONCE, options.lists - start), options.items))
            blocks.append(np.argsort(lots_LI, axis=1)[:, : options.candidates])
        return np.concatenate(blocks).astype(np.int64)

    def _utilities(
        self, users_L: Integer[np.ndarray, "L"], times_L: Int64[np.ndarray, "L"], items_LN: Integer[np.ndarray, "L N"]
    ) -> Float64[np.ndarray, "L N"]:
        world = self.world
        tastes_LV = world.tastes_UDV[users_L, (times_L - START) // SECONDS_PER_DAY]
        of_styles_LN = np.take_along_axis(tastes_LV, world.styles_I[items_LN], axis=1)
        of_kinds_LN = np.take_along_axis(tastes_LV, self.options.styles + world.kinds_I[items_LN], axis=1)
        return np.asarray(world.appeals_I[items_LN] + of_styles_LN + of_kinds_LN)

    def _click_probabilities(
        self, users_L: Integer[np.ndarray, "L"], times_L: Int64[np.ndarray, "L"], items_LN: Integer[np.ndarray, "L N"]
    ) -> Float64[np.ndarray, "L N"]:
        return feedback.click_probabilities(
            _sigmoid(self._utilities(users_L, times_L, items_LN)),
            self.world.kinds_I[items_LN],
            position_bias=self.options.position_bias,
            saturation=self.options.saturation,
        )


def _sigmoid(logits: Float64[np.ndarray, "L N"]) -> Float64[np.ndarray, "L N"]:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _check_slots(slots_LK: Integer[np.ndarray, "L K"], num_candidates: int) -> None:
    if slots_LK.size and not 0 <= slots_LK.min() <= slots_LK.max() < num_candidates:
        raise ThinkrankError(f"a slate holds a place outside of 0 to {num_candidates - 1}")
    sorted_LK = np.sort(slots_LK, axis=1)
    again_L = (sorted_LK[:, 1:] == sorted_LK[:, :-1]).any(axis=1)
    if again_L.any():
        raise ThinkrankError(f"the slate of list {int(again_L.argmax())} holds a place twice")
