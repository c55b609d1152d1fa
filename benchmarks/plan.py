"""What a plan of the demo is worth: its dry run, then the demo itself.

    python benchmarks/plan.py --json benchmarks/results/plan.json             # 10 minutes of a quiet machine
    python benchmarks/plan.py --json figures.json --quick                     # a tiny model: a check that it runs

`plan_over_run` is the time that `thinkrank demo --dry-run` foresees, over the time that `thinkrank demo` then takes
from an empty folder. Both are wall time, and a machine that is busy in one of them alone spoils the ratio.
`plan_pieces` is how many pieces the plan names, each with its time.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _figures import parser, tell

QUICK = ["--minutes", "0.3", "--samples", "200", "--set", "model.backbone=tiny"]


def main() -> None:
    arguments = parser(__doc__, quick="a tiny model and 18 seconds of training").parse_args()
    demo = [sys.executable, "-m", "thinkrank", "demo", *(QUICK if arguments.quick else [])]
    began = time.perf_counter()
    told = subprocess.run([*demo, "--dry-run", "--json"], check=True, stdout=subprocess.PIPE, text=True).stdout
    measured = time.perf_counter() - began
    plan = json.loads(told)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([*demo, "--out", str(Path(folder) / "demo")], check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
    foreseen = 3600 * plan["plan"]["hours"]
    figures = {
        "plan_seconds": foreseen,
        "run_seconds": took,
        "plan_over_run": foreseen / took,
        "plan_pieces": len(plan["seconds"]),
        "dry_run_seconds": measured,
    }
    tell(figures, arguments.json)


if __name__ == "__main__":
    main()
