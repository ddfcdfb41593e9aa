"""What a writer that died, or a power loss, has left of a JSONL file: settled by whoever has its lock next."""

from turnlane.transcripts.digest import Chain, chained
from turnlane.transcripts.finding import holds_at
from turnlane.transcripts.record import Kind, State
from turnlane.transcripts.seen_file import Content, SeenFile

__all__ = ("RecoverableFile",)


class RecoverableFile(SeenFile):
    """A file that may have been left in the middle of a write. The lock of the journal is held while any method runs.

    Everything here may be done again where whoever does it dies too.
    """

    @property
    def is_of_another_boot(self) -> bool:
        """Whether the machine has started anew since the record was written; False where it does not tell."""
        return self.record.boot != self._boot and any(self._boot)

    def recovery(self) -> None:
        """Settle a write that whoever had the lock before did not end.

        Whole in the file it is an owned write. Otherwise what it was to be is salvaged, and a part of it that is in the
        file is cut off again; after a power loss zeros may be in it too. The words are salvaged first: whoever dies
        here leaves them in the journal. Where the power failed before the journal had them, nothing was in the file.

        Raises:
            OSError: the file or the journal could not be read or written, or the words not be salvaged.
        """
        record, intent = self.record, self.record.intent
        if intent is None:
            return
        if intent.kind is Kind.DELETE:
            gone = self._files.status_of(self.path) is None
            if gone and self.sync:
                self._sync_names()  # whoever renamed it may have died then
            self._note(record.removed() if gone else record.given_up())
            return
        payload = self.journal.read_payload(intent.payload)
        content = self.content()
        if content is not None and content.state == intent.state:
            content = self._made_sure(content)
            whole = content.state == intent.state
            self._note(record.done(content.fingerprint if whole else None, settled=whole and content.settled))
            return
        lines = payload.strip(b"\n").split(b"\n")
        if intent.kind is Kind.APPEND and chained(record.state.digest, lines) == intent.state.digest:
            self._keep(lines)
        if content is not None and _is_torn(content, record.state, payload, zeros=self._may_hold_zeros):
            self._cut(content, record.state.length)
        if content is not None:
            self._sync_file()  # whoever cut it off before may have died then
        self._note(record.given_up())

    @property
    def _may_hold_zeros(self) -> bool:
        return self.is_of_another_boot or not any(self._boot)

    def _made_sure(self, content: Content) -> Content:
        """With `sync`: have the end of a write that is whole on the disk. Whoever made it may have failed to sync it.

        Only what is written once more is surely written: the kernel may call the pages clean.
        """
        start = self.record.state.length
        if self.sync and content.chain.length > start and self._cut(content, start):
            self._files.append(self._fd, content.data[start:])
        self._sync_file()
        return (self.content() if self.sync else None) or content

    def _cut(self, content: Content, length: int) -> bool:
        """Cut the file off, unless somebody has written meanwhile."""
        if self._files.status(self._fd).st_size != content.chain.length:
            return False
        self._files.cut(self._fd, length)
        return True

    def cut_lost_tail(self) -> bool:
        """After the machine has started anew: cut off what a power loss has left of the last owned writes.

        A file that begins with what was owned once, and holds no more than a part of the write that followed, or zeros,
        has lost its tail, and nobody has changed it. The journal remembers what was owned at the last writes. What is
        cut off is salvaged, if it is more than zeros.

        Returns:
            Whether that was so. False where nothing is lost, or more than that has happened to the file.

        Raises:
            OSError: the file or the journal could not be read or written, or the rest not be salvaged.
        """
        record = self.record
        content = self.content()
        if content is None or record.is_deleted:
            return False
        if content.state == record.state:
            self._note(record.seen(content.fingerprint, settled=content.settled, boot=self._boot))
            return False
        kept = self._last_whole(content)
        if kept is None:
            return False
        rest = content.data[kept.length :]
        if rest.strip(b"\0\n"):
            self._keep((rest,))
        if rest:
            self._files.cut(self._fd, kept.length)
        self._sync_file()
        remaining = self.content()
        fingerprint = None if remaining is None else remaining.fingerprint
        self._note(record.shortened(kept, fingerprint, boot=self._boot))
        return True

    def _last_whole(self, content: Content) -> State | None:
        """Return the last state that was owned once and of which all is there, if no whole write follows it."""
        written = content.data.partition(b"\0")[0]
        chain = content.chain if len(written) == len(content.data) else Chain(written)
        following = self.record.state
        if chain.length == following.length and holds_at(chain, following):
            return following  # only what was to follow was lost
        for _, state in sorted(self.journal.remembered(), reverse=True):
            if state.length < following.length:
                if state.length <= len(written) < following.length and holds_at(chain, state):
                    return state
                following = state
        return None


def _is_torn(content: Content, owned: State, payload: bytes, *, zeros: bool) -> bool:
    """Tell whether some content is the owned one and a part of a payload, in which there may be zeros."""
    left = content.data[owned.length :]
    if not left or len(left) > len(payload):
        return False
    if not (payload.startswith(left) or (zeros and _is_part(left, payload))):
        return False
    kept = Chain(content.data[: owned.length])
    return State(kept.length, len(kept.digests), kept.digest) == owned


def _is_part(left: bytes, payload: bytes) -> bool:
    return all(found in (0, wanted) for found, wanted in zip(left, payload, strict=False))
