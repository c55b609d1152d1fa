"""Options of synthetic worlds; each class is also the options of a source."""

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from thinkrank.data.synthetic.words import KINDS, STYLES
from thinkrank.options import Options

SECONDS_PER_DAY = 86_400

Users = Annotated[int, Field(ge=1, description="how many users there are")]
Styles = Annotated[
    int, Field(ge=1, le=len(STYLES), description="how many styles, the first words of titles, there are")
]
Kinds = Annotated[int, Field(ge=1, le=len(KINDS), description="how many kinds, the second words of titles, there are")]
Items = Annotated[
    int,
    Field(ge=2, validate_default=True, description="how many items, different pairs of a style and a kind, there are"),
]
Drift = Annotated[
    float, Field(ge=0, description="standard deviation of what is added to a user's logits every midnight")
]
Temperature = Annotated[
    float, Field(gt=0, description="temperature of choices: users take the best item for sure as it nears 0")
]
PositionBias = Annotated[
    float,
    Field(ge=0, description="how fast attention falls: place r of a list is looked at with chance 1 / r^position_bias"),
]
Saturation = Annotated[
    float,
    Field(ge=0, le=1, description="share of an item's attraction that each earlier item of its kind in a list leaves"),
]

_Info: TypeAlias = Any  # pydantic.ValidationInfo, which the shape checks of the tests cannot read


class WorldOptions(BaseModel):
    """Describe a `World`; also the options of the source ``synthetic``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    users: Users = 500
    styles: Styles = 16
    kinds: Kinds = 16
    items: Items = 200
    events: int = Field(30, ge=2, validate_default=True, description="how many items each user takes, never one twice")
    days: int = Field(60, ge=1, validate_default=True, description="how many days the world lasts")
    appeal: float = Field(0.5, ge=0, description="standard deviation of what an item is worth to everybody")
    taste: float = Field(1.0, ge=0, description="standard deviation of a user's first logit for an attribute value")
    drift: Drift = 0.1
    temperature: Temperature = 0.5
    position_bias: PositionBias = 1.0
    saturation: Saturation = 0.5
    seed: int = Field(0, ge=0, description="random seed of everything that is drawn")

    @field_validator("items")
    @classmethod
    def _pairs_suffice(cls, items: int, info: _Info) -> int:
        pairs = info.data.get("styles", items) * info.data.get("kinds", items)
        if items > pairs:
            raise ValueError(f"these styles and kinds make only {pairs} items")
        return items

    @field_validator("events")
    @classmethod
    def _items_suffice(cls, events: int, info: _Info) -> int:
        if events > info.data.get("items", events):
            raise ValueError(f"there are only {info.data['items']} items, and nobody takes one twice")
        return events

    @field_validator("days")
    @classmethod
    def _seconds_suffice(cls, days: int, info: _Info) -> int:
        if info.data.get("users", 0) * info.data.get("events", 0) > days * SECONDS_PER_DAY:
            raise ValueError("there are more events than seconds, and no two happen in the same one")
        return days


class RelayOptions(Options):
    """Describe a `RelayWorld`; also the options of the source ``synthetic-relay``."""

    users: int = Field(2000, ge=1, description="how many users there are, each with one item to predict")
    styles: int = Field(12, ge=3, le=len(STYLES), description="how many styles, the first words of titles, there are")
    kinds: int = Field(
        12,
        ge=3,
        le=len(KINDS),
        description="how many kinds, the second words of titles, there are; every pair of words is an item",
    )
    relay_length: int = Field(
        4,
        ge=3,
        validate_default=True,
        description="how many styles, and as many kinds, a history has; it has twice as many items",
    )
    seed: int = Field(0, ge=0, description="random seed of everything that is drawn")
    shuffled: bool = Field(
        False,
        description="whether each user is shown the history of another, so that nothing tells what comes next: the "
        "negative control",
    )

    @field_validator("relay_length")
    @classmethod
    def _words_suffice(cls, relay_length: int, info: _Info) -> int:
        fewest = min(info.data.get("styles", relay_length), info.data.get("kinds", relay_length))
        if relay_length > fewest:
            raise ValueError(f"there are only {fewest} styles or kinds")
        return relay_length
