"""How histories and items are shown to a language model."""

from pydantic import Field, field_validator

from thinkrank.options import Options
from thinkrank.prompts.marks import Mark


class HistoryOptions(Options):
    """Show a history, one line per interaction; every text may name `{noun}`."""

    noun: str = Field("item", description="what the catalogue holds, as a noun in the singular")
    opening: str = Field("A person chose these {noun}s, oldest first:\n", description="text before the history")
    line: str = Field(
        "{title}",
        description="text of one interaction; may also use {age}, {rating}, any column of the catalogue by its name, "
        "and {attributes}: the item_fields but for title, popularity and numbers, in parentheses",
    )
    history_window: int = Field(20, ge=1, description="newest interactions shown when answering")
    title_tokens: int = Field(24, ge=1, description="token budget of one title, and of its categories")
    history_tokens: int = Field(
        640, ge=1, description="token budget of all history lines; the oldest are dropped first"
    )
    item_fields: tuple[str, ...] = Field(("title",), description="catalogue columns an item's text shows, in order")
    item_tokens: int = Field(128, ge=1, description="token budget of one item's text")
    closing: str = Field("\n", description="text that ends every thought; its last token is where a head reads")

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


class PromptOptions(HistoryOptions):
    """Choose the words around a history and an item; every text may name `{noun}`.

    User side: `opening`, one `line` per interaction, `question`, then the assistant's turn, the thought, and `closing`.
    Item side: `item_opening`, the item's fields, and `closing`. Both sides end in the same closing, so their vectors
    are read at the same kind of position; a newline ends the history lines too.
    """

    question: str = Field(
        "In one sentence, what does this person like in a {noun}?", description="question after the history"
    )
    item_opening: str = Field("", description="text before an item's text")
    item_in_chat: bool = Field(
        False, description="whether items are framed with the chat template too, as in the paper"
    )
    history_step: int = Field(
        1,
        ge=1,
        description="where histories are read late, what is shown of a longer one begins at a multiple of this many "
        "events, so that a reading can be kept while the history grows",
    )
    marks: tuple[Mark, ...] = Field(
        (), description="what an item of a history tells beside itself, where histories are read late"
    )


class PairPromptOptions(HistoryOptions):
    """Choose the words around a history and one candidate; every text may name `{noun}`.

    What all candidates of a user share comes first: `opening`, one `line` per interaction, `question`. Then the
    candidate's text, and `cue` or, where no thought is written, `plain_cue`. No prompt mentions another candidate, so
    the order of candidates can't matter.
    """

    history_window: int = Field(10, ge=1, description="newest interactions shown")
    item_fields: tuple[str, ...] = Field(
        ("title", "popularity", "year", "categories", "brand"),
        description="catalogue columns a candidate's text shows, in order; popularity is counted in the train part",
    )
    evidence: bool = Field(
        False, description="whether a candidate's text goes on with how often it was chosen with the items shown"
    )
    evidence_tokens: int = Field(80, ge=1, description="token budget of the evidence about one candidate")
    question: str = Field("\nWould this person choose this {noun} next?\n", description="question after the history")
    cue: str = Field(
        "\nIn one sentence, what speaks for it or against it?", description="text that asks for the thought"
    )
    plain_cue: str = Field(
        "\nAnswer yes or no.", description="text that asks for the answer alone, where no thought is written"
    )
