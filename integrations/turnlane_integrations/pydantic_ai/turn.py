"""`conversation_turn`: a conversation is loaded, continued and saved in one turn."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from typing import Any
from urllib.parse import quote

from pydantic_ai.agent import AgentRunResult
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationEntry, ConversationStore
from pydantic_ai.result import StreamedRunResult

from turnlane import Runtime, Turn
from turnlane.errors import SessionKeyRequired
from turnlane.lanes import Lanes
from turnlane.policies import Policy
from turnlane_integrations._policies import one_by_one
from turnlane_integrations.pydantic_ai.store import TranscriptConversationStore

__all__ = ("ConversationTurn", "conversation_turn")

NEW = "new"  # what pydantic-ai takes for an id that is to be minted

_inside: ContextVar[tuple[tuple[Lanes, str], ...]] = ContextVar("turnlane_pydantic_ai_inside", default=())


class ConversationTurn:
    """A conversation in its turn; made by `conversation_turn`.

    Mutable: `conversation`, with each save.

    Attributes:
        turn: of the lane.
        store: the conversation's, for this turn: what `UIAdapter` and others take as `conversation_store`.
        scope: of the conversation.
        conversation: as it was loaded, or saved last: `agent.run(text, conversation=turn.conversation)`.
    """

    def __init__(self, turn: Turn, store: ConversationStore, scope: str | None, conversation: Conversation) -> None:
        self.turn: Turn = turn
        self.store: ConversationStore = store
        self.scope: str | None = scope
        self.conversation: Conversation = conversation

    def __repr__(self) -> str:
        return f"<ConversationTurn {self.conversation.conversation_id!r} {self.turn!r}>"

    async def save(
        self, result: AgentRunResult[Any] | StreamedRunResult[Any, Any] | Conversation
    ) -> list[ConversationEntry]:
        """Save what a run has added: its result, or that of a streamed run, whose stream has ended.

        Returns:
            The entries that were stored.

        Raises:
            ConversationConflict: somebody else has saved the conversation, who has not waited for a turn.
            UserError: the stream has not ended.
            TranscriptError: as the store.
        """
        given = self._continued(result.result) if isinstance(result, StreamedRunResult) else result
        stored = await self.store.save(given, scope=self.scope)
        self.conversation = given.conversation if isinstance(given, AgentRunResult) else given
        return stored

    def _continued(self, settled: AgentRunResult[Any]) -> Conversation:
        """Return the conversation with a streamed run, whose result does not tell which revision it continues."""
        conversation = copy(self.conversation)
        known = {id(message) for message in conversation.messages}
        new = [message for message in settled.new_messages() if id(message) not in known]
        conversation.messages = [*conversation.messages, *new]
        conversation.usage = settled.usage
        conversation.deferred_tool_requests = settled.conversation.deferred_tool_requests
        return conversation


@asynccontextmanager
async def conversation_turn(
    runtime: Runtime,
    store: ConversationStore,
    conversation_id: str | None,
    *,
    scope: str | None = None,
    policy: Policy | str | None = None,
    turn_timeout: float | None = None,
) -> AsyncGenerator[ConversationTurn, None]:
    """Load a conversation when its turn has come, and hold the turn for the block.

    Guarantees: turns of one conversation run one after the other, in the order in which they were called, and each
    loads what the ones before it have saved, so that none is refused when the model was paid. Behind `LaneMiddleware`
    with the same key a turn goes on in that of the request. The key is the id; with a scope it is what
    `keys.scoped_by` makes of the two.

    Not guaranteed: anything against those who save without a turn, but what the store finds; and that what a run
    has said is stored: that is `turn.save(result)`.

    Args:
        runtime: whose lanes.
        store: where conversations are; a `TranscriptConversationStore`, or any other.
        conversation_id: of one that is there or not; `new` for one that is not, with an id of its own.
        scope: whose it is, as in `ConversationStore`.
        policy: what happens to a turn that finds its conversation busy; None for what the lanes say.
        turn_timeout: seconds after which the turn is cancelled.

    Raises:
        ValueError: the policy makes one turn of several messages (`Coalesce`, `Steer`), or takes one back (`Rollback`).
        SessionKeyRequired: there is no id.
        SessionKeyInvalid: the id can not be one.
        LaneReentry: a turn of this conversation goes on in this call chain, and would not know what this one saves.
        ConversationConflict: it is there, with another scope.
        LaneError, TranscriptError: as a turn and the store.
    """
    chosen = one_by_one(runtime, policy)
    if not conversation_id:
        raise SessionKeyRequired("conversation_id=")
    whose = Conversation().conversation_id if conversation_id == NEW else conversation_id
    key = whose if scope is None else f"{quote(scope, safe='', errors='surrogatepass')}/{whose}"
    place = (runtime.lanes, key)
    join = place not in _inside.get()
    async with runtime.turn(key, policy=chosen, turn_timeout=turn_timeout, join=join) as turn:
        mine = store.of_turn(turn) if isinstance(store, TranscriptConversationStore) else store
        conversation = await mine.load(whose, scope=scope)
        if conversation is None:
            if scope is not None and await mine.read_record(whose) is not None:
                raise ConversationConflict(whose)
            conversation = Conversation(conversation_id=whose)
        with _within(place):
            yield ConversationTurn(turn, mine, scope, conversation)


@contextmanager
def _within(place: tuple[Lanes, str]) -> Generator[None, None, None]:
    before = _inside.set((*_inside.get(), place))
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context, as a generator that is closed elsewhere is
            _inside.reset(before)
