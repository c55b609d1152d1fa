"""A teacher behind an OpenAI-compatible chat endpoint, over the standard library.

Item texts go out inside JSON strings in which no ``<`` is left, so none can spell a control token of the served model.
The key is read from the environment and appears in no message; redirects are not followed, since they would take the
key elsewhere.
"""

import http.client
import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thinkrank.data import Catalogue
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.teachers.attributes import plain
from thinkrank.teachers.pairs import Pair, Verdict
from thinkrank.teachers.questions import REFLECTION, RULES, ItemTexts

FORM = (
    'Answer with one JSON object and nothing else: {"reasoning": "one to three short sentences", "likely": true or '
    'false}. "likely" says whether the candidate is what the person chose next.'
)
"""What the model is told of its answer."""

_MOST_BYTES = 1 << 20
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_REFUSALS = (400, 413, 422)
_BUSY = (408, 409, 425, 429)


class EndpointOptions(Options):
    """Say how to talk to an endpoint."""

    temperature: float = Field(0.0, ge=0, description="temperature of the sampling; 0 is greedy decoding")
    max_tokens: int = Field(
        1024, ge=1, description="token budget of one answer; what a reasoning model thinks counts too"
    )
    json_mode: bool = Field(True, description="ask the server for a JSON object; not every server knows how")
    concurrency: int = Field(8, ge=1, description="requests under way at once")
    timeout_seconds: float = Field(120.0, gt=0, description="seconds to wait for a sign of the server at most")
    attempts: int = Field(5, ge=1, description="attempts at one question, while the server is busy, failing or silent")
    backoff_seconds: float = Field(
        1.0, ge=0, description="seconds to wait before the second attempt; doubled before each further one"
    )
    max_backoff_seconds: float = Field(
        60.0, ge=0, description="seconds to wait before any attempt at most, whatever the server asks for"
    )


class _Answer(BaseModel):
    """What the model must write."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reasoning: str = Field(min_length=1)
    likely: bool


class _BusyError(Exception):
    """The same request may succeed later."""

    def __init__(self, why: str, after_seconds: float | None = None) -> None:
        super().__init__(why)
        self.after_seconds = after_seconds


class _RefusedError(Exception):
    """This request will never succeed."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Leave the redirect an error."""


class EndpointTeacher:
    """Teacher that is a served language model.

    Args:
        catalogue: the items.
        url: the base of the API, as in ``https://api.deepseek.com/v1``; http or https.
        model: as the server calls it.
        api_key_env: the environment variable that holds the key; None for a server without one.
        options: decoding, and how patient to be.

    Raises:
        ThinkrankError: if the url is no web address, or the variable holds no key.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        url: str,
        model: str,
        api_key_env: str | None = None,
        options: EndpointOptions | None = None,
    ) -> None:
        self.options = options or EndpointOptions()
        self._texts = ItemTexts(catalogue)
        self._url, self._model, self._key_env = _address(url), model, api_key_env
        self._headers = {"Content-Type": "application/json", "User-Agent": "thinkrank"}
        if api_key_env is not None:
            self._headers["Authorization"] = f"Bearer {_key(api_key_env)}"
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._has_answered = False

    @property
    def name(self) -> str:
        """Return the model's name, with the settings that change its answers where they are not the default."""
        decoding = {"temperature", "max_tokens", "json_mode"}
        changed = self.options.model_dump_json(include=decoding, exclude_defaults=True)
        return self._model if changed == "{}" else f"{self._model} {changed}"

    def answer(self, pairs: Sequence[Pair], reflections: Sequence[Verdict | None]) -> list[Verdict | None]:
        """Ask about each pair; see `Teacher`. None where the server refused one question, or no such JSON came back.

        Raises:
            ThinkrankError: if the server can't be reached or keeps failing, wants another key, knows no such model, or
                refuses everything.
        """
        stop = threading.Event()
        pool = ThreadPoolExecutor(max_workers=self.options.concurrency)
        try:
            questions = [pool.submit(self._ask, *question, stop) for question in zip(pairs, reflections, strict=True)]
            done, _ = wait(questions, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()  # where one has failed for good, the others need not wait for their next attempt
            pool.shutdown(wait=True, cancel_futures=True)
        for failed in filter(None, (question.exception() for question in done)):
            raise failed
        outcomes = [question.result() for question in questions]
        refusals = [outcome for outcome in outcomes if isinstance(outcome, _RefusedError)]
        self._has_answered = self._has_answered or len(refusals) < len(outcomes)
        if refusals and not self._has_answered:
            raise ThinkrankError(f"{self._url}: refuses every question: {refusals[0]}. Mend the model or the options.")
        return [None if isinstance(outcome, _RefusedError) else outcome for outcome in outcomes]

    def _ask(self, pair: Pair, reflection: Verdict | None, stop: threading.Event) -> Verdict | _RefusedError | None:
        body = json.dumps(self._request(pair, reflection), ensure_ascii=False).encode()
        why: _BusyError | None = None
        for attempt in range(self.options.attempts):
            if why is not None:
                wanted = self.options.backoff_seconds * 2 ** (attempt - 1)
                delay = min(max(wanted, why.after_seconds or 0.0), self.options.max_backoff_seconds)
                if stop.wait(delay):
                    return None
            try:
                return parse_answer(_content(self._post(body)))
            except _BusyError as busy:
                why = busy
            except _RefusedError as refused:
                return refused
        raise ThinkrankError(
            f"{self._url}: {why}, {self.options.attempts} times. Check the address, or try again later: a run goes on "
            "where it was."
        )

    def _request(self, pair: Pair, reflection: Verdict | None) -> dict[str, Any]:
        question = {"history": self._texts.lines(pair.history), "candidate": self._texts.line(pair.item)}
        messages = [{"role": "system", "content": f"{RULES} {FORM}"}, {"role": "user", "content": _quoted(question)}]
        if reflection is not None:
            earlier = {"reasoning": reflection.reasoning, "likely": reflection.likely}
            messages += [{"role": "assistant", "content": _quoted(earlier)}, {"role": "user", "content": REFLECTION}]
        request = {
            "model": self._model,
            "messages": messages,
            "temperature": self.options.temperature,
            "max_tokens": self.options.max_tokens,
        }
        return {**request, "response_format": {"type": "json_object"}} if self.options.json_mode else request

    def _post(self, body: bytes) -> bytes:
        """Send one request.

        Raises:
            _BusyError: if a later one may succeed.
            _RefusedError: if this one never will.
            ThinkrankError: if none will.
        """
        # the scheme was checked to be http or https
        request = urllib.request.Request(self._url, data=body, headers=self._headers)  # noqa: S310
        try:
            with self._opener.open(request, timeout=self.options.timeout_seconds) as response:
                reply: bytes = response.read(_MOST_BYTES)
                return reply
        except urllib.error.HTTPError as error:
            with error:
                raise self._fault(error) from error
        except urllib.error.URLError as error:
            raise _BusyError(f"can't be reached ({_short(error.reason)})") from error
        except (http.client.HTTPException, OSError) as error:  # a timeout while reading is an OSError
            raise _BusyError(f"breaks off ({_short(error) or type(error).__name__})") from error

    def _fault(self, error: urllib.error.HTTPError) -> Exception:
        answers = f"answers {error.code} {_short(error.reason)}"
        if error.code in _BUSY or error.code >= 500:
            return _BusyError(answers, _seconds(error.headers.get("Retry-After")))
        if error.code in _REFUSALS:
            return _RefusedError(f"{error.code} {_short(error.read(2000).decode(errors='replace'))}")
        if error.code in (401, 403):
            way_out = "Name the environment variable that holds your key with api_key_env."
            if self._key_env:
                way_out = f"Put a valid key into the environment variable {self._key_env}."
            return ThinkrankError(f"{self._url}: {answers}, so the key is not accepted. {way_out}")
        if 300 <= error.code < 400:
            return ThinkrankError(f"{self._url}: has moved. Give the new address: {_short(error.headers['Location'])}")
        return ThinkrankError(
            f"{self._url}: {answers}. Check the address, which ends in /v1 for most servers, and the model "
            f"{self._model!r}."
        )


def parse_answer(text: str) -> Verdict | None:
    """Find the verdict in what a model wrote: a JSON object of `reasoning` and `likely`, bare or fenced.

    Returns:
        None for anything else: another field, another type, an empty reasoning, words around the object.
    """
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    try:
        answer = _Answer.model_validate_json(text)
    except ValidationError:
        return None
    reasoning = plain(answer.reasoning)
    return Verdict(reasoning, answer.likely) if reasoning else None


def _content(reply: bytes) -> str:
    """Return the text of a chat completion, empty if the model wrote none.

    Raises:
        _BusyError: if it is none: a proxy in trouble answers with a page of its own.
    """
    try:
        content = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _BusyError("answers with something that is no chat completion") from error
    if not isinstance(content, str | None):
        raise _BusyError("answers with something that is no chat completion")
    return content or ""


def _quoted(value: object) -> str:
    """Write JSON in which no text can spell a control token: they begin with < or [."""
    dumped = json.dumps(value, ensure_ascii=False)
    return _STRING.sub(lambda text: text[0].replace("<", "\\u003c").replace("[", "\\u005b"), dumped)


def _address(url: str) -> str:
    try:
        scheme, place, path, query, _ = parts = urlsplit(url)
        valid = scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in place
    except ValueError:
        valid = False
    if not valid:  # what was given is not repeated: it may hold a key
        raise ThinkrankError("the url of an endpoint should be like https://api.example.com/v1, without user or key")
    path = path.rstrip("/")
    path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
    return urlunsplit((scheme, place, path, query, ""))


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ThinkrankError(f"the environment variable {variable} holds no key. Set it, or leave api_key_env out.")
    return key


def _seconds(header: str | None) -> float | None:
    """Read what Retry-After asks for; a date is passed over."""
    return float(header) if header and header.isdecimal() else None


def _short(text: object) -> str:
    """Shorten what a server says to one line."""
    return plain(str(text))[:300]
