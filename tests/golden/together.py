"""Every training of the package on tiny data, alone or by the processes that this file was started as.

    python -m golden.together FOLDER PORT PORT PORT      # with the rest of the environment that torchrun gives

What a job ends with stands in FOLDER/ends/NAME: its weights, its log, and a hash per process of what each holds.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from golden import models, settings
from golden import world as made
from thinkrank.distributed.joining import joined
from thinkrank.distributed.world import SINGLE, World
from thinkrank.errors import ThinkrankError
from thinkrank.rerank import DLCM, Seq2Slate, SetRank
from thinkrank.rerank.network_trainer import NetworkTrainer
from thinkrank.retrieve import GRU4Rec, SASRec
from thinkrank.retrieve.item_table import ItemTable
from thinkrank.retrieve.sequential.gru4rec import Gru4recOptions
from thinkrank.retrieve.sequential.trainer import SequentialTrainer
from thinkrank.retrieve.shards import log_normaliser_shards, search_shards
from thinkrank.training import Run, Trainer, train
from thinkrank.training.run import FollowingRun

Fits = Callable[[Path], Iterator[tuple[str, Trainer[Any]]]]
"""From a folder to trainings, one after the other, each made when the one before has ended."""

SHORT = {"steps": 4, "validate_every": 2, "checkpoint_every": 2}


def undropped(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings without dropout, whose draws differ with the number of processes."""
    return {
        key: undropped(value) if isinstance(value, Mapping) else 0.0 if key == "dropout" else value
        for key, value in values.items()
    }


def contrastive(name: str, **changes: Any) -> Fits:
    config, options = settings.CONTRASTIVES[name]
    config, options = {**config, "lora": undropped(config["lora"])}, {**options, **SHORT, **changes}

    def fits(folder: Path) -> Iterator[tuple[str, Trainer[Any]]]:
        model = models.r2ec(config)
        if options["sharding"] == "fsdp":  # as a plan does before a training: the model is sharded by both
            models.contrastive_fit(model, options, folder / "rehearsal").rehearse()
        yield name, models.contrastive_fit(model, options, folder)

    return fits


def recpo(name: str) -> Fits:
    config, options = settings.RECPOS[name]
    return lambda folder: iter([(name, models.recpo_fit(models.r2ec(config), {**options, **SHORT}, folder))])


def cold_start(name: str) -> Fits:
    config, options = settings.COLD_STARTS[name]
    return lambda folder: iter([(name, models.cold_start_fit(models.r2rank(config), {**options, **SHORT}, folder))])


def reinforce(name: str) -> Fits:
    config, options = settings.REINFORCES[name]
    return lambda folder: iter([(name, models.reinforce_fit(models.r2rank(config), {**options, **SHORT}, folder))])


def eglr(name: str) -> Fits:
    config, judged, warm, grpo = (undropped(values) for values in settings.EGLRS[name])

    def fits(folder: Path) -> Iterator[tuple[str, Trainer[Any]]]:
        model = models.eglr(config)
        yield "evaluator", models.evaluator_fit(model, {**judged, **SHORT}, folder / "evaluator")
        yield "warm", models.warm_start(model, {**warm, **SHORT}, folder / "warm")
        yield "grpo", models.grpo_fit(model, {**grpo, **SHORT}, folder / "grpo")

    return fits


def sequential(kind: type, options: Any) -> Fits:
    return lambda folder: iter(
        [(kind.__name__, SequentialTrainer(kind(options, device="cpu"), made.walks_split(), models.run_in(folder)))]
    )


def network(kind: type, name: str) -> Fits:
    options = models.explicit(models.LIST_BASELINES[name][1], {**undropped(settings.LIST_BASELINES[name]), **EPOCHS})
    lists = made.displayed_split()

    def fits(folder: Path) -> Iterator[tuple[str, Trainer[Any]]]:
        run = models.run_in(folder)
        yield name, NetworkTrainer(kind(options, device="cpu"), lists.train, lists.valid, None, run)

    return fits


EPOCHS = {"max_epochs": 3}
SASREC = models.explicit(
    models.SasrecOptions, {**settings.SASREC, **EPOCHS, "dropout": 0.0, "batch_size": 9, "negatives": 12}
)
JOBS: dict[str, Fits] = {
    **{f"contrastive-{name}": contrastive(name) for name in ("plain", "thoughts", "in-batch")},
    "contrastive-fsdp": contrastive("thoughts", sharding="fsdp", steps=2),
    **{f"recpo-{name}": recpo(name) for name in ("memory", "group-mean")},
    "cold-start-traces": cold_start("traces"),
    **{f"reinforce-{name}": reinforce(name) for name in settings.REINFORCES},
    **{f"eglr-{name}": eglr(name) for name in ("gru", "transformer")},
    "sasrec": sequential(SASRec, SASREC),
    "sasrec-rows": sequential(SASRec, SASREC.model_copy(update={"row_updates": True})),
    "gru4rec": sequential(GRU4Rec, Gru4recOptions(max_epochs=3, dropout=0.0, width=16, validation_samples=20)),
    "dlcm": network(DLCM, "dlcm"),
    "setrank": network(SetRank, "setrank"),
}
DROPPED: dict[str, Fits] = {
    "sasrec-dropout": sequential(SASRec, SASREC.model_copy(update={"dropout": 0.3})),
    "seq2slate": network(Seq2Slate, "seq2slate"),
}
"""Jobs that draw dropout, or lists from the network itself: another number of processes draws other ones."""
RESUMED = ("contrastive-thoughts", "recpo-memory", "cold-start-traces", "eglr-gru", "sasrec")
"""Jobs that are also begun by one and ended by the other number of processes."""


def bring_to_end(name: str, folder: Path, world: World = SINGLE, *, half: Path | None = None) -> None:
    """Run the trainings of a job, and write what each ends with; `half` gets a copy of the first checkpoint."""
    models.run_in = lambda place: Run(place, {}, {}, world=world) if world.is_first else FollowingRun(place, world)
    for title, fit in (JOBS | DROPPED)[name](folder / name):
        if half is not None and world.is_first:
            kept = half / Path(fit.run.folder).relative_to(folder)
            copy_after(fit, kept)
        for group in fit.optimizer.param_groups:
            group["eps"] = 1e-3  # else Adam makes whole steps of the rounding of gradients that are 0 in truth
        train(fit)
        weights = {key: tensor.detach().clone().contiguous() for key, tensor in fit.weights().items()}
        digest = hashlib.sha256(b"".join(weights[key].numpy().tobytes() for key in sorted(weights))).hexdigest()
        hashes = world.gathered([digest])
        if world.is_first:
            end = folder / "ends" / name / title
            end.mkdir(parents=True, exist_ok=True)
            save_file(weights, end / "weights.safetensors")
            (end / "end.json").write_text(json.dumps({"rows": fit.run.metrics(), "hashes": hashes}))


def copy_after(fit: Trainer[Any], folder: Path) -> None:
    """Copy the run's folder when its first checkpoint is written."""
    save = fit.save

    def saving() -> None:
        save()
        if not folder.exists():
            shutil.copytree(fit.run.folder, folder)

    fit.save = saving


def die_at(call: int) -> None:
    """Let this process be killed when it has updated so often."""
    update, calls = Trainer.update, iter(range(1, 1000))

    def updating(self: Trainer[Any]) -> float:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self)

    Trainer.update = updating


def table_and_queries() -> tuple[ItemTable, torch.Tensor, list[list[int]]]:
    """23 items of whole numbers, whose scores tie often, 7 queries and what each leaves out."""
    random = torch.Generator().manual_seed(0)
    rows_ID, queries_SD = torch.randn(23, 3, generator=random).round(), torch.randn(7, 3, generator=random).round()
    left_out = [[], [0], [5, 20], [22], [], list(range(23)), [11, 12]]
    return ItemTable(rows_ID, bias_I=torch.arange(23.0) % 3, divisor=2.0, block_rows=5), queries_SD, left_out


def questions(world: World) -> dict[str, Any]:
    """What this process is told of others: rows, gradients, sums, and answers from parts of a table."""
    rows = torch.full((world.rank + 1, 2), float(world.rank + 1), requires_grad=True)
    whole = world.gather(rows)
    (whole * (torch.arange(3.0)[:, None] + 1) * 10**world.rank).sum().backward()
    try:
        world.first(lambda: fail("the disk is full"))
        fault = ""
    except ThinkrankError as error:
        fault = str(error)
    table, queries_SD, left_out = table_and_queries()
    here, mine = world.share(23), (slice(0, 4), slice(4, 7))[world.rank]
    shard = ItemTable(table.rows_ID[here], table.bias_I[here], 2.0, block_rows=4)
    queries_BD = queries_SD[mine].clone().requires_grad_()
    exclude = [np.array(rows, np.int64) for rows in left_out[mine]]
    found = search_shards(shard, world, queries_BD, 6, exclude=exclude)
    total_B = log_normaliser_shards(shard, world, queries_BD, exclude=exclude)
    total_B[total_B.isfinite()].square().sum().backward()
    return {
        "gathered": whole.tolist(),
        "gradient": rows.grad.tolist(),
        "mean": world.mean({"a": 1.0 + world.rank, "b": 1.0 + world.rank}, 1, b=3 * world.rank),
        "fraction": world.fraction(world.rank + 1),
        "spread": [world.spread(world.rank + 2)[0], world.spread(world.rank + 2)[1].start],
        "broadcast": world.broadcast({"rank": world.rank}),
        "gathered values": world.gathered(["a\nb"] * world.rank),
        "fault": fault,
        "items": found[0].tolist(),
        "scores": found[1].tolist(),
        "normaliser": total_B.tolist(),
        "normaliser's gradient": queries_BD.grad.tolist(),
    }


def fail(text: str) -> None:
    raise ThinkrankError(text)


def main(folder: Path, ports: list[str]) -> None:
    """All jobs together, the resumed ones, a command, and one in which the second process is killed."""
    from thinkrank.cli import main as command

    os.environ["MASTER_PORT"] = ports[0]
    with joined("cpu") as world:
        (folder / f"answers-{world.rank}.json").write_text(json.dumps(questions(world)))
        for name in (*JOBS, *DROPPED):
            half = folder / "half-by-two" if name in (*RESUMED, *DROPPED) else None
            bring_to_end(name, folder / "two", world, half=half)
        for name in RESUMED:
            bring_to_end(name, folder / "half-by-one", world)
        for name in DROPPED:
            bring_to_end(name, folder / "half-by-two", world)
    rerank = ["thinkrank", "train", "rerank", "synthetic", "-o", "lists=120", "--device", "cpu"]
    for table in ("evaluator", "warm_start", "grpo"):
        rerank += ["--set", f"{table}.steps=6", "--set", f"{table}.batch_size=7"]
    os.environ["MASTER_PORT"] = ports[1]
    sys.argv = [*rerank, "--out", str(folder / "command")]
    try:
        command()
    except SystemExit as ended:
        if ended.code:
            raise
    os.environ["MASTER_PORT"] = ports[2]
    if os.environ["RANK"] == "1":
        die_at(3)
    sys.argv = [*rerank, "--out", str(folder / "killed")]
    command()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:])
