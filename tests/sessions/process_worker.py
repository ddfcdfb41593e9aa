"""One process of the tests with several: does what each line on its input says, and answers with a line of JSON.

Arguments: the URL of the store, and optionally the beginning of an SQL statement. When SQLite is about to run that
statement, the process says "inside" and stands still until it is killed; "told" stands for the moment after the commit.
"""

import asyncio
import json
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

from turnlane.errors import SessionConflict
from turnlane.hooks import Hooks, SessionMinted
from turnlane.sessions import Freshness, Sessions


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def stand_still() -> None:
    say("inside")
    threading.Event().wait()


def stop_before(beginning: str) -> None:
    """Make every new connection stand still when a statement with that beginning is about to run."""
    connect = sqlite3.connect

    def traced(path: str, **options: object) -> sqlite3.Connection:
        connection = cast("sqlite3.Connection", cast("Any", connect)(path, **options))
        connection.set_trace_callback(lambda statement: stand_still() if starts(statement) else None)
        return connection

    def starts(statement: str) -> bool:
        return " ".join(statement.split()).startswith(beginning)

    sqlite3.connect = traced  # type: ignore[assignment]


async def resolve(sessions: Sessions, key: str) -> object:
    """Resolve 25 times at once."""
    found = await asyncio.gather(*(sessions.resolve(key) for _ in range(25)))
    return [(session.id, session.is_new) for session in found]


async def increment(sessions: Sessions, key: str) -> object:
    """Count to 25 with `expected_version`, trying again on conflict."""
    done = 0
    while done < 25:
        session = await sessions.resolve(key)
        count = session.fields.get("n", 0)
        assert isinstance(count, int)
        try:
            await sessions.patch(key, {"n": count + 1}, expected_version=session.version)
        except SessionConflict:
            continue
        done += 1
    return done


async def edit(sessions: Sessions, key: str) -> object:
    """Count to 25 in drafts that read the field, trying again on conflict."""
    done = 0
    while done < 25:
        try:
            async with sessions.edit(key) as draft:
                count = draft.get("n", 0)
                assert isinstance(count, int)
                draft["n"] = count + 1
        except SessionConflict:
            continue
        done += 1
    return done


async def fields(sessions: Sessions, key: str) -> object:
    """Set 25 fields of its own and fill one in common, one after the other."""
    for n in range(25):
        await sessions.patch(key, {f"{id(sessions)}-{n}": n})
        async with sessions.edit(key) as draft:
            draft.setdefault("common", id(sessions))
    return [f"{id(sessions)}-{n}" for n in range(25)]


async def forever(sessions: Sessions, key: str) -> object:
    """Patch until killed, and say each version that was acknowledged."""
    while True:
        say((await sessions.patch(key, {"padding": "x" * 2000, "touched": None})).version)
        say((await sessions.patch(key, {"padding": "y" * 2000, "touched": True})).version)


WORK: dict[str, Callable[[Sessions, str], Awaitable[object]]] = {
    function.__name__: function for function in (resolve, increment, edit, fields, forever)
}


def main() -> None:
    url, *stops = sys.argv[1:]
    hooks = Hooks()
    if stops == ["told"]:
        hooks.on(SessionMinted, lambda _: stand_still())
    elif stops:
        stop_before(stops[0])
    sessions = Sessions(url, freshness=Freshness(idle=3600), hooks=hooks)
    say("ready")
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            what, key = line.split()
            say(runner.run(WORK[what](sessions, key)))  # type: ignore[arg-type]
        runner.run(sessions.aclose())


if __name__ == "__main__":
    main()
