"""Which code made a result."""

import functools
import shutil
import subprocess
from pathlib import Path

from thinkrank._version import __version__

PACKAGE = Path(__file__).parent
LAID_DOWN = "studies/*/results/**"
"""What commands write in a checkout: new results there do not make its code another."""


@functools.cache
def code_version() -> str:
    """Return the commit of the checkout that this package is run from, or its version where it is installed.

    ``+dirty`` stands behind the commit if files of the package or of its studies differ from it.
    """
    git, checkout = shutil.which("git"), PACKAGE.parents[1]
    if git is None or not (checkout / ".git").exists() or not (checkout / "src" / PACKAGE.name).is_dir():
        return f"thinkrank {__version__}"

    def asked(*arguments: str) -> str | None:
        # Of the checkout's own settings none that runs a program is asked for: S603 is about what a user types.
        done = subprocess.run([git, "-C", str(checkout), *arguments], capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else None

    commit = asked("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return f"thinkrank {__version__}"
    changed = asked("status", "--porcelain", "--", "src", "studies", f":(exclude,glob){LAID_DOWN}")
    return commit if changed == "" else f"{commit}+dirty"
