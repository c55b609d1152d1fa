"""A teacher of rules: the offline stand-in for a large model (reconstructed; the paper's teacher is DeepSeek-R1).

It weighs `evidence` from texts and train counts, takes the item for likely if the sum is above 0, and names what
weighed most, in short sentences that are easy to imitate: what the history shows, what the item is and what speaks for
or against it, the verdict. Words are drawn from a few by a hash of the question, so equal questions get equal answers
in every process. It knows nothing of other candidates, and does not count the event it is asked about.

Shown that a verdict was wrong, it looks at the evidence on the other side by itself. If a piece of it can be named, it
changes its mind and leads with that; if not, it says the same again.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from thinkrank.data import Split
from thinkrank.data.popularity import TrainCounts
from thinkrank.options import Options
from thinkrank.teachers.attributes import plain
from thinkrank.teachers.evidence import Evidence, Facts, Profile
from thinkrank.teachers.pairs import Pair, Verdict
from thinkrank.teachers.templates import Choice, Templates


class RuleOptions(Options):
    """Say how the teacher of rules speaks."""

    noun: str = Field("item", description="what the catalogue holds, as a noun in the singular")
    least_evidence: float = Field(0.2, gt=0, description="log-odds from which a piece of evidence is worth naming")
    max_pieces: int = Field(
        36, ge=16, description="titles and asides are left out as long as a text has more words, digits and marks"
    )
    seed: int = Field(0, ge=0, description="seed of the choice of words")


class RuleTeacher:
    """Teacher that writes why an item fits a history or does not.

    Args:
        split: whose catalogue and train part are used.
        options: how it speaks.
    """

    def __init__(self, split: Split, options: RuleOptions | None = None) -> None:
        self.options = options or RuleOptions()
        catalogue = split.dataset.catalogue
        self._ids = catalogue.ids
        self._counts = TrainCounts(split)
        self._facts = Facts(catalogue, self._counts.counts_I)
        self._nouns = plain(self.options.noun) + "s"

    @property
    def name(self) -> str:
        """Return its name in the traces."""
        changed = self.options.model_dump_json(exclude_defaults=True)
        return "rules" if changed == "{}" else f"rules {changed}"

    def answer(self, pairs: Sequence[Pair], reflections: Sequence[Verdict | None]) -> list[Verdict | None]:
        """Reason about each pair; see `Teacher`. Every pair gets a verdict."""
        profiles = self._profiles(pairs)
        return [
            self._verdict(pair, profile, reflection)
            for pair, profile, reflection in zip(pairs, profiles, reflections, strict=True)
        ]

    def scores(self, pairs: Sequence[Pair]) -> Float64[np.ndarray, "P"]:
        """Score each pair: log-odds that the item comes next, against a draw from the catalogue."""
        sums = (
            sum(piece.weight for piece in self._facts.evidence(profile, pair.item, self._counts.own(pair.position)))
            for pair, profile in zip(pairs, self._profiles(pairs), strict=True)
        )
        return np.fromiter(sums, dtype=np.float64, count=len(pairs))

    def _profiles(self, pairs: Sequence[Pair]) -> list[Profile]:
        """Return the profile of each pair's history; pairs with the same history share one."""
        profiles: dict[bytes, Profile] = {}
        for pair in pairs:
            key = pair.history.items.tobytes()
            if key not in profiles:
                profiles[key] = self._facts.profile(pair.history.items.tolist())
        return [profiles[pair.history.items.tobytes()] for pair in pairs]

    def _verdict(self, pair: Pair, profile: Profile, reflection: Verdict | None) -> Verdict:
        evidence = self._facts.evidence(profile, pair.item, self._counts.own(pair.position))
        seen = len(profile.rows)
        likely = sum(piece.weight for piece in evidence) > 0
        if reflection is not None:
            likely = reflection.likely != any(self._speaks(piece, not reflection.likely, seen) for piece in evidence)
        reasons = [piece for piece in evidence if self._speaks(piece, likely, seen)]
        doubts = [piece for piece in evidence if self._speaks(piece, not likely, seen)]
        reasons = reasons or [piece for piece in evidence if (piece.weight > 0) == likely][:1]
        choice = Choice.by(f"{self.options.seed}/{pair.position}/{self._ids[pair.item]}")
        wording = Templates(self._facts, profile, pair.item, self._nouns, choice)
        return Verdict(wording.write(reasons, doubts, likely=likely, max_pieces=self.options.max_pieces), likely)

    def _speaks(self, piece: Evidence, likely: bool, num_seen: int) -> bool:
        """Tell whether a piece of evidence is for this verdict and worth naming.

        "Only 9 of 20" speaks against nothing and "1 of 20" for no era, even where others have yet more, or less.
        """
        if (piece.weight > 0) != likely or abs(piece.weight) < self.options.least_evidence:
            return False
        if piece.kind in ("taste", "era") and not likely:
            return 4 * len(piece.rows) <= num_seen
        return piece.kind != "era" or 8 * len(piece.rows) >= num_seen
