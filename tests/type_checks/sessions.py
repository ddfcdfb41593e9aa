"""Read by the type checkers, never run: the sessions as their users see them."""

from typing import assert_type

from turnlane.sessions import DELETE, Freshness, MemorySessionStore, Session, Sessions, SqliteSessionStore


async def resolve_and_change(sessions: Sessions) -> None:
    session = await sessions.resolve("agent:main:alice")
    assert_type(session, Session)
    assert_type(session.id, str)
    assert_type(session.key, str)
    assert_type(session.is_new, bool)
    assert_type(session.version, int)

    assert_type(await sessions.patch("agent:main:alice", {"last_channel": "slack", "label": DELETE}), Session)
    async with sessions.edit("agent:main:alice", expected_version=session.version) as draft:
        draft["last_channel"] = "slack"
        draft.setdefault("channel", "slack")
        del draft["label"]
        assert_type(draft["last_channel"], object)

    assert_type(await sessions.get("agent:main:alice"), Session | None)
    assert_type(await sessions.find(session.id), Session | None)
    assert_type(await sessions.renew("agent:main:alice"), Session)
    assert_type(await sessions.list("agent:", limit=10), tuple[Session, ...])
    assert_type(await sessions.delete("agent:main:alice"), bool)


async def open_and_close() -> None:
    async with Sessions("sqlite:///sessions.db") as sessions:
        assert_type(sessions, Sessions)
    Sessions(MemorySessionStore())
    stores = (MemorySessionStore, SqliteSessionStore)
    assert_type(stores, tuple[type[MemorySessionStore], type[SqliteSessionStore]])


def frozen(session: Session) -> None:
    session.id = "another"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    session.fields["channel"] = "slack"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    Freshness("an hour")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
