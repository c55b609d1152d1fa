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


def _may_be_none(field: FieldInfo) -> bool:
    kinds = typing.get_args(field.annotation)
    return type(None) in kinds and bool({int, float} & set(kinds))


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
