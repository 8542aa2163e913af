"""The state file: an append-only journal of what changed, so that a killed simulator goes on where it was.

A line is written before the answer it belongs to leaves. A process that dies, even by kill -9, loses none of
it, because the kernel has the bytes. Only a machine that dies might: the disk is waited for (fsync) when the
file is compacted and when the simulator stops, not at each answer.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from billing.simulator import entries
from billing.simulator.entries import HEADER, Tables, Unreadable
from billing.simulator.errors import Refused
from billing.simulator.state import State

COMPACT_FROM = 4 * 1024 * 1024
"""Bytes; a smaller file is left as it grew."""
_log = logging.getLogger(__name__)


def keep(state: State, path: Path, *, compact_from: int = COMPACT_FROM) -> Journal:
    """Go on with what ``path`` keeps, and keep there what changes; raises Refused if it cannot."""
    journal = Journal(path, state.lock, compact_from=compact_from)
    try:
        with state.lock:
            loaded = journal.load(state.tables)
            state.keep_in(journal)
            if loaded:
                state.go_on()
            state.save()
    except OSError as error:
        journal.close()
        raise Refused(f"The state cannot be kept in {path}: {error.strerror}") from None
    except BaseException:
        journal.close()
        raise
    return journal


class Journal:
    """Opens ``path`` and keeps every other simulator off it until ``close``; raises Refused with the reason.

    ``lock`` is the state's: ``watch`` and ``write`` are called under it. The file is compacted in a thread
    once it is twice as long as after the last compaction.
    """

    def __init__(self, path: Path, lock: threading.Condition, *, compact_from: int = COMPACT_FROM) -> None:
        self.path = path.resolve()
        self._compact_path = self.path.with_name(self.path.name + ".compact")
        self._lock = lock
        self._compact_from = compact_from
        self._tables: Tables = {}
        self._loaded = False
        self._reset = True
        self._size = 0
        self._compacted_size = 0
        self._compacting: threading.Thread | None = None
        self._broken = ""
        self._held = self._fd = -1
        try:
            if self.path.exists() and not self.path.is_file():
                raise Refused(f"{self.path} is no ordinary file. Choose another with --state.")
            self._held = self._hold()
            self._compact_path.unlink(missing_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._let_go()
            raise Refused(
                f"The state cannot be kept in {self.path}: {error.strerror}. Choose another with --state."
            ) from None
        except Refused:
            self._let_go()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def load(self, tables: Tables) -> bool:
        """Fill ``tables`` with what is kept; False, and nothing touched, when nothing is.

        A last line that was being written when the process died belongs to no answer and is cut off. Any
        other damage raises Refused with file and line.
        """
        found = False
        number = 0
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n") and (number > 1 or HEADER.startswith(line)):
                        break
                    if number == 1:
                        entries.check_header(line)
                    else:
                        entry = entries.decode(line)
                        if not found:
                            for table in tables.values():
                                table.clear()
                        entries.apply(entry, tables)
                        found = True
                    self._size += len(line)
            os.ftruncate(self._fd, self._size)
            if not self._size:
                self._append(HEADER)
        except Unreadable as reason:
            raise Refused(self._damage(number, reason)) from None
        except OSError as error:
            raise Refused(f"The state in {self.path} cannot be opened: {error.strerror}") from None
        self._compacted_size = self._size
        self._loaded = found
        return found

    def _damage(self, number: int, reason: Unreadable) -> str:
        cure = "Move it away, or choose another file with --state."
        if number > 1:
            cure = (
                f"The {number - 1} lines before it are sound: keep those alone (head -n {number - 1}),"
                " or choose another file with --state."
            )
        return f"{self.path}, line {number}, cannot be read: {reason}. {cure}"

    def watch(self, tables: Tables) -> None:
        """From now on, keep these. Unless they were just loaded, all that was kept before is forgotten."""
        self._reset, self._loaded = not self._loaded, False
        self._tables = tables
        for table in tables.values():
            table.watch()

    def write(self) -> None:
        """Append what changed since the last call. Raises OSError when it is not kept; then it still counts
        as changed, and the next call tries again.
        """
        if self._broken:
            raise OSError(self._broken)
        entry = entries.changes(self._tables, reset=self._reset)
        if entry is None:
            return
        self._append(entries.encode(entry))
        for table in self._tables.values():
            table.forget_touched()
        if self._reset:
            self._reset = False
            self._compacted_size = 0
        if self._compacting is None and self._size > max(self._compact_from, 2 * self._compacted_size):
            self._start_compacting()

    def _append(self, line: bytes) -> None:
        """All of the line, or none of it."""
        try:
            _write_all(self._fd, line)
        except OSError:
            self._cut_back()
            raise
        self._size += len(line)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            # The next line would follow half of one: nothing is answered until a restart cuts that off.
            self._broken = f"The state file {self.path} is damaged at its end: {error}"

    def _start_compacting(self) -> None:
        copies = {name: list(table.values()) for name, table in self._tables.items()}
        self._compacting = threading.Thread(
            target=self._compact, args=(copies, self._size), name="marketplace-simulator-journal", daemon=True
        )
        self._compacting.start()

    def _compact(self, copies: Mapping[str, list[Any]], copied_at: int) -> None:
        """Write the copies to a file of their own, add what was appended meanwhile, and put it in place."""
        fd = -1
        try:
            fd = os.open(
                self._compact_path,
                os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC,
                0o600,
            )
            _write_all(fd, HEADER)
            for line in entries.snapshot(copies):
                _write_all(fd, line)
            os.fsync(fd)
            with self._lock:
                size = os.fstat(fd).st_size
                _copy(self._fd, fd, start=copied_at, end=self._size)
                os.fsync(fd)
                os.replace(self._compact_path, self.path)
                # From here on the new file is the one that is kept.
                self._fd, fd = fd, self._fd
                self._compacted_size, self._size = size, os.fstat(self._fd).st_size
            self._sync_directory()
        except OSError as error:
            _log.warning(
                "The state file %s could not be compacted: %s. It goes on growing.", self.path, error
            )
            with suppress(OSError):
                self._compact_path.unlink(missing_ok=True)
            with self._lock:
                # Once more when it is twice as long again.
                self._compacted_size = self._size
        finally:
            if fd >= 0:
                os.close(fd)
            with self._lock:
                self._compacting = None

    def close(self) -> None:
        """Let the file be compacted to its end, have all of it on the disk, and let others have it."""
        with self._lock:
            compacting = self._compacting
        if compacting is not None:
            compacting.join()
        with self._lock:
            self._broken = "The simulator has stopped"
            try:
                os.fsync(self._fd)
            finally:
                self._let_go()

    def _hold(self) -> int:
        # A file beside it, because the state file itself is replaced when it is compacted.
        path = self.path.with_name(self.path.name + ".lock")
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise Refused(
                f"Another simulator keeps its state in {self.path}. Stop it, or choose another file with"
                " --state."
            ) from None
        return held

    def _let_go(self) -> None:
        for fd in (self._fd, self._held):
            if fd >= 0:
                os.close(fd)
        self._fd = self._held = -1

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _write_all(fd: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def _copy(source: int, target: int, *, start: int, end: int) -> None:
    while start < end:
        part = os.pread(source, min(end - start, 1024 * 1024), start)
        _write_all(target, part)
        start += len(part)
