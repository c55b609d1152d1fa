"""The page for people: pick somebody or build a history, watch the thought, change it, and see what moves.

The page is written here, with the same helpers and style as the report; one script of our own, without any of others,
asks the routes for programs and fills it in.
"""

from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from thinkrank.report.html import Html, tag
from thinkrank.serve.served import Served
from thinkrank.serve.state import State

page = APIRouter(include_in_schema=False)

_FILES = {
    "report.css": ("thinkrank.report", "report.css", "text/css"),
    "page.css": ("thinkrank.serve", "static/page.css", "text/css"),
    "page.js": ("thinkrank.serve", "static/page.js", "text/javascript"),
    "page_answer.js": ("thinkrank.serve", "static/page_answer.js", "text/javascript"),
}


@page.get("/")
def show(request: Request) -> HTMLResponse:
    """Show the page."""
    state: State = request.app.state.thinkrank
    return HTMLResponse(render_page(state.served, state.options.max_k, is_locked=bool(state.options.key_hashes)))


@page.get("/static/{name}")
def static(name: str) -> Response:
    """Send a file that the page is made of."""
    if name not in _FILES:
        raise HTTPException(404, "no such file")
    package, path, kind = _FILES[name]
    text = files(package).joinpath(path).read_text(encoding="utf-8")
    return Response(text, media_type=kind, headers={"cache-control": "no-cache"})


@page.get("/favicon.ico")
def favicon() -> Response:
    """Send no picture."""
    return Response(status_code=204)


def render_page(served: Served, max_k: int = 200, *, is_locked: bool = False) -> str:
    """Write the page as text.

    Args:
        served: the run that it asks.
        max_k: items of an answer at most.
        is_locked: whether a key opens the server; the page itself needs none, so it then names nobody of the data.
    """
    main = tag(
        "main",
        tag("div", _who(served, is_locked), _how(served, max_k), class_="asking"),
        tag("p", role="alert", id="fault", class_="fault", hidden=""),
        tag("p", role="status", id="status", class_="facts"),
        _thought(served) if "retrieve" in served.writing_stages else None,
        _answer(),
        _code(),
        id="main",
        data_writes="yes" if "retrieve" in served.writing_stages else None,
        data_thinks="yes" if served.can_think else None,
    )
    body = tag(
        "body",
        tag("a", "To the answer", href="#answer", class_="skip"),
        tag(
            "header",
            tag("h1", "Inside ", tag("bdi", served.name)),
            tag("p", _about(served, is_locked), class_="lead"),
            class_="page",
        ),
        main,
        tag("noscript", tag("p", "This page needs the script that comes with it; the routes below /v1 do not.")),
    )
    return f"<!doctype html>\n{tag('html', _head(served.name), body, lang='en')}\n"


def _about(served: Served, is_locked: bool) -> str:
    kinds = " → ".join(served.kinds.values())
    people = "" if served.dataset is None or is_locked else f", {len(served.dataset.users):,} people known"
    return f"{kinds}; {served.num_items:,} items{people}"


def _head(name: str) -> Html:
    return tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", f"thinkrank: {name}"),
        Html('<link rel="stylesheet" href="static/report.css">'),
        Html('<link rel="stylesheet" href="static/page.css">'),
        Html('<script type="module" src="static/page.js"></script>'),
    )


def _who(served: Served, is_locked: bool) -> Html:
    """Write the part in which a history is picked or built."""
    user = None
    if served.dataset is not None:
        examples = (tag("button", one, type="button", class_="link", data_user=one) for one in served.dataset.users[:5])
        user = tag(
            "form",
            _label("A person of the data", "user"),
            tag(
                "div",
                Html('<input id="user" name="user" autocomplete="off" spellcheck="false" maxlength="500">'),
                tag("button", "Take the history", type="submit"),
                class_="row",
            ),
            None if is_locked else tag("p", "For example ", *examples, class_="facts"),
            id="pick",
        )
    return tag(
        "section",
        tag("h2", "History"),
        user,
        _label("Or search titles, and add them", "search"),
        Html(
            '<input id="search" type="text" role="combobox" aria-expanded="false" aria-controls="found" '
            'aria-autocomplete="list" autocomplete="off" spellcheck="false" maxlength="200">'
        ),
        tag("ul", id="found", role="listbox", aria_label="Titles found", class_="plain found", hidden=""),
        tag("p", "Nothing yet: the answer is for somebody of whom nothing is known.", id="empty", class_="empty"),
        tag("ol", id="history", class_="plain history", aria_label="History, oldest first"),
        tag("button", "Start again", type="button", id="clear", class_="quiet", hidden=""),
        class_="card part",
    )


def _how(served: Served, max_k: int) -> Html:
    """Write the settings of a question."""
    thinking = None
    if served.can_think:
        choices = [("", "as the run says"), ("true", "always"), ("false", "never")]
        if served.cascade is not None and served.cascade.config.threshold is not None:
            choices.append(("auto", "where it pays"))
        options = [tag("option", words, value=value) for value, words in choices]
        thinking = tag("div", _label("Think first", "think"), tag("select", *options, id="think"))
    temperature = None
    if served.writing_stages:
        temperature = tag(
            "div",
            _label("Temperature", "temperature"),
            Html('<input id="temperature" type="number" min="0" max="10" step="0.1" placeholder="as the run says">'),
        )
    return tag(
        "section",
        tag("h2", "Question"),
        tag(
            "form",
            tag(
                "div",
                tag(
                    "div",
                    _label("Items", "k"),
                    Html(f'<input id="k" type="number" min="1" max="{max_k}" value="10" required>'),
                ),
                thinking,
                temperature,
                tag(
                    "div",
                    _label("Milliseconds at most", "budget"),
                    Html('<input id="budget" type="number" min="1" step="1" placeholder="any">'),
                ),
                class_="settings",
            ),
            tag(
                "div",
                tag("button", "Recommend", type="submit", id="ask", class_="main"),
                tag("button", "Stop", type="button", id="stop", hidden=""),
                class_="row",
            ),
            id="question",
        ),
        tag(
            "form",
            _label("This server asks for a key", "key"),
            tag(
                "div",
                Html('<input id="key" type="password" autocomplete="off" maxlength="500">'),
                tag("button", "Use it", type="submit"),
                class_="row",
            ),
            id="unlock",
            hidden="",
        ),
        class_="card part",
    )


def _thought(served: Served) -> Html:
    """Write the part in which the thought appears and can be changed."""
    return tag(
        "section",
        tag("h2", "Thought"),
        tag("blockquote", id="thought", dir="auto", aria_live="off", tabindex="0", aria_label="The thought"),
        tag("p", id="thought-facts", class_="facts"),
        tag("ul", id="thought-claims", class_="plain claims", aria_label="What the thought claims"),
        tag(
            "details",
            tag("summary", "Change the thought, and see what moves"),
            tag(
                "form",
                _label("The thought to answer from", "own"),
                Html('<textarea id="own" rows="4" maxlength="8000" dir="auto"></textarea>'),
                tag("button", "Answer from it", type="submit"),
                id="rethink",
            ),
            id="change",
        ),
        id="thinking",
        class_="card part",
        hidden="",
    )


def _answer() -> Html:
    """Write the part in which the answer appears, beside the one before it."""
    return tag(
        "section",
        tag("h2", "Answer", id="answer", tabindex="-1"),
        tag("p", "Ask, and the answer stands here.", id="unasked", class_="empty"),
        tag("p", id="moved", class_="lead"),
        tag(
            "div",
            tag(
                "div",
                tag("h3", "Before"),
                tag("p", id="before-facts", class_="facts"),
                tag("ol", id="before", class_="plain slate"),
                id="beside",
                hidden="",
            ),
            tag(
                "div",
                tag("h3", "Now", id="now-title", hidden=""),
                tag("p", id="now-facts", class_="facts"),
                tag("ol", id="now", class_="plain slate"),
            ),
            class_="sides",
        ),
        tag(
            "div",
            tag("table", id="costs", class_="costs"),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="What each stage cost",
        ),
    )


def _code() -> Html:
    """Write the part from which the question can be copied."""
    return tag(
        "section",
        tag("h2", "Ask it from a program"),
        *(
            tag(
                "div",
                tag(
                    "div",
                    tag("h3", name),
                    tag("button", "Copy", type="button", data_copy=key, aria_label=f"Copy as {name}"),
                    class_="row",
                ),
                tag("pre", tag("code", id=key), tabindex="0", aria_label=f"The question as {name}"),
            )
            for key, name in (("curl", "curl"), ("python", "Python"))
        ),
        id="programs",
        hidden="",
    )


def _label(words: str, of: str) -> Html:
    return tag("label", words, for_=of)
