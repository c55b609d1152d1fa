"""What people are shown beside a recommendation."""

import re
from dataclasses import replace

from thinkrank.data import split_dataset
from thinkrank.evidence import Reasons
from thinkrank.recipes.data import DataSettings
from thinkrank.recipes.faithful import counted_faithfulness
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.ranking import rank_settings
from thinkrank.recipes.reasons import counted_reasons, recommended_with_reasons
from thinkrank.retrieve import ItemKNN
from thinkrank.testing import random_lists, two_tribes


def test_items_come_with_reasons_whose_claims_are_true():
    split = split_dataset(two_tribes())
    settings = rank_settings(Layers(assignments=["data.source=movielens-100k"]))
    reasons = counted_reasons(settings, split)
    assert reasons.nouns == "movies"
    text = recommended_with_reasons(ItemKNN().fit(split), split.test, reasons, k=3)
    first, *_, last = text.splitlines()
    assert first.startswith(f"User {split.dataset.users[split.test.users[0]]}, last seen with")
    assert "  3. " in text
    assert "people who chose" in text
    checked, true = (int(word.strip(",")) for word in last.split() if word.strip(",").isdigit())
    assert checked == true > 0


def test_nothing_is_counted_where_there_are_lists_or_no_training_part():
    settings = DataSettings()
    wrapped = type("Settings", (), {"data": settings})
    assert counted_reasons(wrapped, random_lists()) is None
    untrained = split_dataset(two_tribes(), fractions=(0.0, 0.0, 1.0))
    assert counted_reasons(wrapped, untrained) is None


def test_false_reasons_lower_the_share_of_claims_that_hold():
    class Wrong(Reasons):
        """Say of every third text that twice as many chose as did."""

        said = 0

        def reasons(self, *asked, **options):
            found = super().reasons(*asked, **options)
            for place, reason in enumerate(found):
                Wrong.said += 1
                if Wrong.said % 3 == 0:
                    text = re.sub(r"\d+", lambda number: str(2 * int(number[0])), reason.text, count=1)
                    found[place] = replace(reason, text=text)
            return found

    split = split_dataset(two_tribes())
    found = counted_faithfulness(ItemKNN().fit(split), split.test, Wrong.of(split))
    num_texts = len(found.values["texts that may be shown"])
    assert num_texts == Wrong.said
    assert found.mean("texts that may be shown") == (num_texts - num_texts // 3) / num_texts
    assert 0 < found.mean("claims that hold") < 1
