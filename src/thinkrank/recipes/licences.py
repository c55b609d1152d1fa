"""What may be done with data and weights: their terms, in one sentence each, for cards, reports and pages."""

from typing import NamedTuple


class Terms(NamedTuple):
    """State the terms of a data set or of weights.

    Attributes:
        name: of what.
        licence: its identifier on the hub, or "other".
        text: one sentence.
        may_be_passed_on: whether copies, titles of items included, may be given to others.
    """

    name: str
    licence: str
    text: str
    may_be_passed_on: bool


_MOVIELENS_100K = "research only; no redistribution and no commercial use without permission of GroupLens; cite Harper "
_AMAZON = "no licence is stated by its publishers (McAuley Lab, UCSD), who offer it for research; cite "

DATA: dict[str, Terms] = {
    "movielens-100k": Terms("MovieLens-100K", "other", f"{_MOVIELENS_100K}and Konstan 2015", False),
    "movielens": Terms("MovieLens", "other", "terms of GroupLens in the README of each set; no commercial use", False),
    "amazon-2018": Terms("Amazon reviews 2018", "other", f"{_AMAZON}Ni, Li and McAuley 2019", False),
    "amazon-2023": Terms("Amazon reviews 2023", "other", f"{_AMAZON}Hou et al. 2024", False),
    "mind": Terms("MIND", "other", "Microsoft Research License Terms: non-commercial research only", False),
    "trivago": Terms("trivago (RecSys 2019)", "other", "terms of the challenge; redistribution not granted", False),
    "kuairand": Terms("KuaiRand", "other", "see the terms beside its files", False),
    "ebnerd": Terms("EB-NeRD", "other", "see the terms beside its files", False),
    "synthetic": Terms("a simulation of thinkrank", "apache-2.0", "Apache-2.0", True),
    "synthetic-relay": Terms("a simulation of thinkrank", "apache-2.0", "Apache-2.0", True),
}
"""By the name of the source; a table of your own has none."""

OWN_DATA = Terms("own data", "other", "its owner decides", False)

WEIGHTS: dict[str, Terms] = {
    "smollm2": Terms("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0", "Apache-2.0", True),
    "tiny": Terms("a random model for tests", "apache-2.0", "Apache-2.0", True),
    "minilm": Terms("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0", "Apache-2.0", True),
}
"""By the name of the backbone; others have the terms that their hub page states."""


def data_terms(source: str) -> Terms:
    """Return the terms of a source's data."""
    return DATA.get(source, OWN_DATA)


def weights_terms(backbone: str) -> Terms:
    """Return the terms of a language model's weights; of an unknown one, where to look."""
    other = Terms(backbone, "other", f"the terms of {backbone}, as its publisher states them", False)
    return WEIGHTS.get(backbone, other)
