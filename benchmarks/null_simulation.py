"""How often the tests of study tables call a difference where there is none: at .05 it must be near .05.

Two arms that are equally good are judged on the samples of users, by one training each or by several, and go through
the code that makes the tables (`thinkrank.evaluate.study_tables.compared`). Numbers of samples and users, and how alike
the samples of a user are, are those of the studies. A difference is the sum of

- what every training of the two has in common: users of whom one arm is right more often, and samples;
- what each pair of trainings has alone, a share `noise` of the variance, likewise by users and samples;
- by how much one training of a pair came out better as a whole: `spread`, in standard errors of one pair's mean.

On films (MovieLens-100K, recpo against no_reasoning, three seeds) the noise was .23 and the spread .3, in a shop .52
and .7, in the made world of two clues .88 and 2.9. Beside the tables' own test stands what simpler ones would have
said: users flipped with trainings averaged, t over the trainings' means, the larger p of these two, and t over samples
as if each were a user's only one.

    python benchmarks/null_simulation.py --json figures.json            # 4,000 pairs of arms per line, minutes
    python benchmarks/null_simulation.py --json figures.json --quick    # 200

In `results/null_simulation.json` eleven lines have 2,000 pairs and one has 4,000: `studies` tells it for each.
"""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np

from _figures import parser
from thinkrank.evaluate._student import within
from thinkrank.evaluate.significance import paired_test
from thinkrank.evaluate.studies import ArmAnswers
from thinkrank.evaluate.study_tables import compared

LEVEL = 0.05
SHARE_OF_USERS = 0.05
"""The part of the variance that lies between users: their intraclass correlation."""


@dataclass(frozen=True)
class World:
    """Hold samples, users and trainings of a study without an effect."""

    samples: int
    users: int
    trainings: int
    noise: float = 0.25
    spread: float = 1.0


WORLDS = {
    "films, all samples, one training": World(9907, 166, 1, spread=0),
    "films, 400 samples, one training": World(400, 102, 1, spread=0),
    "hotels, one training": World(1341, 688, 1, spread=0),
    "films, all samples, 5 trainings": World(9907, 166, 5),
    "films, 400 samples, 5 trainings": World(400, 102, 5),
    "hotels, 5 trainings": World(1341, 688, 5),
    "films, all samples, 3 trainings": World(9907, 166, 3),
    "films, 400 samples, 3 trainings": World(400, 102, 3),
    "hotels, 3 trainings": World(1341, 688, 3),
    "films, 400 samples, 5 trainings of half noise": World(400, 102, 5, noise=0.5),
    "films, 400 samples, 5 trainings far apart": World(400, 102, 5, noise=0.9, spread=3),
    "films, 400 samples, 3 trainings far apart": World(400, 102, 3, noise=0.9, spread=3),
}


def users_of(world: World) -> np.ndarray:
    """Give every user a sample and the rest as unevenly as in films: a few have many."""
    random = np.random.default_rng(0)
    weights = random.lognormal(0, 1, world.users)
    more = random.choice(world.users, world.samples - world.users, p=weights / weights.sum())
    return np.sort(np.append(np.arange(world.users), more))


def differences(world: World, users_S: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw the differences of each pair of trainings and sample; their mean over everything that is drawn is 0."""

    def part(times: int) -> np.ndarray:
        of_users = random.normal(0, SHARE_OF_USERS**0.5, (times, world.users))[:, users_S]
        return of_users + random.normal(0, (1 - SHARE_OF_USERS) ** 0.5, (times, world.samples))

    sizes = np.bincount(users_S)
    error = (SHARE_OF_USERS * (sizes**2).sum() + (1 - SHARE_OF_USERS) * world.samples) ** 0.5 / world.samples
    common = (1 - world.noise) ** 0.5 * part(1) + world.noise**0.5 * part(world.trainings)
    return common + world.spread * error * random.normal(size=(world.trainings, 1))


def table_p_value(drawn_KS: np.ndarray, users_S: np.ndarray) -> float:
    """Return the p-value that a table of two arms shows."""
    trainings, samples = drawn_KS.shape
    places = (((),) * samples,) * trainings
    arms = [
        ArmAnswers(name, "test", "", tuple(range(trainings)), places, {"gain": gain_KS}, (0.0,), users_S=users_S)
        for name, gain_KS in (("new", drawn_KS / 2), ("old", -drawn_KS / 2))
    ]
    (row,) = compared(arms, arms[1], "gain")
    return float("nan") if row.p_value is None else row.p_value


def p_values(world: World, users_S: np.ndarray, random: np.random.Generator) -> dict[str, float]:
    """Let the tables' code, and simpler tests, judge one study of two arms."""
    drawn_KS = differences(world, users_S, random)
    found = {"table": table_p_value(drawn_KS, users_S)}
    means_S, nothing = drawn_KS.mean(axis=0), np.zeros(world.samples)
    error = means_S.std(ddof=1) / world.samples**0.5
    found["samples alone"] = 1 - within(float(abs(means_S.mean()) / error), world.samples - 1.0)
    if world.trainings > 1:
        found["users flipped"] = paired_test(means_S, nothing, users_S, num_resamples=999).p_value or 0.0
        means_K = drawn_KS.mean(axis=1)
        t = abs(means_K.mean()) / (means_K.std(ddof=1) / world.trainings**0.5)
        found["t over trainings"] = 1 - within(float(t), world.trainings - 1.0)
        found["larger of both"] = max(found["users flipped"], found["t over trainings"])
    return found


def rejections(world: World, studies: int, seed: int = 0) -> dict[str, int]:
    """Count the studies in which each test calls the arms different."""
    users_S, random = users_of(world), np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    for _ in range(studies):
        for name, p_value in p_values(world, users_S, random).items():
            counts[name] += p_value <= LEVEL
    return dict(counts)


def main() -> None:
    """Count, show and write."""
    options = parser(__doc__, quick="200 studies each")
    options.add_argument("--line", action="append", choices=WORLDS, help="line to make anew; all by default")
    given = options.parse_args()
    studies, found = 200 if given.quick else 4000, {}
    if given.line and given.json and given.json.is_file():
        found = json.loads(given.json.read_text(encoding="utf-8"))
    for name in given.line or WORLDS:
        world = WORLDS[name]
        counts = rejections(world, studies)
        found[name] = {**vars(world), "studies": studies, "rejected": counts}
        shares = ", ".join(f"{test} {count / studies:.3f}" for test, count in counts.items())
        print(f"{name}: {shares}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
