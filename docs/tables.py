"""Fill the tables of docs/results.md from the result files a run wrote.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; NAME.json lies in docs/results and is the results.json
of `thinkrank evaluate`. `python docs/tables.py` rewrites them, `--check` only says whether they are up to date.
"""

import re
import sys
from pathlib import Path

from thinkrank.evaluate import read_results, results_markdown

DOCS = Path(__file__).parent
SHOWN = ("hit@5", "hit@10", "hit@20", "ndcg@10", "ndcg@20", "coverage@10")
MARKED = re.compile(r"(<!-- table (?P<name>[\w.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return the page with every marked table made anew."""

    def table(match: re.Match[str]) -> str:
        rows = read_results(DOCS / "results" / f"{match['name']}.json")
        return f"{match[1]}\n{results_markdown([row for row in rows if row.metric in SHOWN])}\n{match[3]}"

    return MARKED.sub(table, text)


def main() -> int:
    """Rewrite the page, or with --check return 1 if it is out of date."""
    page = DOCS / "results.md"
    old = page.read_text(encoding="utf-8")
    new = filled(old)
    if "--check" in sys.argv[1:]:
        return int(old != new)
    page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
