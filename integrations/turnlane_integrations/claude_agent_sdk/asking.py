"""What a program is started with for a session, and how it is ended."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, Message, Transport

from turnlane import Turn
from turnlane.errors import NotConfigured, SessionKeyInvalid, SessionKeyRequired
from turnlane.settled import settled
from turnlane_integrations.claude_agent_sdk.place import session_file
from turnlane_integrations.claude_agent_sdk.program import Program

__all__ = ("connected", "ended", "heed", "program_of", "proven_file", "resuming", "session_of")

logger: logging.Logger = logging.getLogger("turnlane.integrations")

ENTRYPOINT = "CLAUDE_CODE_ENTRYPOINT"


def session_of(options: ClaudeAgentOptions | None, **_: object) -> str:
    """Return the id of the session, as its file is named.

    Raises:
        SessionKeyRequired: the options name none, or what a program continues by itself.
        SessionKeyInvalid: they name it by something else than a UUID, as by its title.
    """
    named = None if options is None else options.resume or options.session_id
    if not named:
        raise SessionKeyRequired("ClaudeAgentOptions(session_id=...) or resume=")
    try:
        session = str(UUID(named))
    except ValueError:
        raise SessionKeyInvalid("ClaudeAgentOptions", reason=f"{named!r} is no UUID") from None
    if session != named:
        raise SessionKeyInvalid("ClaudeAgentOptions", reason=f"{named!r} is to be written {session!r}")
    return session


def _file_of(options: ClaudeAgentOptions, session: str) -> Path | None:
    """Return where a session is, or will be; None where that can not be told."""
    return session_file(session, cwd=options.cwd, env={**os.environ, **options.env})


def resuming(options: ClaudeAgentOptions, session: str, transport: Transport | None) -> ClaudeAgentOptions:
    """Return options that resume a session where they would begin it, if it is in its file by now.

    A program refuses to begin a session that is there. Whether it is, can be told only by whose turn it is.
    """
    if options.session_id is None or options.fork_session or options.session_store is not None or transport is not None:
        return options
    file = _file_of(options, session)
    if file is None or not _holds_something(file):
        return options
    return replace(options, session_id=None, resume=session)


def proven_file(options: ClaudeAgentOptions, session: str, transport: Transport | None) -> Path:
    """Return the file that is to be proven.

    Raises:
        NotConfigured: the session is in none of this machine, or its place can not be told.
    """
    if options.session_store is not None or transport is not None:
        raise NotConfigured("state_dir= is for sessions in files of this machine: no session_store, no transport")
    file = _file_of(options, session)
    if file is None:
        raise NotConfigured(f"state_dir= needs a shorter path than {options.cwd or os.curdir}, to tell the session's")
    return file


def program_of(options: ClaudeAgentOptions) -> Program:
    """Return what is known of a program that is started with these options."""
    return Program(entrypoint=options.env.get(ENTRYPOINT, "sdk-py"), at=options.resume_session_at)


def _holds_something(file: Path) -> bool:
    """Tell whether there is a session in a file; an empty one is none."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


async def ended(messages: AsyncIterator[Message]) -> None:
    """End what `query` has begun, and return when its program has ended.

    Closed at a message, `query` drops the generator inside it, and the program is ended some time later, by a
    finalizer. Cancelled while it waits for the next message, it ends the program itself. One that has ended yields
    nothing more.
    """
    begun = asyncio.Event()

    async def read() -> None:
        begun.set()
        async for _ in messages:
            pass

    reading = asyncio.ensure_future(read())
    await begun.wait()  # from then on it is inside of `query`
    reading.cancel()
    await asyncio.wait({reading})
    if not reading.cancelled():
        reading.exception()  # of a program that is not wanted any more


@asynccontextmanager
async def connected(client: ClaudeSDKClient) -> AsyncGenerator[ClaudeSDKClient, None]:
    """Connect a client for the block; its program has ended when it is left, however often that is cancelled."""
    try:
        await client.connect()
        yield client
    finally:
        await settled(client.disconnect())


async def heed(turn: Turn, client: ClaudeSDKClient) -> None:
    """Interrupt a client when its turn is asked to stop. One that can not be is cancelled after the grace."""
    await turn.wait_interrupted()
    try:
        await client.interrupt()
    except Exception as error:  # noqa: BLE001  the SDK raises that itself
        logger.warning("not_interrupted turn=%s error=%r", turn.id, error)
