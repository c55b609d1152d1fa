"""Write the curves down anew, after a change that is meant to change them: `PYTHONPATH=tests python -m golden.rewrite`.

Arguments name jobs (such as eglr or lists); all by default. Look at the difference, and say in the changelog why.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from golden.compare import FOLDER
from golden.curves import JOBS


def main(chosen: list[str]) -> None:
    torch.set_num_threads(1)
    for job, (run, names) in JOBS.items():
        for name in names if not chosen or job in chosen else ():
            with tempfile.TemporaryDirectory() as folder:
                for file, text in run(name, Path(folder)).items():
                    (FOLDER / f"{file}.txt").write_text(text, encoding="utf-8")
    made_with = {"torch": torch.__version__.partition("+")[0], "cpu": torch.backends.cpu.get_cpu_capability()}
    (FOLDER / "made_with.json").write_text(json.dumps(made_with) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
