"""Every setting is found, with what it may be and what it does."""

import pytest

from thinkrank.recipes.cascade import CascadeSettings
from thinkrank.recipes.described import described
from thinkrank.recipes.layers import setting_names
from thinkrank.recipes.probe_options import ProbeSettings
from thinkrank.recipes.ranking import RankSettings
from thinkrank.recipes.reranking import RerankSettings
from thinkrank.recipes.retrieval import RetrieveSettings


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("retrieve", RetrieveSettings),
        ("rank", RankSettings),
        ("rerank", RerankSettings),
        ("cascade", CascadeSettings),
        ("probe", ProbeSettings),
    ],
)
def test_every_setting_is_described_in_a_sentence(kind, model):
    found = described(kind)
    assert [one.name for one in found] == setting_names(model)
    assert all(one.description and one.type for one in found)
    assert not any("Undefined" in one.default or "Annotated" in one.type for one in found)


def test_types_bounds_and_defaults_are_those_of_the_fields():
    by_name = {one.name: one for one in described("retrieve")}
    grad = by_name["training.grad_clip"]
    assert (grad.type, grad.bounds, grad.default) == ("number", "above 0", "1.0")
    assert by_name["training.keep"].type == '"best" or "last"'
    assert by_name["training.max_minutes"].default == "none"
    assert by_name["model.reading"].default == '"late"'  # the command's own
    assert by_name["training.steps"].default == "fitted to the data"
    assert by_name["crowd"].type == "list of text"
    assert by_name["recpo.clip_low"].bounds == "at least 0, at most 1"
