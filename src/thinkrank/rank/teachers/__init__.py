"""Teachers of R2Rank's cold start: who reasons about pairs of history and item, and what of it is kept."""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.rank.teachers.endpoint import EndpointOptions, EndpointTeacher
    from thinkrank.rank.teachers.jsonlines import JsonlTeacher
    from thinkrank.rank.teachers.local import ModelOptions, ModelTeacher
    from thinkrank.rank.teachers.pairs import Pair, Teacher, Trace, Verdict
    from thinkrank.rank.teachers.reflect import ReflectOptions, TraceCounts, read_traces, write_traces
    from thinkrank.rank.teachers.rules import RuleOptions, RuleTeacher

__all__ = [
    "EndpointOptions",
    "EndpointTeacher",
    "JsonlTeacher",
    "ModelOptions",
    "ModelTeacher",
    "Pair",
    "ReflectOptions",
    "RuleOptions",
    "RuleTeacher",
    "Teacher",
    "Trace",
    "TraceCounts",
    "Verdict",
    "read_traces",
    "write_traces",
]

__getattr__ = lazy_names(
    __name__,
    {
        "EndpointOptions": "endpoint",
        "EndpointTeacher": "endpoint",
        "JsonlTeacher": "jsonlines",
        "ModelOptions": "local",
        "ModelTeacher": "local",
        "Pair": "pairs",
        "ReflectOptions": "reflect",
        "RuleOptions": "rules",
        "RuleTeacher": "rules",
        "Teacher": "pairs",
        "Trace": "pairs",
        "TraceCounts": "reflect",
        "Verdict": "pairs",
        "read_traces": "reflect",
        "write_traces": "reflect",
    },
)
