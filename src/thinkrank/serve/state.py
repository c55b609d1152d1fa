"""What an app holds while it runs: the run it serves, the queue, the counts, and the items that came and went."""

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError
from thinkrank.serve.answering import answer
from thinkrank.serve.batcher import Batcher
from thinkrank.serve.metrics import Metrics
from thinkrank.serve.options import ServeOptions
from thinkrank.serve.served import Served

logger = logging.getLogger(__name__)


class State:
    """Serve one run at a time, and change it while questions are answered.

    Args:
        served: what is served first.
        options: the limits.
        opened: loads the run anew; None if it cannot be.
    """

    def __init__(self, served: Served, options: ServeOptions, opened: Callable[[], Served] | None = None) -> None:
        self.served, self.options, self.opened = served, options, opened
        self.metrics = Metrics()
        self.is_ready = False
        self.batcher = Batcher(
            answer,
            max_writing=options.max_writing,
            max_waiting_to_write=options.max_waiting_to_write,
            max_reading=options.max_reading,
            max_waiting_to_read=options.max_waiting_to_read,
        )
        self._changing = threading.Lock()
        self._added: list[dict[str, Any]] = []
        self._file = None if options.items_file is None else Path(options.items_file)
        if self._file is not None and self._file.is_file():
            self._restore(self._file)
        self._watch()

    def start(self) -> None:
        """Begin to answer."""
        self.batcher.start()
        self.is_ready = True

    def close(self) -> None:
        """Answer what was accepted, and nothing more."""
        self.is_ready = False
        self.batcher.close()

    def reload(self) -> Served:
        """Load the run anew beside the one that answers, and let it answer from then on.

        Questions that were accepted before are answered by the one that they were put to.

        Raises:
            ThinkrankError: if it cannot be loaded; the present one goes on.
        """
        if self.opened is None:
            raise ThinkrankError("this server was given a model, not a folder, so there is nothing to load anew")
        with self._changing:
            try:
                fresh = self.opened()
                self._apply(fresh, self._added, list(self.served.withdrawn))
            except (ThinkrankError, OSError) as error:
                self.metrics.reloads.labels("failed").inc()
                raise ThinkrankError(f"the run was not loaded anew, the present one goes on: {error}") from error
            self.served = fresh
            self.metrics.reloads.labels("done").inc()
            return fresh

    def add(self, items: Sequence[Mapping[str, Any]]) -> Served:
        """Add items, when nothing is being answered.

        Raises:
            ThinkrankError: if they cannot be added; then none is.
        """
        with self._changing, self.batcher.exclusive():
            self.served.add(items)
            self._added += [dict(item) for item in items]
            self._save()
            return self.served

    def withdraw(self, ids: Sequence[str]) -> Served:
        """Answer with these items no more.

        Raises:
            ThinkrankError: if one is unknown.
        """
        with self._changing:
            self.served.withdraw(ids)
            self._save()
            return self.served

    def _restore(self, file: Path) -> None:
        try:
            kept = json.loads(file.read_bytes())
            added, withdrawn = list(kept["added"]), list(kept["withdrawn"])
        except (ValueError, KeyError, TypeError) as error:
            raise ThinkrankError(f"{file}: not a file of added and withdrawn items: {error}") from error
        self._apply(self.served, added, withdrawn)
        self._added = added

    def _apply(self, served: Served, added: Sequence[Mapping[str, Any]], withdrawn: Sequence[str]) -> None:
        """Put a run into the present state; what it knows already, for it was trained anew, is not added."""
        known = served.catalogue.ids
        if fresh := [item for item in added if item["item"] not in known]:
            served.add(fresh)
        known = served.catalogue.ids
        served.withdraw([item for item in withdrawn if item in known])

    def _save(self) -> None:
        if self._file is None:
            return
        with atomic_write(self._file) as opened:
            state = {"added": self._added, "withdrawn": list(self.served.withdrawn)}
            opened.write(json.dumps(state, ensure_ascii=False, indent=1).encode())

    def _watch(self) -> None:
        watch, batcher = self.metrics.watch, self.batcher
        watch("waiting", "Requests that wait.", lambda: batcher.waiting)
        watch("running", "Requests that are being answered.", lambda: batcher.running)
        watch("calls", "Calls in which requests were answered.", lambda: batcher.batches)
        watch("calls_requests", "Requests answered in them.", lambda: batcher.batched)
        watch("items", "Items that can be answered with.", lambda: self.served.num_items)
        for name, about in (
            ("hits", "Histories of which a beginning was kept."),
            ("misses", "Histories that were read from their beginning."),
            ("tokens_kept", "Tokens of histories that were not read again."),
            ("tokens_read", "Tokens of histories that were read."),
            ("num_tokens", "Tokens of histories kept now."),
        ):
            watch(f"histories_{name}", about, partial(self._sum, "kept", name))
        for name, about in (
            ("hits", "Calls whose thoughts were kept."),
            ("misses", "Calls whose thoughts were written."),
            ("tokens", "Tokens of thoughts written."),
            ("num_writing", "Thoughts being written now."),
        ):
            watch(f"thoughts_{name}", about, partial(self._sum, "engines", name))

    def _sum(self, of: str, name: str) -> float:
        return float(sum(getattr(one, name) for one in getattr(self.served, of)))
