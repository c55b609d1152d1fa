"""What an app holds while it runs: the run it serves, the queue, the counts, and the items that came and went."""

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from thinkrank._files import atomic_write, check_writable
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
        if self._file is not None:
            check_writable(self._file.parent, otherwise="give another --items-file")
            if self._file.is_file():
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
            except Exception as error:
                self.metrics.reloads.labels("failed").inc()
                if not isinstance(error, ThinkrankError | OSError):  # such as memory that a second copy does not find
                    logger.exception("the run was not loaded anew")
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
            added = [*self._added, *(dict(item) for item in items)]
            with self._saved(added, self.served.withdrawn):
                self.served.add(items)
            self._added = added
            return self.served

    def withdraw(self, ids: Sequence[str]) -> Served:
        """Answer with these items no more.

        Raises:
            ThinkrankError: if one is unknown.
        """
        with self._changing:
            with self._saved(self._added, [*self.served.withdrawn, *ids]):
                self.served.withdraw(ids)
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

    @contextmanager
    def _saved(self, added: Sequence[Mapping[str, Any]], withdrawn: Iterable[str]) -> Iterator[None]:
        """Write what there will be, and only then let it come about; a file of what did not is thrown away."""
        with nullcontext() if self._file is None else atomic_write(self._file) as opened:
            if opened is not None:
                state = {"added": added, "withdrawn": [*dict.fromkeys(withdrawn)]}
                opened.write(json.dumps(state, ensure_ascii=False, indent=1).encode())
                opened.flush()
                os.fsync(opened.fileno())  # a full disk is told here
            yield

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
