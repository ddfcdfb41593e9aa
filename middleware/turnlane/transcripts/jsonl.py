"""Transcripts as JSONL files in a directory, each with a journal beside it."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from turnlane.clock import Clock
from turnlane.errors import TranscriptBusy, TranscriptCorrupt, TranscriptUnavailable
from turnlane.transcripts.contract import Author, TranscriptStore
from turnlane.transcripts.entries import decoded
from turnlane.transcripts.files import Files
from turnlane.transcripts.fingerprint import Tick
from turnlane.transcripts.graveyard import sweep
from turnlane.transcripts.journal import Journal, session_id_of
from turnlane.transcripts.jsonl_handle import JsonlHandle
from turnlane.transcripts.layout import Layout, layout_of
from turnlane.transcripts.names import TRANSCRIPT_SUFFIX
from turnlane.transcripts.owned_file import OwnedFile
from turnlane.transcripts.place import boot_of, make_private, refuse_network
from turnlane.transcripts.salvage import salvage
from turnlane.transcripts.traces import Traces
from turnlane.transcripts.working import INLINE_BYTES, work

__all__ = ("JsonlTranscriptStore",)

logger: logging.Logger = logging.getLogger("turnlane.transcripts")

_T = TypeVar("_T")

LONGEST_WRITE = 1.0  # seconds a reader waits for the end of a write that has begun


class JsonlTranscriptStore(TranscriptStore):
    """Keeps each transcript in a file of its own, one entry a line, readable by anything.

    Safe with several processes of one machine on one directory, and after any of them was killed at any moment. What
    is written is in the kernel's hands when it is reported, which a killed process does not undo; with
    `durability="power"` it is on the disk.

    Not guaranteed: anything on a network file system, which is refused; that the last entries survive a power loss
    under the default durability; use on Windows.

    Args:
        place: a directory, made if it is not there, readable by its owner only; or one file, `*.jsonl`.
        state_dir: where the journals, salvage and tombstones are, if the place belongs to another program; by default
            beside the transcripts.
        verify_up_to: bytes of a transcript up to which its content is compared at each prompt release and return.
        verify_always: compare it whatever its size.
        sync: whether a write is on the disk when it is reported.
        allow_network_fs: use a network file system all the same.
        trace_turns: note which turn wrote what, so that a turn can be rolled back.
        files: the calls it is kept with.
        clock: tells the time.

    Raises:
        ValueError: a path is empty text, or holds a NUL; or this is Windows.
    """

    def __init__(
        self,
        place: str | os.PathLike[str],
        *,
        state_dir: str | os.PathLike[str] | None = None,
        verify_up_to: int = 4 * 1024 * 1024,
        verify_always: bool = False,
        sync: bool = False,
        allow_network_fs: bool = False,
        trace_turns: bool = False,
        files: Files | None = None,
        clock: Clock | None = None,
    ) -> None:
        if sys.platform == "win32":
            raise ValueError("transcripts in files need a POSIX system")
        self._layout = layout_of(os.fspath(place), None if state_dir is None else os.fspath(state_dir))
        self.where: str = self._layout.where
        self._verify_up_to = None if verify_always else verify_up_to
        self._sync = sync
        self.traces_turns: bool = trace_turns
        self._allow_network_fs = allow_network_fs
        self._files = files if files is not None else Files()
        self._clock = clock if clock is not None else Clock()
        self._boot = boot_of()
        self._ticks: dict[int, Tick] = {}
        self._ready = False

    def __repr__(self) -> str:
        return f"<JsonlTranscriptStore {self.where}>"

    @property
    def layout(self) -> Layout:
        """Where its files are."""
        return self._layout

    async def attach(self, session_id: str) -> JsonlHandle:
        """Open the journal of a transcript, and make it if there is none."""
        paths = self._layout.paths(session_id)
        try:
            await self._get_ready()
            journal = Journal(self._files, paths.journal, session_id)
        except OSError as error:
            if isinstance(error, TranscriptUnavailable):
                raise
            raise _unavailable(paths.transcript, "open it", error) from error
        file = OwnedFile(
            self._files,
            paths.transcript,
            journal,
            ticks=self._ticks,
            wall_ns=self._clock.wall_ns,
            boot=self._boot,
            sync=self._sync,
            keep=partial(self._keep_leftovers, paths.salvage),
        )
        return JsonlHandle(
            file,
            paths,
            clock=self._clock,
            verify_up_to=self._verify_up_to,
            remedy=self._layout.repair(paths.transcript),
            traces=self._traces(paths.traces) if self.traces_turns else None,
        )

    async def read(self, session_id: str, last: int | None) -> tuple[dict[str, Any], ...]:
        """Return the entries of the file as it is now."""
        path = self._layout.paths(session_id).transcript
        try:
            status = self._files.status_of(path)
            if status is None:
                return ()
            content = await work(partial(self._content_of, path), size=status.st_size)
            if not content.endswith(b"\n") and _is_half(content.rpartition(b"\n")[2]):
                content = await self._when_nobody_writes(session_id, path) or content
        except FileNotFoundError:
            return ()
        except OSError as error:
            if isinstance(error, TranscriptUnavailable):
                raise
            raise _unavailable(path, "read it", error) from error
        entries = decoded(content, where=path)
        return tuple(entries if last is None else entries[max(0, len(entries) - last) :])

    async def exists(self, session_id: str) -> bool:
        """Look for its journal, and for the file that may be somebody else's still."""
        paths = self._layout.paths(session_id)
        try:
            return any(self._files.status_of(path) is not None for path in (paths.journal, paths.transcript))
        except OSError as error:
            raise _unavailable(paths.transcript, "look for it", error) from error

    async def end_turn(self, session_id: str, author: Author) -> None:
        """Append it to the traces."""
        await self._of_traces(session_id, lambda traces: traces.end(author))

    async def unended(self, session_id: str) -> str | None:
        """Look it up in the traces."""
        return await self._of_traces(session_id, Traces.unended)

    def _traces(self, path: str) -> Traces:
        return Traces(self._files, path, sync=self._sync, boot=self._boot)

    async def _of_traces(self, session_id: str, job: Callable[[Traces], _T]) -> _T:
        path = self._layout.paths(session_id).traces
        try:
            return await work(partial(job, self._traces(path)), size=INLINE_BYTES + 1 if self._sync else 0)
        except OSError as error:
            raise _unavailable(path, "note turns", error) from error

    async def salvage(self, session_id: str, lines: Sequence[bytes], author: Author, *, reason: str) -> str:
        """Append it to the salvage file."""
        path = self._layout.paths(session_id).salvage
        job = partial(
            salvage,
            self._files,
            path,
            at=self._clock.wall(),
            reason=reason,
            turn=author.turn,
            token=author.token,
            lines=lines,
            sync=self._sync,
        )
        try:
            await self._get_ready()
            return await work(job, size=INLINE_BYTES + 1 if self._sync else sum(map(len, lines)))
        except OSError as error:
            if isinstance(error, TranscriptUnavailable):
                raise
            reason = error.strerror or str(error)
            raise TranscriptUnavailable(path, operation="salvage entries", reason=reason) from error

    async def list(self) -> tuple[str, ...]:
        """Return the ids in the journals of the directory."""
        try:
            return await work(self._ids, size=INLINE_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise TranscriptUnavailable(self.where, operation="list it", reason=error.strerror or str(error)) from error

    async def sweep(self, before: float) -> int:
        """Unlink old tombstones, and the salvage of what is deleted still. The journals stay: they are the locks."""
        try:
            return await work(partial(sweep, self._files, self._layout, before), size=INLINE_BYTES + 1)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise TranscriptUnavailable(
                self.where, operation="sweep it", reason=error.strerror or str(error)
            ) from error

    async def aclose(self) -> None:
        """Do nothing: every handle has its own files."""

    async def _when_nobody_writes(self, session_id: str, path: str) -> bytes:
        """Read it once more under the lock: the half entry at its end may be one that is being written.

        Empty where the lock is not to be had: then it is none, for a write does not take that long. Where there is no
        journal nobody has begun one, and reading makes none.
        """
        if self._files.status_of(self._layout.paths(session_id).journal) is None:
            return b""
        handle = await self.attach(session_id)
        try:
            await handle.lock(LONGEST_WRITE)
            await handle.settle()
            return self._content_of(path)
        except TranscriptBusy:
            return b""
        finally:
            await handle.aclose()

    # -- what may be done in a thread

    def _content_of(self, path: str) -> bytes:
        fd = self._files.open(path, os.O_RDONLY)
        try:
            return self._files.read(fd, 0, self._files.status(fd).st_size)
        finally:
            self._files.close(fd)

    def _ids(self) -> tuple[str, ...]:
        ids = (self._id_of(transcript) for transcript in self._layout.transcripts())
        return tuple(sorted(session_id for session_id in ids if session_id is not None))

    def _id_of(self, transcript: str) -> str | None:
        """Return whose transcript a file is; None for one that no id leads to, which is none of this store."""
        journal, session_id = self._layout.paths_at(transcript).journal, None
        if self._files.status_of(journal) is not None:
            try:
                session_id = session_id_of(self._files, journal)
            except TranscriptUnavailable as error:
                logger.warning("not_listed path=%s: %s", transcript, error)
                return None
        if session_id is None:
            session_id = os.path.basename(transcript).removesuffix(TRANSCRIPT_SUFFIX)
        return session_id if self._owns(session_id, transcript) else None

    def _owns(self, session_id: str, transcript: str) -> bool:
        try:
            return self._layout.paths(session_id).transcript == transcript
        except ValueError:
            return False

    # -- small things

    async def _get_ready(self) -> None:
        if not self._ready:
            await work(self._prepare, size=INLINE_BYTES + 1 if self._sync else 0)

    def _prepare(self) -> None:
        for directory in self._layout.directories:
            make_private(self._files, directory, sync=self._sync)
            if not self._allow_network_fs:
                refuse_network(directory)
        self._ready = True

    def _keep_leftovers(self, path: str, lines: Sequence[bytes]) -> None:
        reason = "whoever wrote it ended before it was whole"
        salvage(
            self._files, path, at=self._clock.wall(), reason=reason, turn="", token=None, lines=lines, sync=self._sync
        )


def _unavailable(path: str, operation: str, error: OSError) -> TranscriptUnavailable:
    return TranscriptUnavailable(path, operation=operation, reason=error.strerror or str(error))


def _is_half(line: bytes) -> bool:
    """Tell whether a line is no entry. What is left of one that was cut never is."""
    try:
        decoded(line, where="")
    except TranscriptCorrupt:
        return True
    return False
