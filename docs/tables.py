"""Fill the tables of the documentation from the files that commands wrote.

A table stands between `<!-- table NAME -->` and `<!-- end -->`: NAME.json lies in docs/results and is the results.json
of `thinkrank evaluate`. Between `<!-- figures NAME -->` and `<!-- end -->` stand the figures of
benchmarks/results/NAME.json. Between `<!-- probe NAME -->` and `<!-- end -->` stand the verdict and the arms of the
probe that is kept in studies/probe/results/NAME. Between `<!-- study METHOD/NAME -->` and `<!-- end -->` stand
all arms under studies/METHOD/results/NAME, compared with what `COMPARED` names, with what `[study]` in
studies/METHOD/NAME.toml says of them (`primary`, `superseded`, `chosen_on_test`,
`notes`), between `<!-- buckets METHOD/NAME -->` and `<!-- end -->` the same by parts
of the samples, between `<!-- places METHOD/NAME -->` and `<!-- end -->` what the order in which candidates are shown
does to prompts without training, and between `<!-- batches METHOD/NAME -->` and `<!-- end -->`
after how many batches validations reach a mark, between `<!-- thinking NAME -->` and `<!-- end -->` how often and how
long the arms of the re-ranking study NAME think. Between `<!-- pairs METHOD -->` and `<!-- end -->` stand the
differences that `PAIRS` names, of every study of a method. Between `<!-- reproduced NAME -->` and `<!-- end -->` stands
which rows were run again, as `thinkrank reproduce --out docs/results/NAME.json` wrote it.
`python docs/tables.py` rewrites them, `--check` only says whether they are up to date.
"""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from thinkrank.evaluate import read_results, results_markdown
from thinkrank.evaluate.studies import read_study, study_test
from thinkrank.evaluate.study_tables import study_markdown, study_notes

DOCS = Path(__file__).parent
LOCK = DOCS / "tables.lock"
"""The digest of every page with tables, as it was written last."""
SHOWN = ("hit@5", "hit@10", "hit@20", "ndcg@10", "ndcg@20", "coverage@10")
MARKED = re.compile(
    r"(<!-- (?P<kind>table|figures|probe|study|buckets|places|thinking|batches|reproduced|needs|pairs) "
    r"(?P<name>[\w./-]+) -->\n)"
    r".*?(<!-- end -->)",
    re.DOTALL,
)
STUDIES = DOCS.parent / "studies"
COMPARED = {
    "r2ec": (("no_reasoning", "no thought"), ("ndcg@10", "hit@1", "hit@5", "hit@10", "hit@20")),
    "r2rank": (("plain_rl", "test"), ("ndcg@10", "ndcg@5", "ndcg@1", "hit@5", "mrr")),
    "r2rank/two-clues": (("sft", "test"), ("ndcg@10", "ndcg@5", "ndcg@1", "hit@5", "mrr")),
    "r2rank/two-clues-dense": (("plgrad", "test"), ("ndcg@10", "ndcg@5", "ndcg@1", "hit@5", "mrr")),
    "r2rank/movielens-100k-evidence": (("plain", "test"), ("ndcg@10", "ndcg@1", "hit@5", "mrr")),
    "r2rank/amazon-office-evidence": (("plain", "test"), ("ndcg@10", "ndcg@1", "hit@5", "mrr")),
    "eglr": (("gru", "greedy"), ("ndcg@10", "ndcg@5", "map@10", "mrr")),
    "latent": (("none", "answer"), ("ndcg@10", "hit@10", "hit@100")),
    "late/movielens-100k": (("baselines", "ALS"), ("ndcg@10", "hit@10", "hit@100")),
    "late/amazon-office": (("baselines", "EASE"), ("ndcg@10", "hit@10", "hit@100")),
    "late/amazon-industrial": (("baselines", "item-kNN"), ("ndcg@10", "hit@10", "hit@100")),
    "cascade": (("cascade", "cascade"), ("ndcg@10", "hit@10", "hit@100")),
}
"""Per method, or study of one, arm and mode that the others are tested against, and metrics."""


def filled(text: str) -> str:
    """Return the page with every marked table made anew."""

    def table(match: re.Match[str]) -> str:
        if match["kind"] == "figures":
            figures = json.loads((DOCS.parent / "benchmarks" / "results" / f"{match['name']}.json").read_bytes())
            lines = [f"| `{name}` | {value:.4g} |" for name, value in figures.items()]
            made = "\n".join(["| figure | value |", "| --- | ---: |", *lines]) + "\n"
        elif match["kind"] == "probe":
            made = probed(STUDIES / "probe" / "results" / match["name"])
        elif match["kind"] == "study":
            method, _, name = match["name"].partition("/")
            study = read_study(STUDIES / method / "results" / name)
            reference, metrics = COMPARED[match["name"] if match["name"] in COMPARED else method]
            more = tuple(dict.fromkeys(name for answers in study for name in answers.measured))
            file = STUDIES / f"{match['name']}.toml"
            told = tomllib.loads(file.read_text(encoding="utf-8"))["study"]
            notes = study_notes(told, file)
            made = study_markdown(study, reference, (*more, *metrics), primary=told.get("primary"), notes=notes)
        elif match["kind"] == "buckets":
            made = by_bucket(STUDIES / match["name"].replace("/", "/results/"))
        elif match["kind"] == "places":
            made = by_place_shown(STUDIES / match["name"].replace("/", "/results/"))
        elif match["kind"] == "needs":
            made = needs(json.loads((DOCS.parent / "benchmarks" / "results" / f"{match['name']}.json").read_bytes()))
        elif match["kind"] == "batches":
            made = by_batches(STUDIES / match["name"].replace("/", "/results/"))
        elif match["kind"] == "thinking":
            made = thinking(STUDIES / "eglr" / "results" / match["name"])
        elif match["kind"] == "pairs":
            made = in_pairs(match["name"])
        elif match["kind"] == "reproduced":
            made = run_again(DOCS / "results" / f"{match['name']}.json")
        else:
            rows = read_results(DOCS / "results" / f"{match['name']}.json")
            made = results_markdown([row for row in rows if row.metric in SHOWN])
        return f"{match[1]}\n{made}\n{match[4]}"

    return MARKED.sub(table, text)


def needs(slopes: dict[str, float]) -> str:
    """Compute what users and items need, one processor core doing everything: the cost model of docs/scale.md."""
    header = ["users", "items", "vectors, fp32", "search", "read 15 events", "and write 32 tokens", "answers"]
    lines = [header, ["---:"] * len(header)]
    for users in (10**6, 10**8):
        for items in (10**6, 10**7):
            search = users * items * slopes["item_searched"]
            read = users * (20 + 15 * 10) * slopes["token_read"]
            written = read + users * 32 * slopes["token_written"]
            cells = [f"{search / 3600:,.0f}", f"{read / 3600:,.0f}", f"{written / 3600:,.0f}"]
            vectors, answers = items * slopes["item_bytes"] / 2**30, users * slopes["answer_bytes"] / 2**30
            lines.append(
                [f"{users / 1e6:.0f} M", f"{items / 1e6:.0f} M", f"{vectors:.1f} GiB"]
                + [f"{cell} core hours" for cell in cells]
                + [f"{answers:,.1f} GiB"]
            )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def by_bucket(folder: Path) -> str:
    """NDCG@10 of each arm and mode on the parts of the samples that the arm `baselines` has written down."""
    buckets = json.loads((folder / "baselines-0.json").read_text(encoding="utf-8"))["buckets"]
    held = {name: samples for name, samples in buckets.items() if samples}
    lines = [["arm", "mode", *(f"{name} ({len(samples)})" for name, samples in held.items())]]
    lines.append(["---"] * 2 + ["---:"] * len(held))
    for answers in read_study(folder):
        values_S = answers.values("ndcg@10").mean(axis=0)
        means = [f"{values_S[samples].mean():.3f}".replace("0.", ".", 1) for samples in held.values()]
        lines.append([answers.arm, answers.mode, *means])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def by_batches(folder: Path) -> str:
    """Tell after how many batches the thought first validates at .95 and .99, seed by seed, and where it ends."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        found.setdefault(result["arm"], []).append(result)
    lines = [["arm", "batches to .95", "to .99", "NDCG@10 at the last batch", "what it is"], ["---"] * 5]
    for arm, results in found.items():
        curves = [[(row["step"], row["valid_thinking_ndcg@10"]) for row in one["validations"]] for one in results]
        firsts = [
            ", ".join(str(next((step for step, value in curve if value >= wanted), "–")) for curve in curves)
            for wanted in (0.95, 0.99)
        ]
        ends = ", ".join(f"{curve[-1][1]:.3f}" for curve in curves)
        lines.append([f"`{arm}`", *firsts, ends, results[0]["about"]])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def by_place_shown(folder: Path) -> str:
    """Agreement of the answers over orders of the same candidates, and NDCG@10 by where the true one was shown."""
    rows = json.loads((folder / "zero_shot-0.json").read_text(encoding="utf-8"))["position_bias"]
    shown = "ndcg@10, true item shown at "
    places = [int(row["metric"].removeprefix(shown)) for row in rows if row["metric"].startswith(shown)]
    bounds = [(first, first + 4) for first in range(1, max(places) + 1, 5)]
    header = ["system", "Kendall's τ", "deviation of ndcg@10", *(f"shown at {first}-{last}" for first, last in bounds)]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for system in dict.fromkeys(row["system"] for row in rows):
        figures = {row["metric"]: row for row in rows if row["system"] == system}
        tau, deviation = figures["kendall tau over orders"], figures["ndcg@10 deviation over orders"]
        line = [system, f"{tau['value']:.3f} [{tau['low']:.3f}–{tau['high']:.3f}]", f"{deviation['value']:.4f}"]
        for first, last in bounds:
            part = [figures[name] for place in range(first, last + 1) if (name := f"{shown}{place}") in figures]
            line.append(f"{np.average([row['value'] for row in part], weights=[row['n'] for row in part]):.3f}")
        lines.append(line)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def thinking(folder: Path) -> str:
    """Tell how often each arm thinks, at what cost, and whether its lists could change: means, or a range of seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        if "trigger_rate" in result:
            found.setdefault(result["arm"], []).append(result)
    without = {(arm, result["seed"]): result["answer_seconds"] for arm, results in found.items() for result in results}
    header = ["arm", "places that think", "thoughts per place", "entropy before", "after", "time of an answer"]
    header += ["lists the same, state frozen", "reward of the greedy list", "of the best found", "seeds"]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for arm, results in found.items():
        plain = results[0]["settings"]["model"]["generator"]["kind"]  # the arm that never thinks is called like it
        judged = [result for result in results if (plain, result["seed"]) in without]
        ratios = [result["answer_seconds"] / without[plain, result["seed"]] for result in judged]
        entropies = [
            [np.mean(result[f"entropy_{when}_by_place"]) for result in results] for when in ("before", "after")
        ]
        figures = [
            f"{100 * np.mean([result['trigger_rate'] for result in results]):.0f} %",
            f"{np.mean([result['mean_thoughts'] for result in results]):.2f}",
            *(f"{np.mean(values):.3f}" for values in entropies),
            f"{np.median(ratios):.2f}",
            spread([100 * result["after"]["state"]["unchanged_lists"] for result in results], 0) + " %",
            *(spread([result["after"]["headroom"][key] for result in results], 3) for key in ("greedy", "found")),
        ]
        lines.append([arm, *figures, str(len(results))])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


PAIRS = {
    "late": (
        (("reader", "crowd and reader"), ("baselines", "best single")),
        (("reader", "crowd and reader"), ("reader", "crowd")),
        (("reader", "baselines and reader"), ("reader", "baselines")),
    ),
    "cascade": (
        (("cascade", "cascade"), ("cascade", "retriever")),
        (("cascade", "cascade"), ("baselines", "best single")),
        (("whole", "cascade"), ("whole", "retriever")),
        (("whole", "cascade"), ("baselines", "best single")),
    ),
    "r2rank": (
        (("plain_evidence", "test"), ("plain", "test")),
        (("plain_evidence", "test"), ("tool", "tool")),
        (("plain_evidence", "test"), ("baselines", "SASRec")),
        (("plain_evidence", "with the tool"), ("tool", "tool")),
        (("plain_evidence", "with the tool"), ("plain", "with the tool")),
        (("plain_evidence", "with the tool"), ("baselines", "SASRec")),
    ),
}
"""Per method, arm and mode that are compared with another; "best single" is the best single baseline of the data, which
the studies of the late reader are compared with."""
PAIRED_IN = {"late": ("ndcg@10", "hit@100"), "cascade": ("ndcg@10", "hit@100"), "r2rank": ("ndcg@10", "hit@5")}


def in_pairs(method: str) -> str:
    """Test pairs of arms and modes of every study of a method, each test by itself, in several metrics."""
    heads = [word for metric in PAIRED_IN[method] for word in (f"{metric}: difference", "p")]
    lines = [["study", "of", "compared with", *heads], ["---"] * 3 + ["---:"] * len(heads)]
    for folder in sorted((STUDIES / method / "results").iterdir()):
        found = {(one.arm, one.mode): one for one in read_study(folder)}
        for of, given in PAIRS[method]:
            against = COMPARED[f"late/{folder.name}"][0] if given[1] == "best single" else given
            if of not in found or against not in found:
                continue
            cells = []
            for metric in PAIRED_IN[method]:
                test = study_test(found[of], found[against], metric).test
                if test is None or test.p_value is None:
                    raise SystemExit(f"{folder}: too few users for a test of {of} against {against}")
                low, high = (f"{value:+.4f}" for value in (test.difference.low, test.difference.high))
                cells += [
                    f"{test.difference.value:+.4f} [{low} to {high}]",
                    "< .001" if test.p_value < 0.001 else f"{test.p_value:.3f}",
                ]
            lines.append([folder.name, ", ".join(of), ", ".join(against), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def run_again(file: Path) -> str:
    """Show each row that was run again: what was published, what came out, and whether it fell inside."""
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    if not rows:
        return "None has been run again yet.\n"
    lines = [["row", "metric", "published", "interval", "again", "seeds", "inside"], ["---"] * 2 + ["---:"] * 5]
    for row in rows:
        between = f"{row['low']:.4f}–{row['high']:.4f}"
        seeds = " ".join(map(str, row["seeds"])) or "–"
        figures = [
            f"{row['published']:.4f}",
            between,
            f"{row['again']:.4f}",
            seeds,
            "yes" if row["inside"] else "**no**",
        ]
        lines.append([row["row"], row["metric"], *figures])
    inside = sum(row["inside"] for row in rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{inside} of {len(rows)} rows fell inside.\n"


def probed(folder: Path) -> str:
    """Write the verdict of a probe, in its own words, and the figures of its arms."""
    told = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
    cells = {(row.system, row.metric): row for row in read_results(folder / "results.json")}
    clock = next(name for _, name in cells if name.endswith("minutes of training"))  # on the wall in earlier runs
    costs = (("tokens per answer", 1), ("milliseconds per answer", 1), (clock, 1))
    lines = [["answer", "NDCG@10", "hit@10", "tokens", "milliseconds", clock], ["---"] + ["---:"] * 5]
    for system in dict.fromkeys(system for system, _ in cells):
        first, hit = cells[system, "ndcg@10"], cells[system, "hit@10"]
        known = [(cells.get((system, name)), digits) for name, digits in costs]
        cost = [f"{cell.value:.{digits}f}" if cell else "–" for cell, digits in known]
        lines.append([system, f"{first.value:.4f} [{first.low:.4f}–{first.high:.4f}]", f"{hit.value:.3f}", *cost])
    words = "".join(f"> {line}\n>\n" for line in (f"**{told['sentence']}**", *told["details"]))
    if "learnt from" in told["about"]:
        words = f"Learnt from {told['about']['learnt from']}.\n\n{words}"
    return words + "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(values: list[float], digits: int) -> str:
    """Show the least and the largest of some seeds' figures."""
    return "–".join(f"{value:.{digits}f}" for value in (min(values), max(values)))


def digest(text: str) -> str:
    """Hash a page together with all that its tables come from: files of results, settings of studies, and code."""
    root, whole = DOCS.parent, hashlib.sha256()
    files = [Path(__file__), root / "src" / "thinkrank" / "metrics.py"]
    for folder, kinds in (
        ("src/thinkrank/evaluate", ("py",)),
        ("docs/results", ("json",)),
        ("benchmarks/results", ("json",)),
        ("studies", ("json", "toml")),
    ):
        files += [file for kind in kinds for file in sorted((root / folder).rglob(f"*.{kind}"))]
    for file in files:
        whole.update(f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    whole.update(text.encode())
    return whole.hexdigest()


def main() -> int:
    """Rewrite the pages, or with --check return 1 if one is out of date.

    Intervals of trainings take minutes, so a page whose digest is that of its last writing is up to date unread.
    """
    stale, checks = 0, "--check" in sys.argv[1:]
    known = json.loads(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}
    for page in sorted(DOCS.rglob("*.md")):
        name, old = page.relative_to(DOCS).as_posix(), page.read_text(encoding="utf-8")
        if not MARKED.search(old) or known.get(name) == digest(old):
            continue
        new = filled(old)
        if checks:
            stale |= old != new
            continue
        if old != new:
            page.write_text(new, encoding="utf-8")
        known[name] = digest(new)
    if not checks:
        LOCK.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
