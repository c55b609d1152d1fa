"""What stands in the place of thoughts costs what they cost, and says something else."""

import pytest

from thinkrank.language import GenerationOptions, PrefixTree, TransformersEngine, tiny_backbone
from thinkrank.language.replacing import Replacing, replaced

OPTIONS = GenerationOptions(max_new_tokens=5, temperature=1.0)
TREE = PrefixTree.rows([[3, 4, 5], [3, 4], [6, 7, 8]])


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(tiny_backbone(["a film"]))


def test_filler_has_the_length_of_what_was_written(engine):
    written = engine.sample(TREE, OPTIONS, num_samples=2)
    filled = Replacing("filler", [9, 10, 11])(written)
    for many, others in zip(written, filled, strict=True):
        for one, other in zip(many, others, strict=True):
            assert other.ids == tuple([9, 10, 11, 9, 10, 11][: one.num_before_stop])
            assert (other.num_before_stop, other.last_state) == (one.num_before_stop, None)
            assert other.text == one.text


def test_texts_are_exchanged_half_the_list_away_and_with_an_earlier_one_where_one_is_alone(engine):
    written = engine.sample(TREE, OPTIONS)
    other = Replacing("other", [9])
    with pytest.raises(ValueError, match="at least two"):
        other(written[:1])
    found = other(written)
    assert [one.ids for (one,) in found] == [written[at][0].ids_before_stop for at in (1, 2, 0)]
    (alone,) = other(written[2:])
    assert alone[0].ids == written[0][0].ids_before_stop


def test_nothing_may_stand_there(engine):
    assert [one.ids for one in replaced([many[0] for many in engine.sample(TREE, OPTIONS)], "empty", [9])] == [()] * 3


def test_several_texts_are_sampled():
    assert GenerationOptions().for_samples(1) == GenerationOptions()
    assert GenerationOptions().for_samples(2).temperature == 1
    assert OPTIONS.model_copy(update={"temperature": 0.5}).for_samples(2).temperature == 0.5
