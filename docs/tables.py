"""Fill the tables of the documentation from the files that commands wrote.

A table stands between `<!-- table NAME -->` and `<!-- end -->`: NAME.json lies in docs/results and is the results.json
of `thinkrank evaluate`. Between `<!-- figures NAME -->` and `<!-- end -->` stand the figures of
benchmarks/results/NAME.json, between `<!-- study NAME -->` and `<!-- end -->` all arms under studies/r2ec/results/NAME.
`python docs/tables.py` rewrites them, `--check` only says whether they are up to date.
"""

import json
import re
import sys
from pathlib import Path

from thinkrank.evaluate import read_results, results_markdown
from thinkrank.evaluate.studies import read_study, study_markdown

DOCS = Path(__file__).parent
SHOWN = ("hit@5", "hit@10", "hit@20", "ndcg@10", "ndcg@20", "coverage@10")
MARKED = re.compile(r"(<!-- (?P<kind>table|figures|study) (?P<name>[\w.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return the page with every marked table made anew."""

    def table(match: re.Match[str]) -> str:
        if match["kind"] == "figures":
            figures = json.loads((DOCS.parent / "benchmarks" / "results" / f"{match['name']}.json").read_bytes())
            lines = [f"| `{name}` | {value:.4g} |" for name, value in figures.items()]
            made = "\n".join(["| figure | value |", "| --- | ---: |", *lines]) + "\n"
        elif match["kind"] == "study":
            study = read_study(DOCS.parent / "studies" / "r2ec" / "results" / match["name"])
            made = study_markdown(study, ("no_reasoning", "no thought"))
        else:
            rows = read_results(DOCS / "results" / f"{match['name']}.json")
            made = results_markdown([row for row in rows if row.metric in SHOWN])
        return f"{match[1]}\n{made}\n{match[4]}"

    return MARKED.sub(table, text)


def main() -> int:
    """Rewrite the pages, or with --check return 1 if one is out of date."""
    stale = 0
    for page in sorted(DOCS.rglob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = filled(old)
        if "--check" in sys.argv[1:]:
            stale |= old != new
        elif old != new:
            page.write_text(new, encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
