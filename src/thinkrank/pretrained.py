"""Folders of saved stages: what kind each is, where it is found, how it is read, written and refused."""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from thinkrank._files import atomic_write
from thinkrank._version import __version__
from thinkrank.errors import ThinkrankError, is_out_of_memory

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CONFIG_FILE, CATALOGUE_FILE = "config.json", "catalogue.parquet"
MODEL = "model"
"""Folder of a run's that holds its trained stage."""

MODEL_FILES = ("*.json", "*.safetensors", "*catalogue.parquet", "*users.parquet")
"""What a saved stage consists of, its card apart; folders of parts included."""

FORMAT = 2
"""Of the folders written now. Format 1 is the bare configuration, without kind and version."""

KINDS = {
    "cascade": "thinkrank.cascade.model:Cascade",
    "evidence": "thinkrank.cascade.evidence_ranker:EvidenceRanker",
    "r2ec": "thinkrank.retrieve.r2ec.model:R2ec",
    "popularity": "thinkrank.retrieve.popularity:Popularity",
    "item-knn": "thinkrank.retrieve.item_knn:ItemKNN",
    "ease": "thinkrank.retrieve.ease:EASE",
    "fused": "thinkrank.retrieve.fused:Fused",
    "als": "thinkrank.retrieve.als:ALS",
    "text": "thinkrank.retrieve.text:TextCosine",
    "sasrec": "thinkrank.retrieve.sequential.sasrec:SASRec",
    "gru4rec": "thinkrank.retrieve.sequential.gru4rec:GRU4Rec",
    "r2rank": "thinkrank.rank.r2rank.model:R2Rank",
    "eglr": "thinkrank.rerank.eglr.model:EGLR",
    "pointwise": "thinkrank.rerank.pointwise:Pointwise",
    "dlcm": "thinkrank.rerank.dlcm:DLCM",
    "prm": "thinkrank.rerank.prm:PRM",
    "setrank": "thinkrank.rerank.setrank:SetRank",
    "seq2slate": "thinkrank.rerank.seq2slate:Seq2Slate",
}
"""Where the stage of each kind is defined."""

_SIGNS = {"r2ec": "thinker", "r2rank": "thinks", "eglr": "generator"}
"""A key by which the bare configuration of format 1 tells its kind; the others have a key ``model``."""

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load(where: str | Path, **options: Any) -> Any:
    """Load a saved stage of any kind.

    Args:
        where: the folder of a saved stage, or of the run that trained it, or a hub id such as `owner/name`.
        options: passed on to the stage's `from_pretrained`: device, backbone, engine.

    Raises:
        ThinkrankError: if there is no saved stage, its kind is unknown, or it was written by a newer version.
    """
    folder = local_folder(where)
    kind = str(_read_header(folder)["kind"])
    if kind not in KINDS:
        raise ThinkrankError(
            f"{folder} holds a stage of kind {kind!r}, which thinkrank does not know: import its class and call its "
            "from_pretrained"
        )
    return imported(KINDS[kind]).from_pretrained(folder, **options)


def imported(name: str) -> Any:
    """Import what a dotted name such as `package.module:Name` stands for.

    Raises:
        ThinkrankError: if it is not of this form, or not there.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise ThinkrankError(f"{name!r} is not a dotted name of the form package.module:Name")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ThinkrankError(f"{name}: cannot be imported: {error}") from error


def local_folder(where: str | Path) -> Path:
    """Find the folder of a saved stage.

    Args:
        where: the folder itself; a run's folder, whose model is taken; or a hub id: only our files are fetched.

    Raises:
        ThinkrankError: if there is no saved stage.
    """
    folder = Path(where).expanduser()
    if not folder.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(where)):
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(str(where), allow_patterns=list(MODEL_FILES)))
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ThinkrankError(f"{where}: neither a folder here nor to be had from the hub ({reason})") from error
    folder = saved_in(folder)
    if not is_saved(folder):
        raise ThinkrankError(f"{folder}: no saved model here (no {CONFIG_FILE}). Give the folder a training run made.")
    return folder


def read_config(folder: Path, kind: str, config: type[ConfigT]) -> ConfigT:
    """Read the configuration of a saved stage.

    Args:
        folder: where.
        kind: it must be of.
        config: what it must hold.

    Raises:
        ThinkrankError: if the stage is of another kind, was written by a newer version, or does not fit.
    """
    header = _read_header(folder)
    if header["kind"] != kind:
        raise ThinkrankError(f"{folder} holds a stage of kind {header['kind']!r}, not {kind!r}: use thinkrank.load")
    try:
        return config.model_validate(header["config"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ThinkrankError(f"{folder / CONFIG_FILE} is not of kind {kind!r}: {key}: {first['msg']}") from error


def kind_of(folder: Path) -> str:
    """Return the kind of a saved stage; see `KINDS`.

    Raises:
        ThinkrankError: if it is damaged, or was written by a newer version.
    """
    return str(_read_header(folder)["kind"])


def format_of(folder: Path) -> int:
    """Return the format of a saved stage; see `FORMAT`.

    Raises:
        ThinkrankError: if it is damaged, or was written by a newer version.
    """
    return int(_read_header(folder)["format"])


def _read_header(folder: Path) -> dict[str, Any]:
    """Read kind, format and configuration of a saved stage, whichever format it has."""
    try:
        raw = json.loads((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise ThinkrankError(f"{folder / CONFIG_FILE}: the saved model is damaged: {error}") from error
    if not isinstance(raw, dict):
        raise ThinkrankError(f"{folder / CONFIG_FILE}: the saved model is damaged: not a JSON object")
    if "format" not in raw:
        kinds = [kind for kind, sign in _SIGNS.items() if sign in raw] or [str(raw.get("model", "unknown"))]
        return {"kind": kinds[0], "format": 1, "config": raw}
    if not isinstance(raw["format"], int) or raw["format"] > FORMAT:
        raise ThinkrankError(
            f"{folder} has format {raw['format']}, written by thinkrank {raw.get('version', '(unknown)')}; "
            f"this is {__version__}, which reads formats up to {FORMAT}: install a newer thinkrank"
        )
    if not {"kind", "config"} <= raw.keys():
        raise ThinkrankError(f"{folder / CONFIG_FILE}: the saved model is damaged: no kind or no config in it")
    return raw


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn whatever a damaged folder raises into one plain error."""
    from safetensors import SafetensorError

    try:
        yield
    except ThinkrankError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ThinkrankError(f"{folder}: the saved model is damaged or its files do not fit: {reason}") from error


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    """Write tensors as safetensors, whole or not at all."""
    from safetensors.torch import save

    with atomic_write(path) as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray]") -> None:
    """Write arrays as safetensors, whole or not at all."""
    import numpy as np
    from safetensors.numpy import save

    with atomic_write(path) as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def write_json(path: Path, model: BaseModel) -> None:
    """Write a pydantic model, whole or not at all."""
    with atomic_write(path) as file:
        file.write((model.model_dump_json(indent=2) + "\n").encode())


def is_saved(folder: Path) -> bool:
    """Tell whether a whole stage was saved into a folder."""
    return (folder / CONFIG_FILE).is_file()


def saved_in(folder: Path) -> Path:
    """Return where the stage of a folder stands: in the folder itself or, of a run, in the one inside."""
    return folder / MODEL if is_saved(folder / MODEL) and not is_saved(folder) else folder


def begin(folder: str | Path, *leftovers: str) -> Path:
    """Make the folder that a stage is written into; what was saved there before is no whole model from now on.

    Args:
        folder: of the stage.
        leftovers: files that not every stage of this kind writes, and that this one must not find there.

    Returns:
        the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, *leftovers):
        (folder / name).unlink(missing_ok=True)
    return folder


def finish(folder: Path, kind: str, config: BaseModel, card: str | None = None) -> None:
    """Write the model card and, last, the configuration: a folder with a configuration is a whole model.

    Args:
        folder: of the stage.
        kind: of the stage, by which `load` finds its class.
        config: the whole configuration.
        card: Markdown for people; None for none.
    """
    if card is not None:
        with atomic_write(folder / "README.md") as file:
            file.write(card.encode())
    record = {"kind": kind, "format": FORMAT, "version": __version__, "config": config.model_dump(mode="json")}
    with atomic_write(folder / CONFIG_FILE) as file:
        file.write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
