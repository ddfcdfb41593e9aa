"""What the lines of a session file say: one chain of messages, or a fork, of which a session shows one branch only.

Each message names the one before it (`parentUuid`). The program appends behind the leaf it has found when it started;
two programs on one session find the same leaf. Lines that are no messages of the conversation (attachments, modes,
costs, those of subagents) are passed over, or stand between two messages.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

__all__ = ("Fork", "forks", "leaf_of", "why_no_chain")

Line = Mapping[str, Any]
MESSAGES = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Fork:
    """A message that more than one message continues.

    Attributes:
        parent: its uuid; empty for two beginnings.
        children: the uuids of those that continue it, in the order of the file.
    """

    parent: str
    children: tuple[str, ...]


def leaf_of(lines: Iterable[Line]) -> str | None:
    """Return the uuid of the message that the next turn continues: the last one that no other continues."""
    tree = _Tree(lines)
    return next((uuid for uuid in reversed(tree.messages) if not tree.children[uuid]), None)


def forks(lines: Iterable[Line]) -> tuple[Fork, ...]:
    """Return where a session has been continued twice, in the order of the file.

    The results of tools that were called at the same time fan out and come together again: they are no fork.
    """
    tree = _Tree(lines)
    return tuple(Fork(parent, tuple(children)) for parent, children in tree.children.items() if tree.is_fork(parent))


def why_no_chain(before: Sequence[Line], appended: Sequence[Line], *, at: str | None = None) -> str | None:
    """Return why what was appended is not one chain that begins at a leaf of what was there; None where it is.

    Args:
        before: the lines that were there.
        appended: those that came.
        at: a message that may be continued although it was before, as `resume_session_at` says.
    """
    tree = _Tree((*before, *appended))
    new = {line["uuid"] for line in appended if isinstance(line.get("uuid"), str)}
    for parent, children in tree.children.items():
        if new.intersection(children) and tree.is_fork(parent) and not (at and parent == tree.message_at(at)):
            return f"{', '.join(children)} all continue {parent or 'nothing'}"
    roots = [uuid for uuid, parent in tree.messages.items() if uuid in new and parent not in new]
    return None if len(roots) <= 1 else f"{', '.join(roots)} each begin a branch"


class _Tree:
    """The messages of a conversation: `messages` is uuid to the uuid of the message before it, in order."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._nodes: dict[str, Line] = {}
        for line in lines:
            if isinstance(line.get("uuid"), str) and not line.get("isSidechain"):
                self._nodes.setdefault(line["uuid"], line)
        self.messages: dict[str, str] = {}
        self.children: defaultdict[str, list[str]] = defaultdict(list)
        for uuid, line in self._nodes.items():
            if line.get("type") in MESSAGES:
                parent = self.messages[uuid] = self.message_at(_parent(line))
                self.children[parent].append(uuid)

    def message_at(self, uuid: str) -> str:
        """Return the message that a line is, or stands behind; empty for none."""
        passed: set[str] = set()
        while uuid in self._nodes and uuid not in passed and self._nodes[uuid].get("type") not in MESSAGES:
            passed.add(uuid)
            uuid = _parent(self._nodes[uuid])
        return uuid if uuid in self._nodes and uuid not in passed else ""

    def is_fork(self, parent: str) -> bool:
        children = self.children[parent]
        return len(children) > 1 and not all(self._is_of_one_answer(parent, child) for child in children)

    def _is_of_one_answer(self, parent: str, child: str) -> bool:
        """Tell whether a message is a further part of the answer before it, or the result of a tool called in it."""
        if parent not in self._nodes:
            return False
        one, other = _message(self._nodes[parent]), _message(self._nodes[child])
        if one.get("id") is not None and one.get("id") == other.get("id"):
            return True
        return any(each in _ids(one, "tool_use", "id") for each in _ids(other, "tool_result", "tool_use_id"))


def _parent(line: Line) -> str:
    return line.get("parentUuid") or line.get("logicalParentUuid") or ""  # the latter is behind a compaction


def _message(line: Line) -> Mapping[str, Any]:
    message = line.get("message")
    return cast("Mapping[str, Any]", message) if isinstance(message, dict) else {}


def _ids(message: Mapping[str, Any], kind: str, name: str) -> set[str]:
    content = message.get("content")
    if not isinstance(content, list):
        return set()
    blocks = [cast("Mapping[str, Any]", block) for block in cast("list[object]", content) if isinstance(block, dict)]
    return {str(block.get(name)) for block in blocks if block.get("type") == kind}
