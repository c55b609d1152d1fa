"""Write curves and answers anew, after a change that is meant to change them.

    PYTHONPATH=tests python -m golden.rewrite

Arguments name jobs (such as eglr or lists) and `answers`; all by default. Answers of old folders are written anew only
where they are the same within rounding. Look at the difference, and say in the changelog why.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from golden.answers import answer
from golden.compare import FOLDER, ROUNDING, as_text, assert_same_within, make
from golden.curves import JOBS

FIXTURES = FOLDER.parent / "fixtures"


def main(chosen: list[str]) -> None:
    torch.set_num_threads(1)
    for job, (run, names) in JOBS.items():
        for name in names if not chosen or job in chosen else ():
            with tempfile.TemporaryDirectory() as folder:
                for file, text in run(name, Path(folder)).items():
                    (FOLDER / f"{file}.txt").write_text(text, encoding="utf-8")
    for fixture in FIXTURES.iterdir() if not chosen or "answers" in chosen else ():
        kept = fixture / "rankings.json"
        record = json.loads(kept.read_text(encoding="utf-8"))
        answers = answer(fixture.name, fixture, record["questions"])
        if answers != record["answers"]:
            assert_same_within(ROUNDING, as_text(answers), as_text(record["answers"]))
            kept.write_text(json.dumps(record | {"answers": answers}, indent=1) + "\n", encoding="utf-8")
    (FOLDER / "made_with.json").write_text(json.dumps(make()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
