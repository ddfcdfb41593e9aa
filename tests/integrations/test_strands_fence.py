"""strands: what others write into a session in the middle of a turn is found, and nothing is lost."""

import asyncio
import pickle
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from strands import Agent
from strands.hooks import AfterInvocationEvent
from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from support.rigs.contract import Line, reply_to
from support.rigs.judging import damage
from support.rigs.strands import Scripted, lines_of
from support.strands_bench import AGENT, Bench, invoke
from turnlane import Runtime
from turnlane.errors import TranscriptTakeover, TurnTimeout
from turnlane_integrations.strands import FencedRepository, LaneAgents, SessionChanged


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench, None]:
    made = Bench(tmp_path)
    async with made.salvage:
        yield made


def said(text: str, *, role: Any = "user") -> Any:
    return {"role": role, "content": [{"text": text}]}


HOW = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])


@HOW
async def test_a_foreign_answer_in_the_middle_of_a_turn_is_not_written_over(bench: Bench, streaming: bool) -> None:
    """The turn ends with a takeover, what the stranger wrote is whole, and the answer that had no place is kept."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.fenced)
        await invoke(agents, "c", "one", streaming=streaming)
        running = asyncio.create_task(invoke(agents, "c", "hold two", streaming=streaming))
        await bench.model.entered["hold two"].wait()
        await bench.plain("c").invoke_async("a stranger")
        bench.model.go["hold two"].set()
        with pytest.raises(TranscriptTakeover, match=r"'c' was appended.*found at append.*in .*salvage") as caught:
            await running
        assert caught.value.turn is not None
        assert isinstance(caught.value.__cause__, Exception)
        await invoke(agents, "c", "three", streaming=streaming)
    stored = bench.history("c")
    assert [line.text for line in stored if line.role == "user"] == ["one", "hold two", "a stranger", "three"]
    assert stored[4] == Line("assistant", reply_to("a stranger", 2))
    (kept,) = await bench.kept("c")
    assert kept["agent_id"] == AGENT
    assert lines_of([kept["message"]["message"]]) == [Line("assistant", reply_to("hold two", 1))]


async def change_last(bench: Bench) -> None:
    """Somebody edits the last message that is stored."""
    store = bench.store("c")
    last = store.list_messages("c", AGENT)[-1]
    last.message["content"] = [{"text": "never said"}]
    store.update_message("c", AGENT, last)


async def take_last_away(bench: Bench) -> None:
    """Somebody deletes the last message that is stored."""
    last = bench.store("c").list_messages("c", AGENT)[-1].message_id
    (Path(bench.directory) / "session_c" / "agents" / f"agent_{AGENT}" / "messages" / f"message_{last}.json").unlink()


@pytest.mark.parametrize(
    ("meddle", "kind"), [(change_last, "edited"), (take_last_away, "truncated")], ids=["edited", "truncated"]
)
async def test_the_last_message_must_still_be_there(bench: Bench, meddle: Callable[[Bench], Any], kind: str) -> None:
    """One that was changed, or is gone: found before the answer is stored, and nothing is written any more."""
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, bench.fenced)
        running = asyncio.create_task(agents.invoke_async("c", "hold one"))
        await bench.model.entered["hold one"].wait()
        await meddle(bench)
        before = bench.store("c").read_agent("c", AGENT)
        bench.model.go["hold one"].set()
        with pytest.raises(TranscriptTakeover) as caught:
            await running
        assert runtime.lanes.statistics().lanes == 0
    assert caught.value.kind == kind
    assert [lines_of([each["message"]["message"]]) for each in await bench.kept("c")] == [
        [Line("assistant", reply_to("hold one", 0))]
    ]
    assert bench.store("c").read_agent("c", AGENT) == before


async def test_a_state_that_others_have_written_is_not_written_over(bench: Bench) -> None:
    """What this agent would have stored of its state is kept; its answer had its place, and is stored."""
    made: list[Agent] = []

    def make_agent(session_id: str) -> Agent:
        made.append(bench.fenced(session_id))
        return made[-1]

    async with Runtime() as runtime:
        agents = LaneAgents(runtime, make_agent)
        running = asyncio.create_task(agents.invoke_async("c", "hold one"))
        await bench.model.entered["hold one"].wait()
        store = bench.store("c")
        theirs = store.read_agent("c", AGENT)
        assert theirs is not None
        theirs.state = {"cart": "theirs"}
        store.update_agent("c", theirs)
        made[0].state.set("cart", "mine")
        bench.model.go["hold one"].set()
        with pytest.raises(TranscriptTakeover, match="its state was proven"):
            await running
    (kept,) = await bench.kept("c")
    assert kept["agent"]["state"] == {"cart": "mine"}
    assert store.read_agent("c", AGENT) == theirs
    assert bench.history("c")[-1] == Line("assistant", reply_to("hold one", 0))


async def test_a_message_of_a_person_that_has_no_place_is_kept_and_the_model_is_not_asked(bench: Bench) -> None:
    """A stranger wrote between the making of the agent and its first message."""

    async def make_agent(session_id: str) -> Agent:
        agent = bench.fenced(session_id)
        await bench.plain(session_id).invoke_async("a stranger")
        return agent

    async with Runtime() as runtime:
        with pytest.raises(TranscriptTakeover):
            await LaneAgents(runtime, make_agent).invoke_async("c", "one")
    assert bench.model.calls == [["a stranger"]]
    assert [lines_of([each["message"]["message"]]) for each in await bench.kept("c")] == [[Line("user", "one")]]


async def test_what_an_agent_writes_itself_is_its_own(bench: Bench) -> None:
    """Bytes, a state, a redaction, turns one after the other: none is taken for a foreign write."""
    fenced: list[FencedRepository] = []

    def make_agent(session_id: str) -> Agent:
        fenced.append(FencedRepository(bench.store(session_id), salvage=bench.salvage))
        agent = Agent(
            model=Scripted(bench.model),
            agent_id=AGENT,
            session_manager=RepositorySessionManager(session_id, fenced[-1]),
            callback_handler=None,
        )
        agent.state.set("turns", (agent.state.get("turns") or 0) + 1)
        return agent

    picture: Any = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\xff"}}}
    async with Runtime() as runtime:
        agents = LaneAgents(runtime, make_agent)
        sent = [f"m{place}" for place in range(4)]
        found = await asyncio.gather(*(agents.invoke_async("c", [{"text": text}, picture]) for text in sent))
        answers = {text: str(answer).strip() for text, answer in zip(sent, found, strict=True)}
        assert damage(sent, answers, bench.history("c")) == []
        last = bench.store("c").list_messages("c", AGENT)[-1]
        repository = FencedRepository(bench.store("c"), salvage=bench.salvage)
        assert repository.list_messages("c", AGENT)[-1] == last
        last.redact_message = said("[redacted]", role="assistant")
        repository.update_message("c", AGENT, last)
        repository.create_message("c", AGENT, SessionMessage(message=said("next"), message_id=last.message_id + 1))
    assert bench.history("c")[-2:] == [Line("assistant", "[redacted]"), Line("user", "next")]
    agent = bench.store("c").read_agent("c", AGENT)
    assert agent is not None
    assert agent.state == {"turns": 4}
    assert await bench.kept("c") == []


class InMemory(FileSessionManager):
    """Hands out the very messages it was given."""

    def __init__(self, session_id: str, directory: str) -> None:
        super().__init__(session_id, storage_dir=directory)
        self.given: dict[int, SessionMessage] = {}

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        self.given[session_message.message_id] = session_message

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        return self.given.get(message_id)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        self.given[session_message.message_id] = session_message


async def test_a_message_that_its_agent_changes_in_place_is_its_own(bench: Bench, tmp_path: Path) -> None:
    """As strands does to redact what it has stored, and hooks do; a repository in memory has that very message."""
    inner = InMemory("c", str(tmp_path / "memory"))
    repository = FencedRepository(inner, salvage=bench.salvage)
    first = SessionMessage(message=said("secret"), message_id=0)
    repository.create_message("c", AGENT, first)
    first.redact_message = said("[redacted]")
    repository.update_message("c", AGENT, first)
    following = SessionMessage(message=said("next"), message_id=1)
    repository.create_message("c", AGENT, following)
    following.message["content"].append({"text": "what a hook adds"})
    repository.create_message("c", AGENT, SessionMessage(message=said("third"), message_id=2))
    inner.given[2] = SessionMessage(message=said("a stranger's"), message_id=2)
    with pytest.raises(SessionChanged, match="edited"):
        repository.create_message("c", AGENT, SessionMessage(message=said("fourth"), message_id=3))
    with pytest.raises(SessionChanged, match="make one for each agent"):
        repository.create_message("c", AGENT, SessionMessage(message=said("fourth"), message_id=3))


@pytest.mark.parametrize("how", ["cancelled", "late"])
@HOW
async def test_words_are_kept_whatever_ends_an_invocation_that_was_refused(
    bench: Bench, streaming: bool, how: str
) -> None:
    """A hook that takes its time lets a cancellation, or a deadline, come before the refusal."""
    refused, never = asyncio.Event(), asyncio.Event()

    async def dawdle(event: AfterInvocationEvent) -> None:
        refused.set()
        await never.wait()

    def make_agent(session_id: str) -> Agent:
        agent = bench.fenced(session_id)
        cast("Any", agent).add_hook(dawdle, AfterInvocationEvent)
        return agent

    async with Runtime() as runtime:
        agents = LaneAgents(runtime, make_agent, turn_timeout=1.0 if how == "late" else None)
        asking = asyncio.create_task(invoke(agents, "c", "hold", streaming=streaming))
        await bench.model.entered["hold"].wait()
        await bench.plain("c").invoke_async("a stranger")
        bench.model.go["hold"].set()
        await refused.wait()
        if how == "cancelled":
            asking.cancel()
        with pytest.raises((asyncio.CancelledError, TurnTimeout)):
            await asking
        assert runtime.lanes.statistics().lanes == 0
    (kept,) = await bench.kept("c")
    assert lines_of([kept["message"]["message"]]) == [Line("assistant", reply_to("hold", 0))]


async def test_outside_of_lanes_the_error_is_one_of_strands_and_has_the_words(bench: Bench) -> None:
    """It pickles; `settle` keeps the words, and returns the error of turnlane."""
    agent = bench.fenced("c")
    await bench.plain("c").invoke_async("a stranger")
    with pytest.raises(SessionException, match="session 'c' was appended by somebody else") as caught:
        await agent.invoke_async("one")
    error = caught.value
    assert isinstance(error, SessionChanged)
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, SessionChanged)
    assert (str(copy), copy.words, copy.kind) == (str(error), error.words, "appended")
    with pytest.raises(RuntimeError, match="they are in `words`"):
        await copy.settle()
    settled = await error.settle()
    assert isinstance(settled, TranscriptTakeover)
    assert [each["message"] for each in await bench.kept("c")] == [each["message"] for each in error.words]
    with pytest.raises(SessionException):
        await agent.invoke_async("two")  # a refusal is for good: this agent has not seen what is there


class Behind(FileSessionManager):
    """A repository in which somebody else is a moment earlier."""

    def __init__(self, directory: str) -> None:
        self.earlier: list[Callable[[], object]] = []
        super().__init__("other", storage_dir=directory)

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        for each in self.earlier:
            each()
        return super().create_session(session, **kwargs)


async def test_two_that_create_a_session_at_once_both_have_it(bench: Bench) -> None:
    """An agent without a message is as good as one's own; with one, this agent would not know it."""
    store = Behind(bench.directory)

    def first_of_all() -> object:
        return bench.plain("c")

    store.earlier = [first_of_all]
    repository = FencedRepository(store, salvage=bench.salvage)
    agent = Agent(
        model=Scripted(bench.model),
        agent_id=AGENT,
        session_manager=RepositorySessionManager("c", repository),
        callback_handler=None,
    )
    await agent.invoke_async("one")
    assert bench.history("c") == [Line("user", "one"), Line("assistant", reply_to("one", 0))]

    def quicker() -> object:
        store.earlier = []
        other = bench.store("d")
        other.create_agent("d", SessionAgent(agent_id=AGENT, state={}, conversation_manager_state={}))
        other.create_message("d", AGENT, SessionMessage(message=said("a stranger"), message_id=0))
        return other

    store.earlier = [quicker]
    with pytest.raises(SessionChanged, match="found at open"):
        Agent(model=Scripted(bench.model), agent_id=AGENT, session_manager=RepositorySessionManager("d", repository))
    assert bench.history("d") == [Line("user", "a stranger")]


async def test_a_session_that_can_not_be_created_is_an_error_of_strands(bench: Bench) -> None:
    """It is there only in part, so that it can not be read."""
    (Path(bench.directory) / "session_c").mkdir(parents=True)
    store = FencedRepository(Behind(bench.directory), salvage=bench.salvage)
    with pytest.raises(SessionException, match="already exists"):
        store.create_session(Session(session_id="c", session_type=SessionType.AGENT))
