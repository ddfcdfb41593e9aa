"""A process that appends to transcripts until it is killed: `postgresql_worker.py URL NAME COUNT`.

It prints a line for each pair of entries: `stored` if it was acknowledged, `refused` if it was not and is salvaged,
`noted` if the salvage was refused too, so that the words are in the notes of the error, and `unopened` if it had not
been handed over yet.
"""

import asyncio
import sys

from turnlane.errors import TranscriptError
from turnlane.transcripts import Transcripts


async def main(url: str, name: str, count: str) -> None:
    async with Transcripts(url, lock_timeout=60) as transcripts:
        for number in range(int(count)):
            texts = [f"{name}-{number}-{part}" for part in ("left", "right")]
            given = number % 3 != 0
            try:
                if given:
                    await transcripts.append("a", *({"content": text} for text in texts))
                else:
                    async with transcripts.open("a", turn=texts[0]) as transcript, transcript.released() as prompt:
                        prompt.stage(*({"content": text} for text in texts))
                        given = True
                said = "stored"
            except TranscriptError as error:
                said = "unopened" if not given else "noted" if getattr(error, "__notes__", ()) else "refused"
            sys.stdout.write(f"{said} {name}-{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
