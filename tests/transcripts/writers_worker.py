"""A process of writers: `writers_worker.py PLACE NAME WRITERS WRITES COMPACTS SEED`.

Each writer stores `WRITES` entries in one of a few transcripts, by appends, by turns with a prompt release, and, with
`COMPACTS` 1, by compactions a third party makes, which append, or write the whole file anew. It prints
`stored SESSION TEXT` for each entry, and `wrong ...` for each refusal, which there must not be.
"""

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from turnlane.errors import TranscriptBusy, TranscriptError
from turnlane.transcripts import SqliteTranscriptStore, Transcript, Transcripts

SESSIONS = ("one", "two", "three")
PATIENCE = 60.0
WEIGHTS = (80, 10, 8, 2)


def entry(text: str) -> dict[str, Any]:
    return {"content": text, "filler": "x" * random.randrange(300)}


async def by_append(transcripts: Transcripts, session: str, text: str) -> None:
    await transcripts.append(session, entry(text))


async def by_turn(transcripts: Transcripts, session: str, text: str) -> None:
    async with transcripts.open(session, turn=text) as transcript, transcript.released() as prompt:
        await asyncio.sleep(random.random() / 500)
        prompt.stage(entry(text))


async def by_compaction(transcripts: Transcripts, session: str, text: str) -> None:
    async with transcripts.open(session, turn=text) as transcript:
        appended = json.dumps(entry(text)) + "\n"
        transcript.owned_write(lambda: write(transcript, appended), validate=lambda _, found: found == appended)


async def by_rewriting(transcripts: Transcripts, session: str, text: str) -> None:
    """The fillers go, and one entry comes, in a file that is written anew in place."""
    async with transcripts.open(session, turn=text) as transcript:
        path = Path(transcript.path)
        kept = [{"content": known["content"]} for known in transcript.entries]
        compacted = "".join(json.dumps(each) + "\n" for each in (*kept, entry(text)))
        transcript.owned_write(
            lambda: path.write_text(compacted, encoding="utf-8"),
            validate=lambda _, found: found == compacted,
            rewrite=True,
        )


def write(transcript: Transcript, text: str) -> None:
    with Path(transcript.path).open("a", encoding="utf-8") as file:
        file.write(text)


async def writer(transcripts: Transcripts, name: str, writes: int, compacts: bool) -> None:
    ways = [by_append, by_turn, by_compaction, by_rewriting] if compacts else [by_append, by_turn]
    for number in range(writes):
        session, text = random.choice(SESSIONS), f"{name}-{number}"
        try:
            await random.choices(ways, weights=WEIGHTS[: len(ways)])[0](transcripts, session, text)
        except TranscriptBusy:
            print(f"busy {text}", flush=True)  # nobody was refused: it may be salvaged, it is not stored
        except TranscriptError as error:
            print(f"wrong {text} {type(error).__name__}: {error}", flush=True)
        else:
            print(f"stored {session} {text}", flush=True)


def opened(place: str) -> Transcripts:
    """The transcripts of a directory, or of a database, which may be busy for as long as the lock may be held."""
    path = place.removeprefix("sqlite:///")
    store = place if path == place else SqliteTranscriptStore(path, busy_timeout=PATIENCE)
    return Transcripts(store, lock_timeout=PATIENCE)


async def main(place: str, name: str, writers: str, writes: str, compacts: str, seed: str) -> None:
    random.seed(int(seed))
    async with opened(place) as transcripts:
        work = [writer(transcripts, f"{name}.{number}", int(writes), compacts == "1") for number in range(int(writers))]
        await asyncio.gather(*work)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
