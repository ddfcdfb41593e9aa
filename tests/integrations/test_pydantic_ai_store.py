"""The store of conversations of pydantic-ai: what it keeps, whom it refuses, and where refused words are."""

import asyncio
import json
import pickle
import re
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, closing
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.agent import AgentRunResult
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.usage import RunUsage
from pydantic_core import PydanticSerializationError

from support.conversations import DATABASE, KINDS, said, store_in, tamper, texts, turn_of
from support.server_process import server_process
from turnlane import Runtime, Transcripts
from turnlane.errors import StaleTurn, TranscriptCorrupt, TranscriptTakeover
from turnlane.hooks import TranscriptAdopted
from turnlane.transcripts import Author
from turnlane_integrations.pydantic_ai import ConversationTakeover, TranscriptConversationStore
from turnlane_integrations.pydantic_ai.takeover import kept

Opened = tuple[TranscriptConversationStore, Transcripts]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Where conversations are."""
    return str(request.param)


@pytest.fixture
async def opened(kind: str, tmp_path: Path) -> AsyncGenerator[Opened, None]:
    """A store, and the transcripts it is made of."""
    async with store_in(kind, tmp_path) as found:
        yield found


@pytest.fixture
def store(opened: Opened) -> TranscriptConversationStore:
    """The store alone."""
    return opened[0]


async def salvaged_in(opened: Opened, tmp_path: Path, error: BaseException) -> str:
    """Return what is in the salvage an error names, as text."""
    told = " ".join([str(error), *getattr(error, "__notes__", [])])
    found = re.search(r"to be (?:stored|saved) is in (\S+\.salvage\.jsonl|sqlite:\S+#salvage of \S+)", told)
    assert found is not None, told
    if found[1].startswith("sqlite:"):
        with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
            return "\n".join(line for (line,) in connection.execute("SELECT line FROM salvage"))
    return await asyncio.to_thread(Path(found[1]).read_text)


async def story(store: ConversationStore) -> list[Any]:
    """Do with a store whatever can be done, and return what it has said."""
    told: list[Any] = []

    async def tell(conversation_id: str, **options: Any) -> None:
        found = await store.load(conversation_id, **options)
        if found is None:
            told.append((conversation_id, None))
            return
        told.append((conversation_id, texts(found.messages), found.usage, found.deferred_tool_requests))
        entries = await store.load_entries(conversation_id, **options) or []
        whole = "limit" not in options
        chained = [entry.parent_id for entry in entries[1:]] == [entry.id for entry in entries[:-1]]
        told.append((chained, whole and entries[0].parent_id is None))

    async def refused(what: Any) -> None:
        with pytest.raises(UserError) as caught:
            await what
        told.append((type(caught.value), str(caught.value)))

    await tell("a")
    first = await turn_of(store, "a", "one", scope="alice")
    first.messages += said("two", "re two")
    first.usage = RunUsage(requests=2, input_tokens=7, cost=Decimal("0.001"))
    second = await store.save(first)
    await tell("a")
    await tell("a", limit=1)
    await tell("a", limit=0)
    await tell("a", scope="alice")
    await tell("a", scope="bob")
    await refused(store.save(Conversation(conversation_id="a", messages=said("x", "re x"))))
    await refused(store.save(first, scope="bob"))
    await refused(store.branch("a", at=1, expected_revision="another"))
    await refused(store.branch("none", at=1, expected_revision=None))
    branched = await store.branch("a", at=2, expected_revision=first.revision)
    branched.messages += said("other", "re other")
    await store.save(branched)
    await refused(store.save(first))
    await tell("a")
    record = await store.read_record("a")
    assert record is not None
    told.append(len(record.branches))
    back = await store.branch("a", from_entry=second[-1].id, expected_revision=branched.revision)
    told.append(texts(back.messages))
    forked = await store.fork("a", from_entry=second[0].id, new_conversation_id="b")
    told.append((texts(forked.messages), forked.usage))
    await refused(store.fork("a", new_conversation_id="b"))
    await refused(store.fork("a", from_entry="nowhere"))
    forked.messages += said("three", "re three")
    await store.save(forked)
    await store.fork("b", new_conversation_id="c")
    await turn_of(store, "d", "alone")
    rewritten = await store.load("d")
    assert rewritten is not None
    rewritten.messages = [*said("rewritten", "re rewritten")]
    await store.save(rewritten)
    await tell("d")
    told.append([entry.message.kind for entry in await store.read_history(None)])
    told.append([each.conversation_id for each in await store.list_conversations()])
    told.append([each.conversation_id for each in await store.list_conversations(scope="alice", limit=2)])
    await store.delete("a", scope="bob")
    await store.delete("a", scope="alice")
    await store.delete("a")
    for each in "abcd":
        await tell(each)
    kept = await store.load_entries("c")
    assert kept
    told.append(texts([(await store.read_entry(str(kept[-1].id))).message]))
    with pytest.raises(LookupError):
        await store.read_entry("nowhere")
    return told


async def test_it_does_what_the_store_of_pydantic_ai_does(store: TranscriptConversationStore) -> None:
    """All there is to do, beside the store it ships for tests: loads, saves, branches, forks, scopes, lists, ends."""
    assert await story(store) == await story(InMemoryConversationStore())


async def test_it_does_so_in_postgresql(lend: Callable[[], str]) -> None:
    """For servers on several machines."""
    async with Transcripts(lend()) as transcripts:
        assert await story(TranscriptConversationStore(transcripts)) == await story(InMemoryConversationStore())


async def test_all_that_messages_hold_comes_back(kind: str, tmp_path: Path) -> None:
    """Bytes, thoughts, tools, costs and calls that wait for an approval, read by another process' store."""
    sound = BinaryContent(bytes(range(256)), media_type="audio/wav")
    call = ToolCallPart("pay", {"amount": 1.5, "to": "Zoë"}, tool_call_id="1")
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart(["listen", sound])], instructions="be kind"),
        ModelResponse(parts=[ThinkingPart("hm", signature="s"), TextPart("I see"), call], model_name="m"),
        ModelRequest(parts=[ToolReturnPart("look", {"raw": b"\x00\xff"}, tool_call_id="0")]),
    ]
    waiting = DeferredToolRequests(approvals=[call], metadata={"1": {"why": "expensive"}})
    usage = RunUsage(requests=1, tool_calls=3, cost=Decimal("0.000196"), details={"thoughts": 2})
    async with store_in(kind, tmp_path) as (store, _):
        given = Conversation(conversation_id="c", messages=messages, usage=usage, deferred_tool_requests=waiting)
        await store.save(given)
    async with store_in(kind, tmp_path) as (store, _):
        found = await store.load("c")
    assert found is not None
    assert (found.usage, found.deferred_tool_requests) == (usage, waiting)
    assert found.messages[:2] == messages[:2]
    returned = found.messages[2].parts[0]
    assert isinstance(returned, ToolReturnPart)
    assert returned.content == {"raw": "AP8="}, (
        "bytes in what a tool returns are text afterwards, as pydantic-ai has it"
    )


async def test_a_loaded_conversation_is_extended_line_by_line(tmp_path: Path) -> None:
    """The file holds each message once, and a record behind those of each save."""
    async with store_in("files", tmp_path) as (store, _):
        await turn_of(store, "c", "one")
        await turn_of(store, "c", "two")
    lines = [json.loads(line) for line in (tmp_path / "conversations" / "c.jsonl").read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["entry", "entry", "record", "entry", "entry", "record"]
    assert lines[3]["entry"]["parent_id"] == lines[1]["entry"]["id"]


@pytest.mark.stress
@pytest.mark.timeout(120)
async def test_of_processes_that_save_the_same_revision_one_does(kind: str, tmp_path: Path) -> None:
    """Five times, four processes load, and then save at once: one has saved, three are refused, its words are there."""
    async with AsyncExitStack() as stack:
        running = [server_process("conversation_writer.py", kind, str(tmp_path), f"w{number}") for number in range(4)]
        writers = await asyncio.gather(*(stack.enter_async_context(each) for each in running))
        winners: list[str] = []
        for _ in range(5):
            for writer in writers:
                await writer.tell("c")
            for writer in writers:
                await writer.reported("loaded")
            for writer in writers:
                await writer.tell("go")
            how = [(await writer.reported("ended"))["how"] for writer in writers]
            assert sorted(how) == ["conflict"] * 3 + ["saved"]
            winners.append(f"w{how.index('saved')}")
    async with store_in(kind, tmp_path) as (store, _):
        found = await store.load("c")
    assert found is not None
    assert texts(found.messages)[::2] == winners


async def test_what_json_can_not_hold_is_kept_as_text(opened: Opened, tmp_path: Path) -> None:
    """The conversation stays as it was, and the error says where the words are."""
    store, _ = opened
    await turn_of(store, "c", "one")
    conversation = await store.load("c")
    assert conversation is not None
    conversation.messages += said("half of an emoji \ud83d", "and the answer")
    with pytest.raises(PydanticSerializationError) as caught:
        await store.save(conversation)
    kept = await salvaged_in(opened, tmp_path, caught.value)
    assert "half of an emoji" in kept
    assert "and the answer" in kept
    now = await store.load("c")
    assert now is not None
    assert texts(now.messages) == ["one", "re one"]


async def test_a_save_that_comes_too_late_is_kept(opened: Opened, tmp_path: Path) -> None:
    """Somebody else has saved meanwhile: pydantic-ai's own error says where the words are."""
    store, _ = opened
    await turn_of(store, "c", "one")
    late = await store.load("c")
    assert late is not None
    await turn_of(store, "c", "two")
    late.messages += said("too late", "re too late")
    with pytest.raises(ConversationConflict) as caught:
        await store.save(late)
    assert not isinstance(caught.value, TranscriptTakeover)
    kept = await salvaged_in(opened, tmp_path, caught.value)
    assert "re too late" in kept
    assert "re one" not in kept, "what is stored already is not kept again"
    now = await store.load("c")
    assert now is not None
    assert texts(now.messages) == ["one", "re one", "two", "re two"]


async def test_a_change_by_other_means_is_found(opened: Opened, kind: str, tmp_path: Path) -> None:
    """Between load and save: refused as a conflict and as a takeover; the next load has it, and goes on from it."""
    store, _ = opened
    await turn_of(store, "c", "one")
    loaded = await store.load("c")
    assert loaded is not None
    tamper(kind, tmp_path, "c", old="re one", new="something else")
    loaded.messages += said("two", "re two")
    with pytest.raises(ConversationTakeover) as caught:
        await store.save(loaded)
    error = caught.value
    assert isinstance(error, ConversationConflict)
    assert isinstance(error, TranscriptTakeover)
    assert (error.conversation_id, error.kind, error.phase) == ("c", "edited", "open")
    assert "re two" in await salvaged_in(opened, tmp_path, error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.conversation_id, str(again)) == (ConversationTakeover, "c", str(error))
    now = await turn_of(store, "c", "three")
    assert texts(now.messages) == ["one", "something else", "three", "re three"]


async def test_a_change_that_somebody_else_has_loaded_is_no_less_foreign(
    opened: Opened, kind: str, tmp_path: Path
) -> None:
    """It is adopted by who loads it, and known to nobody who has loaded before."""
    store, transcripts = opened
    adopted: list[TranscriptAdopted] = []
    transcripts.hooks.on(TranscriptAdopted, adopted.append)
    await turn_of(store, "c", "one")
    before = await store.load("c")
    tamper(kind, tmp_path, "c", old="re one", new="something else")
    after = await store.load("c")
    assert before is not None
    assert after is not None
    assert len(adopted) == 1
    assert texts(after.messages) == ["one", "something else"]
    before.messages += said("before", "re before")
    with pytest.raises(ConversationConflict) as caught:
        await store.save(before)
    assert "re before" in await salvaged_in(opened, tmp_path, caught.value)
    after.messages += said("after", "re after")
    await store.save(after)
    await turn_of(store, "c", "next")


async def test_a_file_that_is_gone_is_found_and_can_begin_anew(tmp_path: Path) -> None:
    """Who has loaded it is refused; who loads it then finds none."""
    async with store_in("files", tmp_path) as (store, _):
        loaded = await turn_of(store, "c", "one")
        (tmp_path / "conversations" / "c.jsonl").unlink()
        loaded.messages += said("two", "re two")
        with pytest.raises(ConversationTakeover) as caught:
            await store.save(loaded)
        assert caught.value.kind == "deleted"
        assert await store.load("c") is None
        assert texts((await turn_of(store, "c", "anew")).messages) == ["anew", "re anew"]


async def test_a_deleted_conversation_does_not_come_back(store: TranscriptConversationStore) -> None:
    """Neither by who has loaded it before, nor as what begins under its id."""
    old = await turn_of(store, "c", "one")
    await store.delete("c")
    old.messages += said("two", "re two")
    with pytest.raises(ConversationConflict):
        await store.save(old)
    await turn_of(store, "c", "anew")
    with pytest.raises(ConversationConflict):
        await store.save(old)
    with pytest.raises(ConversationConflict):
        await store.delete_record("c", expected_revision=str(old.revision))
    with pytest.raises(ConversationConflict):
        await store.delete_record("never", expected_revision="x")
    found = await store.load("c")
    assert found is not None
    assert texts(found.messages) == ["anew", "re anew"]


async def test_a_change_by_other_means_is_not_deleted_unseen(
    store: TranscriptConversationStore, kind: str, tmp_path: Path
) -> None:
    """Who has read a revision deletes that one; who deletes whatever there is has looked again."""
    conversation = await turn_of(store, "c", "one")
    tamper(kind, tmp_path, "c", old="re one", new="something else")
    with pytest.raises(ConversationConflict):
        await store.delete_record("c", expected_revision=str(conversation.revision))
    await store.delete("c")
    assert await store.load("c") is None


async def test_a_turn_that_has_lost_its_lane_saves_no_more(opened: Opened, tmp_path: Path) -> None:
    """Once a later one has saved: its words are kept."""
    store, _ = opened
    async with Runtime() as runtime:
        async with runtime.turn("c") as first:
            zombie = store.of_turn(first)
        async with runtime.turn("c") as second:
            await turn_of(store.of_turn(second), "c", "two")
    late = await store.load("c")
    assert late is not None
    late.messages += said("late", "re late")
    with pytest.raises(StaleTurn) as caught:
        await zombie.save(late)
    assert "re late" in await salvaged_in(opened, tmp_path, caught.value)


@pytest.mark.parametrize(
    ("line", "number"),
    [('{"role": "user"}', 4), ('{"entry": {"id": 1}}', 4), ('{"record": {"conversation_id": "c"}}', 4)],
)
async def test_lines_that_are_none_are_named(tmp_path: Path, line: str, number: int) -> None:
    """Nothing is skipped."""
    async with store_in("files", tmp_path) as (store, _):
        await turn_of(store, "c", "one")
        with (tmp_path / "conversations" / "c.jsonl").open("a") as file:
            file.write(f"{line}\n")
        with pytest.raises(TranscriptCorrupt) as caught:
            await store.load("c")
        assert caught.value.line == number
        with pytest.raises(TranscriptCorrupt):
            await store.list_conversations()


@pytest.mark.parametrize(("gone", "number"), [(0, 1), (1, 2)])
async def test_an_entry_that_is_gone_is_named(tmp_path: Path, gone: int, number: int) -> None:
    """By the line that points at it; whole conversations beside it can be listed and read."""
    path = tmp_path / "conversations" / "c.jsonl"
    async with store_in("files", tmp_path) as (store, _):
        await turn_of(store, "c", "one")
        await turn_of(store, "other", "two")
        lines = path.read_text().splitlines(keepends=True)
        del lines[gone]
        path.write_text("".join(lines))
        with pytest.raises(TranscriptCorrupt) as caught:
            await store.load("c")
        assert caught.value.line == number
        assert len(await store.list_conversations()) == 2
        assert await store.load("other") is not None


async def test_a_record_that_points_nowhere_is_refused(store: TranscriptConversationStore) -> None:
    """As one whose history was deleted while somebody has made a fork of it."""
    for source in (None, "gone"):
        record = ConversationRecord(conversation_id="c", head_id="nowhere", forked_from=source)
        with pytest.raises(ConversationConflict):
            await store.write_record(record, expected_revision=None)
    assert await store.load("c") is None


async def test_what_is_in_the_salvage_is_not_put_there_again(tmp_path: Path) -> None:
    """Where the transcript itself has kept what it refused."""
    async with store_in("files", tmp_path) as (_, transcripts):
        error = StaleTurn("a path", token=1, highest=2, salvaged="there")
        assert await kept(transcripts, "c", ["words"], Author(), error) is error
    assert error.__notes__ == ["what was to be saved is in there"]
    assert await asyncio.to_thread(lambda: list(tmp_path.rglob("*.salvage.jsonl"))) == []


async def test_a_message_that_is_none_is_named(tmp_path: Path) -> None:
    """With its line."""
    async with store_in("files", tmp_path) as (store, _):
        await turn_of(store, "c", "one")
        tamper("files", tmp_path, "c", old='"part_kind":"text"', new='"part_kind":"nothing"')
        with pytest.raises(TranscriptCorrupt) as caught:
            await store.load("c")
        assert caught.value.line == 2


async def test_transcripts_of_something_else_are_no_conversations(tmp_path: Path) -> None:
    """They are refused, not written to."""
    async with store_in("files", tmp_path) as (store, transcripts):
        await transcripts.append("c", {"entry": {"id": "1", "parent_id": None, "kind": "message", "message": {}}})
        with pytest.raises(TranscriptCorrupt, match="no record"):
            await store.load("c")


async def test_what_is_no_id_is_refused(store: TranscriptConversationStore) -> None:
    """Before anything is looked at, or begun."""
    for wrong in ("", "x" * 513, "a\0b"):
        with pytest.raises(ValueError, match="session id"):
            await store.load(wrong)
        with pytest.raises(ValueError, match="session id"):
            await store.delete_record(wrong, expected_revision="x")


async def test_reading_begins_nothing(opened: Opened) -> None:
    """A client may name what it likes."""
    store, transcripts = opened
    assert await store.load("whatever") is None
    assert await transcripts.list() == ()


async def test_a_save_is_done_to_its_end(store: TranscriptConversationStore) -> None:
    """Who is cancelled meanwhile hears of it when the words are stored."""
    loaded = await turn_of(store, "c", "one")
    loaded.messages += said("two", "re two")
    saving = asyncio.ensure_future(store.save(loaded))
    await asyncio.sleep(0)  # it has begun
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    found = await store.load("c")
    assert found is not None
    assert texts(found.messages) == ["one", "re one", "two", "re two"]


async def test_ids_and_records_are_plain_data(store: TranscriptConversationStore) -> None:
    """They can be copied, pickled and written as JSON, and are found again when all that is left of one is its text."""
    await turn_of(store, "a", "one")
    await turn_of(store, "b", "two")
    record = await store.read_record("b")
    assert record is not None
    for copied in (deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert copied == record
        assert texts([entry.message for entry in await store.read_history(copied.head_id)]) == ["two", "re two"]
    head = json.loads(json.dumps(record.head_id))
    assert texts([(await store.read_entry(head)).message]) == ["re two"]
    assert texts([entry.message for entry in await store.read_history(head, limit=1)]) == ["re two"]


async def test_results_are_saved_as_conversations_are(store: TranscriptConversationStore) -> None:
    """And know their revision afterwards."""
    result = AgentRunResult("x")
    await store.save(result)
    record = await store.read_record(result.conversation_id)
    assert record is not None
    assert result.conversation.revision == record.revision
