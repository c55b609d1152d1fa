"""`thinkrank push`: publish what a run trained on the Hugging Face hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import tables


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, or of a saved model.")],
    name: Annotated[str, typer.Argument(help="Repository on the hub, as owner/name; made if it is not there.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody read a new repository.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card, upload nothing and ask no hub.")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="Address of another hub than huggingface.co, such as one of your own.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Upload a saved model with a card of figures, data and licences; a new repository is private.

    Only what `thinkrank.load` reads is uploaded. The catalogue is part of it, so the titles of items are, too.
    `hf auth login` stores the token that this takes.

    Examples: `thinkrank push runs/demo me/films --dry-run`, `thinkrank push runs/demo me/films`
    """
    from thinkrank.recipes.hub import CARD, prepared_upload, push_to_hub

    if not dry_run:
        address = push_to_hub(run, name, private=not public, endpoint=endpoint)
        if json_output:
            tables.print_json({"address": address})
        else:
            sys.stdout.write(f"{address}\n")
        return
    upload = prepared_upload(run, name)
    sizes = {file: path.stat().st_size for file, path in upload.files.items()}
    sizes[CARD] = len(upload.card.encode())
    if json_output:
        tables.print_json({"repository": name, "files": sizes, "terms": upload.terms.text, "card": upload.card})
        return
    told = [f"{size:>13,} bytes  {file}\n" for file, size in sizes.items()]
    sys.stdout.write("".join([*told, f"data: {upload.terms.text}\n\n{upload.card}"]))
    who = "all to read" if public else "you alone"
    sys.stderr.write(f"nothing was uploaded; without --dry-run these files go to {name}, for {who} where it is new\n")
