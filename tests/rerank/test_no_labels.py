"""What a re-ranker is asked with leads nowhere near the feedback."""

from collections.abc import Sequence, Set
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from thinkrank.data import ImpressionDataset
from thinkrank.testing import random_lists

MARK = 54_321.0
"""A value of feedback that nothing else has."""


def marked_lists() -> ImpressionDataset:
    lists = random_lists(3)
    return replace(lists, feedback_LNS=np.repeat(lists.mask_LN[:, :, None] * np.float32(MARK), 2, axis=2))


def names_of(value: Any) -> set[str]:
    """Fields, properties and whatever else an object of the package holds."""
    kinds = type(value).__mro__
    named = {name for kind in kinds for name, of in vars(kind).items() if isinstance(of, property | cached_property)}
    return (
        named
        | set(getattr(value, "__dict__", {}))
        | ({f.name for f in fields(value)} if is_dataclass(value) else set())
    )


def arrays_within(value: Any, seen: dict[int, Any]) -> list[np.ndarray]:
    """All arrays that attributes, items and views lead to."""
    if id(value) in seen or value is None or isinstance(value, str | int | float | bool | np.generic):
        return []
    seen[id(value)] = value  # kept, so that no other object gets its id
    if isinstance(value, np.ndarray):
        return [value, *arrays_within(value.base, seen)]
    found = []
    if type(value).__module__.startswith("thinkrank"):
        found = [array for name in names_of(value) for array in arrays_within(getattr(value, name), seen)]
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, pl.DataFrame):
        value = [column.to_numpy() for column in value if column.dtype.is_numeric()]
    if isinstance(value, Sequence | Set):
        found += [array for one in value for array in arrays_within(one, seen)]
    return found


def reaches_feedback(*arguments: Any) -> bool:
    return any((array == MARK).any() for array in arrays_within(list(arguments), {}) if array.dtype.kind == "f")


def test_nothing_that_the_arguments_lead_to_holds_the_feedback():
    lists = marked_lists()
    assert not reaches_feedback(lists.requests, lists.candidates)
    assert not reaches_feedback(lists.requests[2:5], lists.candidates[2:5])


def test_the_search_finds_feedback_where_there_is_some():
    lists = marked_lists()
    assert reaches_feedback(lists)
    assert reaches_feedback(lists.requests, replace(lists.candidates, numeric_BNF=lists.feedback_LNS))
    assert reaches_feedback(replace(lists.requests, context_BX=lists.feedback_LNS[:, 0, :1]))  # a view of it
    held = lists.candidates
    object.__setattr__(held, "held", {"deep": [lists]})
    assert reaches_feedback(held)


def test_a_cheat_has_nothing_to_sort_by():
    """The five lines that sorted by feedback find no array that tells liked candidates from others."""
    lists = random_lists(3, num_lists=60)
    turned = replace(lists, feedback_LNS=(1 - lists.feedback_LNS) * lists.mask_LN[:, :, None])
    for one, other in ((lists.requests, turned.requests), (lists.candidates, turned.candidates)):
        pairs = zip(arrays_within(one, {}), arrays_within(other, {}), strict=True)
        assert all(np.array_equal(mine, theirs) for mine, theirs in pairs)
