"""EGLR: write the final list item by item, and think latently where the choice is uncertain."""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.rerank.config import (
        EGLRConfig,
        EvaluatorFitOptions,
        EvaluatorOptions,
        GeneratorOptions,
        GrpoOptions,
        ReasoningOptions,
        WarmStartOptions,
    )
    from thinkrank.rerank.evaluator import Evaluator
    from thinkrank.rerank.generators import Context, Generator, Rows, Slot
    from thinkrank.rerank.model import EGLR
    from thinkrank.rerank.report import EvaluatorReport, evaluator_report

__all__ = [
    "EGLR",
    "Context",
    "EGLRConfig",
    "Evaluator",
    "EvaluatorFitOptions",
    "EvaluatorOptions",
    "EvaluatorReport",
    "Generator",
    "GeneratorOptions",
    "GrpoOptions",
    "ReasoningOptions",
    "Rows",
    "Slot",
    "WarmStartOptions",
    "evaluator_report",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Context": "generators",
        "EGLR": "model",
        "EGLRConfig": "config",
        "Evaluator": "evaluator",
        "EvaluatorFitOptions": "config",
        "EvaluatorOptions": "config",
        "EvaluatorReport": "report",
        "Generator": "generators",
        "GeneratorOptions": "config",
        "GrpoOptions": "config",
        "ReasoningOptions": "config",
        "Rows": "generators",
        "Slot": "generators",
        "WarmStartOptions": "config",
        "evaluator_report": "report",
    },
)
