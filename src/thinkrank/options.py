"""What all settings have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Options(BaseModel):
    """Group settings that cannot change once made; a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
