"""All benchmarks: `cd tests && python -m benchmarks`; see README.md beside this file."""

import sys

from benchmarks import (
    engines,
    handoff,
    integrations,
    keepalive,
    memory,
    middleware,
    monitor,
    principals,
    server,
    transcripts,
)
from benchmarks.report import Programme, main

PROGRAMMES: dict[str, Programme] = {
    "middleware": middleware.benchmark,
    "handoff": handoff.benchmark,
    "engines": engines.benchmark,
    "memory": memory.benchmark,
    "server": server.benchmark,
    "principals": principals.benchmark,
    "keepalive": keepalive.benchmark,
    "transcripts": transcripts.benchmark,
    "monitor": monitor.benchmark,
    "integrations": integrations.benchmark,
}

if __name__ == "__main__":
    sys.exit(main(PROGRAMMES))
