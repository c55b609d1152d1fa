"""Prompts as token ids. Templates are trusted, everything else is data.

A prompt is never rendered to one string and tokenised again. The chat template is cut once around a
placeholder; its pieces are tokenised with the model's control tokens switched on, and every other text with them
switched off, so no item title can end a turn or open a new one.
"""

import logging
import re
import threading
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from thinkrank.errors import ThinkrankError

logger = logging.getLogger(__name__)

_PLACEHOLDER = "⟦content⟧"
_DAY = datetime(2024, 7, 26)
"""What templates that tell today's date are told: a prompt must not change from day to day."""
_DAY_FORMAT = "%d %b %Y"
_FORMATS = re.compile(r"(['\"])([^'\"]*%[^'\"]*)\1")

_tokenising = threading.Lock()
"""Whether control tokens are known is a switch of the whole tokenizer: no other thread may turn it meanwhile."""


@dataclass(frozen=True)
class Prompt:
    """Hold token ids, and which of them the model itself chose.

    Attributes:
        ids: the whole sequence.
        actions: one flag per id; True where the token was sampled by the policy (and so carries a gradient in
            reinforcement learning), False where the prompt gave it.
    """

    ids: tuple[int, ...]
    actions: tuple[bool, ...]

    @classmethod
    def given(cls, ids: list[int]) -> "Prompt":
        """Wrap ids that the prompt states and the model did not choose."""
        return cls(tuple(ids), (False,) * len(ids))

    def __len__(self) -> int:
        return len(self.ids)

    def then(self, ids: list[int], *, action: bool) -> "Prompt":
        """Return this prompt with more ids behind it, all sampled (`action`) or all given."""
        return Prompt(self.ids + tuple(ids), self.actions + (action,) * len(ids))


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenise untrusted text: the spelling of a control token becomes ordinary characters."""
    return [token for part in _cut(tokenizer, text) for token in _encode(tokenizer, part, trusted=False)]


def _of_one_day(template: str) -> str:
    """Return a chat template that tells one date, whenever it is rendered; only templates can define a function."""
    if "strftime_now" not in template:
        return template
    told = {form: _DAY.strftime(form) for _, form in _FORMATS.findall(template)}
    date = f"{{{{ {told!r}.get(form, {_DAY.strftime(_DAY_FORMAT)!r}) }}}}"
    return f"{{%- macro strftime_now(form) -%}}{date}{{%- endmacro -%}}{template}"


def _cut(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """Cut text inside the spelling of added tokens that are not special, such as </think>: these are never split."""
    spelt = _spelt_tokens(tokenizer)
    found = [] if spelt is None else [match.start() + 1 for match in spelt.finditer(text)]
    return [text[start:end] for start, end in pairwise([0, *found, len(text)])]


@lru_cache(maxsize=8)
def _spelt_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    added = tokenizer.added_tokens_decoder.values()
    spelt = [re.escape(token.content) for token in added if not token.special and len(token.content) > 1]
    return re.compile("|".join(sorted(spelt, key=len, reverse=True))) if spelt else None


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, *, trusted: bool) -> list[int]:
    with _tokenising:
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=not trusted)["input_ids"])


@dataclass(frozen=True)
class ChatFrame:
    """Hold what the model's chat template puts around one user turn, as token ids.

    Attributes:
        before: everything up to the user's text (a system turn, if the template adds one, included).
        after: everything from the end of the user's text to where the assistant begins to write.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "ChatFrame":
        """Cut the tokenizer's own template; a model without one (a base model) gets its BOS token and a newline."""
        if tokenizer.chat_template is None:
            bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
            return cls(tuple(bos), tuple(encode_text(tokenizer, "\n")))
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": _PLACEHOLDER}],
            tokenize=False,
            add_generation_prompt=True,
            chat_template=_of_one_day(tokenizer.get_chat_template()),
            date_string=_DAY.strftime(_DAY_FORMAT),
        )
        before, found, after = str(rendered).partition(_PLACEHOLDER)
        if not found:
            raise ThinkrankError("the model's chat template does not show the user's text, so it cannot be prompted")
        frame = cls(*(tuple(_encode(tokenizer, piece, trusted=True)) for piece in (before, after)))
        marks = tokenizer.added_tokens_decoder.keys() - {tokenizer.bos_token_id}
        if not {*frame.before, *frame.after} & marks:
            logger.warning("this model's chat template marks turns in plain text, which an item's text can imitate")
        return frame
