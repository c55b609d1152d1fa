"""Requests that a program makes up from the description of the interface: none breaks the server or the description."""

import os

import pytest

from serve.conftest import served_thinker
from serve.test_live import listening
from thinkrank.serve import create_app

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from schemathesis.checks import CHECKS  # noqa: E402

EXAMPLES = int(os.environ.get("THINKRANK_SCHEMA_EXAMPLES", "5"))


@pytest.fixture
def schema(thinker, dataset):
    served, options = served_thinker(thinker, dataset)
    with listening(create_app(served, options)) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


LEFT_OUT = {"unsupported_method", "missing_required_header", "ignored_auth", "positive_data_acceptance"}
"""Checks of what no description without keys holds; and of made-up requests, whose ids nobody has, being taken."""


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::hypothesis.errors.HypothesisDeprecationWarning",
)  # of the tool
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_interface_is_what_its_description_says(schema, mode):
    excluded = [check for check in CHECKS.get_all() if check.__name__ in LEFT_OUT]
    names = []
    for found in schema.get_all_operations():
        operation = found.ok()
        names.append(operation.label)

        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
            derandomize=True,
            database=None,
        )
        @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        def checked(case):
            if mode == "positive" and isinstance(case.body, dict):
                case.body.pop("timeout_ms", None)  # a time that is too short for an answer is answered 504, rightly
            case.call_and_validate(excluded_checks=excluded)

        if mode == "positive" or operation.body or operation.query:  # else nothing can be wrong
            checked()
    assert len(names) >= 11
