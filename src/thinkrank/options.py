"""What all settings have in common."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Group settings that cannot change once made; a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
