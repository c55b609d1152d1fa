"""`thinkrank train`: one command per stage."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinkrank.cli.data import Filter, Json, Option, Path_

if TYPE_CHECKING:
    from thinkrank.data import Split
    from thinkrank.recipes.settings import Layers, RetrieveSettings
    from thinkrank.retrieve import R2ec
    from thinkrank.training import Run

app = typer.Typer(no_args_is_help=True, help="Train a stage of the cascade.")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]


@app.callback()
def stages() -> None:
    """Train a stage of the cascade."""


@app.command()
def retrieve(
    source: Annotated[
        str | None, typer.Argument(help="Data source or prepared folder. [default: movielens-100k]")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run there goes on.")] = Path(
        "runs/retrieve"
    ),
    path: Path_ = None,
    option: Option = None,
    split: Annotated[str | None, typer.Option(help="temporal or leave-last-out. [default: temporal]")] = None,
    preset: Annotated[
        str, typer.Option(help="thinkrank, paper or released: where the settings start from.")
    ] = "thinkrank",
    config: Annotated[Path | None, typer.Option("--config", help="TOML file laid over the preset.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as training.steps=400. Repeatable.")
    ] = None,
    filters: Filter = None,
    device: Device = "auto",
    json_output: Json = False,
) -> None:
    """Train R²ec: contrastively against the whole catalogue, then, if recpo.steps is set, by RecPO on thoughts.

    Ends with report.html in the run's folder: curves, and with RecPO the thoughts before and after it.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last checkpoint, to the same weights.

    Examples: `thinkrank train retrieve movielens-100k --out runs/ml`,
    `thinkrank train retrieve table --path shop/ --set model.prompt.noun=wine --set training.steps=600 --out runs/shop`
    """
    from thinkrank.errors import ThinkrankError
    from thinkrank.recipes.presets import Preset
    from thinkrank.recipes.settings import retrieve_settings

    if preset not in list(Preset):
        raise ThinkrankError(f"unknown preset {preset!r}: there are {', '.join(Preset)}")
    said = given(source, path, option, filters, config, assignments, split=split)
    settings = retrieve_settings(Preset(preset), said)
    data = settings.data.load_split()
    is_reused = _is_finished(out)
    run, _ = train_retriever(settings, data, out, device=device)
    if not (is_reused and (out / "report.html").is_file()):
        from thinkrank.recipes.reporting import write_training_report

        write_training_report(run, data)
    _print_training(run, data, json_output=json_output)


def given(
    source: str | None,
    path: str | None,
    option: list[str] | None,
    filters: list[str] | None,
    config: Path | None,
    assignments: list[str] | None,
    *,
    split: str | None,
) -> "Layers":
    """What the command line says of settings; folders are made absolute, so that a run can be found from anywhere."""
    from thinkrank.recipes.settings import Layers

    return Layers(
        config=config,
        source=str(Path(source).resolve()) if source is not None and Path(source).is_dir() else source,
        path=None if path is None else str(Path(path).expanduser().resolve()),
        split=split,
        options=option or (),
        filters=filters or (),
        assignments=assignments or (),
    )


def kept_value(rows: Sequence[Mapping[str, Any]], key: str, keep: str) -> float:
    """What validation says of the weights that were kept: the highest value, or the last one; 0 without any."""
    values = [float(row[key]) for row in rows if key in row]
    return (max(values) if keep == "best" else values[-1]) if values else 0.0


def _is_finished(folder: Path) -> bool:
    return (folder / "model" / "config.json").is_file()


def _print_training(run: "Run", split: "Split", *, json_output: bool) -> None:
    """Say how good the validations were, and where the model and the report are."""
    from thinkrank.recipes.reporting import open_recpo

    folder, recpo = run.folder, open_recpo(run, split)
    best = {"valid_ndcg@10": kept_value(run.metrics(), "valid_ndcg@10", "best")}
    if recpo is not None:
        key = "valid_thinking_ndcg@10"
        best[key] = kept_value(recpo.metrics(), key, "best")
    if json_output:
        import json

        paths = {"run": folder, "model": folder / "model", "report": folder / "report.html"}
        sys.stdout.write(json.dumps({**{name: str(path) for name, path in paths.items()}, **best}) + "\n")
        return
    said = f"best validation NDCG@10 {best['valid_ndcg@10']:.4f}"
    if recpo is not None:
        said += f", with thoughts {best['valid_thinking_ndcg@10']:.4f} in RecPO"
    sys.stdout.write(f"{said}; the model is in {folder / 'model'}\nreport: {folder / 'report.html'}\n")


def train_retriever(
    settings: "RetrieveSettings", split: "Split", folder: Path, *, device: str = "auto"
) -> "tuple[Run, R2ec]":
    """Train, or resume, or only load what a finished run left in the folder.

    Training without reinforcement is logged in the folder itself. If RecPO follows, the model it starts from is kept in
    `warm-start/` and its own log in `recpo/`.
    """
    from thinkrank.retrieve import R2ec, train_contrastive, train_recpo
    from thinkrank.training import Run, console_progress

    manifest = {"split": split.manifest(), "seed": settings.training.seed, "device": device}
    run = Run(folder, settings.model_dump(mode="json"), manifest)
    saved, warm = folder / "model", folder / "warm-start"
    if _is_finished(folder):
        sys.stderr.write(f"{folder} holds the finished training of these settings: reusing it\n")
        return run, R2ec.from_pretrained(saved, device=device)
    try:
        if (warm / "config.json").is_file():
            model = R2ec.from_pretrained(warm, device=device)
        else:
            model = R2ec.create(settings.model, split.dataset.catalogue, seed=settings.training.seed, device=device)
            if settings.training.steps:
                train_contrastive(model, split, settings.training, run, progress=console_progress)
        if settings.recpo.steps:
            model.save_pretrained(warm)
            phase = {**manifest, "seed": settings.recpo.seed}
            recpo = Run(folder / "recpo", settings.recpo.model_dump(mode="json"), phase)
            train_recpo(model, split, settings.recpo, recpo, progress=console_progress)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from the last checkpoint\n")
        raise
    model.save_pretrained(saved)
    return run, model
