"""The `thinkrank` program: its commands, and how a fault reaches the user."""

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import (
    baselines,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    probe,
    push,
    rank,
    recommend,
    reproduce,
    rerank,
    score,
    serve,
    settings,
    train,
    tune,
)
from thinkrank.distributed.environment import told
from thinkrank.errors import ThinkrankError, is_out_of_memory

_FIRST_SPEAKS = 2.0
"""Seconds that another than the first of several processes waits before it tells a fault: where the first one has the
same, `torchrun` ends the others when it has told it."""

app = typer.Typer(
    name="thinkrank",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.command("baselines")(baselines.baselines)
app.command("evaluate")(evaluate.evaluate)
app.command("probe")(probe.probe)
app.command("compare")(compare.compare)
app.command("reproduce")(reproduce.reproduce)
app.command("tune")(tune.tune)
app.command("settings")(settings.settings)
app.command("recommend")(recommend.recommend)
app.command("score")(score.score)
app.command("rank")(rank.rank)
app.command("rerank")(rerank.rerank)
app.command("serve")(serve.serve)
app.command("push")(push.push)
app.command("doctor")(doctor.doctor)


def _version(show: bool) -> bool:
    if show:
        from thinkrank import __version__

        sys.stdout.write(f"thinkrank {__version__}\n")
        raise typer.Exit
    return show


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Recommenders that reason: a language model reads histories, thinks, and ranks the whole catalogue.

    Start with `thinkrank demo`. Data: `thinkrank data describe movielens-100k`. Train on your own:
    `thinkrank train retrieve table --path my_folder --out runs/mine`. Ask: `thinkrank recommend runs/mine --user 42`.

    What can be set: `thinkrank settings`. Words completed by the Tab key: `thinkrank --install-completion`, once.
    """
    messages = logging.StreamHandler(sys.stderr)
    messages.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("thinkrank")
    logger.handlers = [messages]
    logger.setLevel(logging.INFO)


def _refuse_to_share(words: Sequence[str]) -> None:
    """Refuse several processes where they would do the same work several times."""
    command = next((word for word in words if not word.startswith("-")), None)  # without one, help or the version
    if told("WORLD_SIZE", 1) > 1 and command not in (None, "train"):
        raise ThinkrankError(
            f"several processes share `thinkrank train` alone: start `thinkrank {command}` without torchrun (the "
            "environment says WORLD_SIZE)"
        )


def main() -> None:
    """Run the command line. Bad input ends with one line on stderr and exit code 2.

    The folder it is called from can be imported from, after everything else: a stage of your own may lie there.
    """
    from thinkrank.data.reading.intake import STAND

    sys.path.append(str(Path.cwd()))
    stand = STAND.set("command line")  # advice is given as it is typed here
    rank = 0
    try:
        rank = told("RANK", 0)
        _refuse_to_share(sys.argv[1:])
        app()
    except ThinkrankError as error:
        if rank:
            time.sleep(_FIRST_SPEAKS)
        sys.stderr.write(f"thinkrank: {' '.join(str(error).split())}\n")
        sys.exit(2)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        sys.stderr.write(f"thinkrank: {where}{error.strerror or error}\n")
        sys.exit(2)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        less = "train with a smaller batch_size, as in --set training.batch_size=2" if "train" in sys.argv[1:2] else ""
        way_out = " or ".join(filter(None, [less, "use --device cpu"]))
        sys.stderr.write(f"thinkrank: the device's memory is exhausted: {way_out}\n")
        sys.exit(2)
    finally:
        STAND.reset(stand)
