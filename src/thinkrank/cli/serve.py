"""`thinkrank serve`: answer over HTTP, and show a page to look inside."""

from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options


def serve(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, or of a saved model.")] = Path("runs/demo"),
    host: Annotated[str, typer.Option(help="Address to listen on; this machine alone by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another name under which the server may be asked. Repeatable."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            callback=options.from_home,
            help="File with hashes of keys, one a line; a request without such a key is answered 401.",
        ),
    ] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Print a new key and its hash, and end.")] = False,
    items_file: Annotated[
        Path | None,
        typer.Option(
            "--items-file",
            callback=options.from_home,
            help="File that keeps added and withdrawn items over restarts.",
        ),
    ] = None,
    set_option: Annotated[
        list[str] | None, typer.Option("--set", help="One limit as key=value, such as max_writing=16. Repeatable.")
    ] = None,
    log_histories: Annotated[
        bool, typer.Option("--log-histories", help="Write users and histories into the log, too.")
    ] = False,
    path: options.MovedPath = None,
    device: options.Device = "auto",
) -> None:
    """Serve a run: recommendations and thoughts over HTTP, and a page to look inside.

    Open http://127.0.0.1:8000 in a browser. SIGTERM or Ctrl-C ends it when what was accepted is answered; SIGHUP loads
    the run anew.

    Examples: `thinkrank serve runs/demo`, `thinkrank serve runs/demo --port 9000 --set deadline_seconds=10`
    """
    import importlib.util
    import logging
    import sys

    from thinkrank.errors import ThinkrankError

    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "prometheus_client")):
        raise ThinkrankError("serving needs the extra `serve`: pip install 'thinkrank[serve]'")
    from thinkrank.serve import auth

    if new_key:
        key = auth.new_key()
        sys.stdout.write(f"key:  {key}\nhash: {auth.hash_of(key)}\n")
        return
    hashes = () if keys is None else auth.read_hashes(keys)
    from thinkrank.serve.options import BY_OPTION, LOOPBACK

    if host not in LOOPBACK and not hashes:
        raise ThinkrankError(
            f"--host {host} lets other machines ask: give --keys FILE (make a key with `thinkrank serve --new-key`)"
        )
    from thinkrank.recipes.layers import parse_assignment, validated
    from thinkrank.serve import ServeOptions, create_app, open_served
    from thinkrank.serve.server import bound
    from thinkrank.serve.server import run as run_server
    from thinkrank.training.progress import console_progress

    fixed = {
        "hosts": (*LOOPBACK, host, *(allow_host or ())),
        "key_hashes": hashes,
        "log_histories": log_histories,
        "items_file": None if items_file is None else str(items_file),
    }
    told = dict(map(parse_assignment, set_option or ()))
    for name in told.keys() & fixed.keys():
        raise ThinkrankError(f"--set {name}: give {BY_OPTION[name]} instead")
    limits = validated(ServeOptions, {**told, **fixed})
    lines = logging.getLogger("thinkrank.serve.requests")
    lines.setLevel(logging.INFO)
    with bound(host, port) as listener:
        with console_progress("loading the run", 0):
            served = open_served(run, limits, path=path, device=device)
            app = create_app(served, limits, opened=lambda: open_served(run, limits, path=path, device=device))

        def ready(address: str) -> None:
            what = f"{served.name} ({', '.join(served.kinds.values())})"
            sys.stderr.write(f"serving {what} at {address} - Ctrl-C ends it\n")

        run_server(app, listener, ready=ready)
