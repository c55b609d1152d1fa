"""How histories and items are shown to a language model."""

from pydantic import BaseModel, ConfigDict, Field, field_validator


class HistoryOptions(BaseModel):
    """How a history is shown, one line per interaction; every text may name `{noun}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    noun: str = Field("item", description="what the catalogue holds, in the singular")
    opening: str = Field("A person chose these {noun}s, oldest first:\n", description="before the history")
    line: str = Field("{title}", description="one interaction; may also use {categories}, {age} and {rating}")
    history_window: int = Field(20, ge=1, description="newest interactions shown when answering")
    title_tokens: int = Field(24, ge=1, description="budget of one title, and of its categories")
    history_tokens: int = Field(640, ge=1, description="budget of all lines; the oldest are dropped first")
    item_fields: tuple[str, ...] = Field(("title",), description="catalogue columns an item's text shows, in order")
    item_tokens: int = Field(128, ge=1, description="budget of one item's text")
    closing: str = Field("\n", description="ends every thought; its last token is where a head reads")

    @field_validator("line")
    @classmethod
    def _shows_titles(cls, line: str) -> str:
        if "{title}" not in line:
            raise ValueError("a history line must contain {title}")
        return line

    @field_validator("closing")
    @classmethod
    def _is_read(cls, closing: str) -> str:
        if not closing:
            raise ValueError("the closing must not be empty: the vectors are read at its last token")
        return closing
