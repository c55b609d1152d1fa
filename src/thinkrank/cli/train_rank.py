"""`thinkrank train rank`: R2Rank from the first trace to the last update."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank.cli.data import Filter, Json, Option, Path_
from thinkrank.cli.train import Device, given, kept_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinkrank.data import Split
    from thinkrank.data.candidates import CandidateSets
    from thinkrank.rank import R2Rank
    from thinkrank.recipes.settings import RankSettings
    from thinkrank.training import Run


def rank(
    source: Annotated[
        str | None, typer.Argument(help="Data source or prepared folder. [default: movielens-100k]")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run there goes on.")] = Path(
        "runs/rank"
    ),
    path: Path_ = None,
    option: Option = None,
    split: Annotated[str | None, typer.Option(help="temporal or leave-last-out. [default: temporal]")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file laid over the defaults.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as reinforce.steps=80. Repeatable.")
    ] = None,
    filters: Filter = None,
    device: Device = "auto",
    json_output: Json = False,
) -> None:
    """Train R2Rank: traces by a teacher, a cold start on them, then the reward of lists.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last trace or checkpoint.

    Examples: `thinkrank train rank movielens-100k --out runs/rank --set reinforce.steps=80`,
    `thinkrank train rank --set model.thinks=false --out runs/plain`
    """
    from thinkrank.recipes.reporting import write_ranking_training_report
    from thinkrank.recipes.settings import rank_settings

    settings = rank_settings(given(source, path, option, filters, config, assignments, split=split))
    data = settings.data.load_split()
    run, _ = train_ranker(settings, data, out, device=device)
    report = write_ranking_training_report(run, data)
    rows = [row for phase in (run, open_reinforce(run, data)) if phase is not None for row in phase.metrics()]
    keep = (settings.reinforce if settings.reinforce.steps else settings.cold_start).keep
    value = kept_value(rows, "valid_ndcg@10", keep)
    if json_output:
        told = {"run": str(out), "model": str(out / "model"), "report": str(report), "valid_ndcg@10": value}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    sys.stdout.write(f"{keep} validation NDCG@10 {value:.4f}; the model is in {out / 'model'}\nreport: {report}\n")


def train_ranker(
    settings: "RankSettings", split: "Split", folder: Path, *, device: str = "auto"
) -> "tuple[Run, R2Rank]":
    """Train, or resume, or only load what a finished run left in the folder.

    The folder's own log is that of the cold start. If reinforcement follows, the model it starts from is kept in
    `cold-start/` and its own log in `reinforce/`.
    """
    from thinkrank.data.popularity import with_popularity
    from thinkrank.rank import R2Rank, train_cold_start, train_reinforce
    from thinkrank.rank.r2rank.groups import TrainingGroups
    from thinkrank.training import Run, console_progress

    manifest = {"split": split.manifest(), "seed": settings.cold_start.seed, "device": device}
    run = Run(folder, settings.model_dump(mode="json"), manifest)
    saved, cold = folder / "model", folder / "cold-start"
    if (saved / "config.json").is_file():
        sys.stderr.write(f"{folder} holds the finished training of these settings: reusing it\n")
        return run, R2Rank.from_pretrained(saved, device=device)
    try:
        if (cold / "config.json").is_file():
            model = R2Rank.from_pretrained(cold, device=device)
        else:
            seed = settings.cold_start.seed
            model = R2Rank.create(settings.model, with_popularity(split), seed=seed, device=device)
            if settings.cold_start.steps:
                lists = cold_start_lists(settings, model, split, folder / "traces.jsonl")
                sets = validation_sets(settings, split, settings.cold_start.validation_samples)
                train_cold_start(model, lists, sets, settings.cold_start, run, progress=console_progress)
        if settings.reinforce.steps:
            model.save_pretrained(cold)
            options = settings.reinforce
            phase = Run(folder / "reinforce", options.model_dump(mode="json"), {**manifest, "seed": options.seed})
            lists = TrainingGroups(split.train, negatives=options.negatives, seed=options.seed)
            sets = validation_sets(settings, split, options.validation_samples)
            train_reinforce(model, lists, sets, options, phase, progress=console_progress)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from where it was\n")
        raise
    model.save_pretrained(saved)
    return run, model


def validation_sets(settings: "RankSettings", split: "Split", samples: int) -> "CandidateSets | None":
    """The lists that choose weights; None if nothing is held out."""
    from thinkrank.data.candidates import candidate_sets

    if not len(split.valid):
        return None
    chosen = settings.candidates
    drawn = split.valid.subset(samples, chosen.seed)
    return candidate_sets(drawn, chosen.size, negatives=chosen.negatives, seed=chosen.seed)


def cold_start_lists(
    settings: "RankSettings", model: "R2Rank", split: "Split", traces: Path
) -> "Sequence[TrainingGroup]":
    """What the cold start trains on; if the model thinks, with reasonings that a teacher wrote to a file."""
    from thinkrank.language import encode_text
    from thinkrank.rank.r2rank.groups import TrainingGroups, with_traces
    from thinkrank.teachers import (
        JsonlTeacher,
        Pair,
        ReflectOptions,
        RuleOptions,
        RuleTeacher,
        read_traces,
        write_traces,
    )
    from thinkrank.training import console_progress

    options, told, prompt = settings.cold_start, settings.traces.path, settings.model.prompt
    if not settings.model.thinks:
        return TrainingGroups(split.train, negatives=options.negatives, seed=options.seed)
    drawn = split.train.subset(settings.traces.lists, options.seed)
    lists = TrainingGroups(drawn, negatives=options.negatives, seed=options.seed)[:]
    pairs = [Pair(one.position, one.history, row, label=row == one.rows[0]) for one in lists for row in one.rows]
    catalogue = split.dataset.catalogue
    teacher = RuleTeacher(split, RuleOptions(noun=prompt.noun)) if told is None else JsonlTeacher(told, catalogue)
    counts = write_traces(
        pairs,
        teacher,
        catalogue,
        traces,
        ReflectOptions(
            reflect=settings.traces.reflect,
            history_window=prompt.history_window,
            max_tokens=settings.model.thought.max_new_tokens - 1,
        ),
        progress=console_progress,
        num_tokens=lambda text: len(encode_text(model.backbone.tokenizer, text)),
    )
    dropped = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.dropped.items() if count)
    sys.stderr.write(f"traces: {counts.kept:,} of {len(pairs):,} kept; dropped {dropped or 'none'}\n")
    reasonings = {(trace.position, trace.item): trace.reasoning for trace in read_traces(traces, catalogue)}
    return with_traces(lists, reasonings, model.prompts)


def open_reinforce(run: "Run", split: "Split") -> "Run | None":
    """The reinforcement inside a run; None if there was none."""
    from thinkrank.training import Run

    folder = run.folder / "reinforce"
    return Run.open(folder, split.manifest()) if (folder / "config.toml").is_file() else None
