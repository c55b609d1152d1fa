"""Draw the figures of the documentation from the results of studies (needs the extra `plots`).

`python docs/plots.py` writes docs/figures/NAME.svg for every study under studies/r2ec/results: validation NDCG@10 of
each arm over the steps of its training, one line per seed, thinking arms by what they answer after their thought. For
every study under studies/eglr/results it writes entropy-NAME.svg: how uncertain a re-ranker is at each place, means
over seeds. For every probe under studies/probe/results it writes probe-NAME.svg: what each answer reaches.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

DOCS = Path(__file__).parent
STUDIES = DOCS.parent / "studies"
SHOWN = ("recpo", "frozen", "released", "no_reasoning")
COLORS = {"recpo": "#0b7a75", "frozen": "#d1495b", "released": "#edae49", "no_reasoning": "#6b7280"}


ENTROPIES = (
    ("gru_warm", "before", "supervised, no thinking", "#6b7280", "-"),
    ("gru", "before", "GRPO, no thinking", "#d1495b", "-"),
    ("gru_fixed", "after", "GRPO, a thought everywhere, after it", "#edae49", "-"),
    ("gru_entropy_3", "before", "EGLR, before thinking", "#0b7a75", "--"),
    ("gru_entropy_3", "after", "EGLR, after thinking", "#0b7a75", "-"),
)
"""Arm, before or after thinking, name, colour and stroke of each line."""


def draw_validations(folder: Path) -> None:
    """Draw what each arm of a retrieval study answers while it learns."""
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
    save(figure, folder.name)


def draw_entropies(folder: Path) -> None:
    """How uncertain the arms of a re-ranking study are, by place of the list."""
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for arm, when, name, color, stroke in ENTROPIES:
        files = sorted(folder.glob(f"{arm}-[0-9]*.json"))
        if files:
            results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
            mean = np.mean([result[f"entropy_{when}_by_place"] for result in results], axis=0)
            axes.plot(range(1, len(mean) + 1), mean, stroke, color=color, marker="o", markersize=3, label=name)
    axes.set_xlabel("place")
    axes.set_ylabel("entropy of the choice, nats")
    save(figure, f"entropy-{folder.name}")


def draw_probe(folder: Path) -> None:
    """Draw what every answer of a probe reaches, with its interval; ways of thinking in colour."""
    told = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
    ways = {way["about"] for way in told["ways"]}
    rows = [row for row in json.loads((folder / "results.json").read_bytes()) if row["metric"] == "ndcg@10"]
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.3 * len(rows)), layout="constrained")
    for place, row in enumerate(reversed(rows)):
        color = "#0b7a75" if row["system"] in ways else "#6b7280"
        axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=1.5)
        axes.plot(row["value"], place, "o", color=color, markersize=5)
    axes.set_yticks(range(len(rows)), [row["system"] for row in reversed(rows)])
    axes.set_xlim(left=0)
    axes.set_xlabel("NDCG@10, with the interval that draws users")
    save(figure, f"probe-{folder.name}")


def save(figure: Figure, name: str) -> None:
    """Finish a figure and write it."""
    (axes,) = figure.axes
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    target = DOCS / "figures" / f"{name}.svg"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Draw every study that has results."""
    pyplot.switch_backend("svg")
    pyplot.rcParams["svg.hashsalt"] = "thinkrank"  # the same results give the same file
    for method, draw in (("r2ec", draw_validations), ("eglr", draw_entropies), ("probe", draw_probe)):
        for folder in sorted(path for path in (STUDIES / method / "results").glob("*") if path.is_dir()):
            draw(folder)


if __name__ == "__main__":
    main()
