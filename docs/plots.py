"""Draw the figures of the documentation from the results of studies (needs the extra `plots`).

`python docs/plots.py` writes docs/figures/NAME.svg for every study under studies/r2ec/results: validation NDCG@10 of
each arm over the steps of its training, one line per seed, thinking arms by what they answer after their thought.
"""

import json
from pathlib import Path

from matplotlib import pyplot

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "studies" / "r2ec" / "results"
SHOWN = ("recpo", "frozen", "released", "no_reasoning")
COLORS = {"recpo": "#0b7a75", "frozen": "#d1495b", "released": "#edae49", "no_reasoning": "#6b7280"}


def draw(folder: Path) -> None:
    """One study's figure."""
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for arm in SHOWN:
        for number, file in enumerate(sorted(folder.glob(f"{arm}-[0-9]*.json"))):
            result = json.loads(file.read_text(encoding="utf-8"))
            key = "valid_thinking_ndcg@10" if "thought" in result["ranks"] else "valid_ndcg@10"
            rows = [row for row in result["validations"] if key in row]
            last = rows[-1]["step"]
            axes.plot(
                [row["step"] / last for row in rows],
                [row[key] for row in rows],
                color=COLORS[arm],
                marker="o",
                markersize=3,
                linewidth=1.2,
                label=arm.replace("_", " ") if number == 0 else None,
            )
    axes.set_xlabel("share of the training")
    axes.set_ylabel("validation NDCG@10")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    target = DOCS / "figures" / f"{folder.name}.svg"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Draw every study that has results."""
    pyplot.switch_backend("svg")
    pyplot.rcParams["svg.hashsalt"] = "thinkrank"  # the same results give the same file
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        draw(folder)


if __name__ == "__main__":
    main()
