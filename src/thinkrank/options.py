"""What all settings have in common."""

import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

NONE = "none"
"""The word for a number that is left out."""


class Options(BaseModel):
    """Group settings that cannot change once made; a misspelt key is an error.

    A number that may be left out can be given as the word "none", for which TOML has no value of its own: so it is laid
    over a default that is a number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        left_out = {key for key, field in cls.model_fields.items() if values.get(key) == NONE and _may_be_none(field)}
        return {key: None if key in left_out else value for key, value in values.items()}


def spelt(settings: BaseModel, default: BaseModel | None = None) -> dict[str, Any]:
    """Return settings as plain values, with the word "none" for each number that is left out over a default one.

    Args:
        settings: to be written where there is no value for none.
        default: what they lie over; None for the defaults of their fields.
    """
    told: dict[str, Any] = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        before = getattr(default, name, None) if default is not None or field.is_required() else field.get_default()
        if isinstance(value, BaseModel) and isinstance(told.get(name), dict):
            told[name] = spelt(value, before if isinstance(before, BaseModel) else None)
        elif name in told and value is None and before is not None and _may_be_none(field):
            told[name] = NONE
    return told


def _may_be_none(field: FieldInfo) -> bool:
    kinds = typing.get_args(field.annotation)
    plain = {typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind for kind in kinds}
    return type(None) in plain and bool({int, float} & plain)


def heads_divide_the_width(times: int = 1) -> Any:
    """Make a validator for options with `width` and `heads` that refuses a width which heads cannot share.

    Args:
        times: the width of each head must be a multiple of this.
    """

    def check(options: Any) -> Any:
        if options.width % (times * options.heads):
            what = "the heads" if times == 1 else f"{times} times the heads"
            raise ValueError(f"the width must be a multiple of {what}, and {options.width} is none of {options.heads}")
        return options

    return model_validator(mode="after")(check)
