"""One process of a history: asks a session store as a client of its own, and prints what it was told.

Arguments: the URL of the store, the name of the client, its seed, and how often it asks. It says "ready", waits for a
line on its input so that all begin at once, and prints its history, pickled, in base 64.
"""

import asyncio
import base64
import pickle
import random
import sys

from support.session_histories import Recorder, asked_by
from turnlane.sessions import RedisSessionStore, SessionStore, SqliteSessionStore
from turnlane.sqlite import path_in


def store_at(url: str) -> SessionStore:
    return SqliteSessionStore(path_in(url)) if url.startswith("sqlite") else RedisSessionStore(url)


async def main(url: str, name: str, seed: str, count: str) -> None:
    recorder = Recorder()
    async with store_at(url) as store:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asked_by(name, store, recorder, random.Random(seed), int(count))
    assert (recorder.unknown, recorder.refused) == (0, 0)
    print(base64.b64encode(pickle.dumps(recorder.history)).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
