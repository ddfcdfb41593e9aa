"""What one principal that hammers adds to how long another one waits.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.principals`.

uvicorn runs in a process of its own for each variant: lanes without and with caps per principal, both with eight
running slots, and the app alone. One more process is the client. In it one principal asks now and then, each time with
a key that nobody else has, and is measured; another one hammers: one key, or many. Without and with the hammering are
loaded in turn, in a new random order each round; what is added is the difference within a round, of which the median
over the rounds is told.

`seen` is the time from the request's first byte to the answer's last as the client sees it: all the waiting there is,
in the server's loop too. `told` is what the response header `x-turnlane-waited-ms` says, in whole milliseconds: the
wait in line alone.

Who asks again at once when it is refused takes the whole processor, with lanes or without: that load is held against
the app alone under the same one, not against milliseconds.
"""

import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from benchmarks import principals_load
from benchmarks.report import Options, Report, exit_with
from benchmarks.server import BARE, HTTP_OF, Answer, Bench
from benchmarks.server_process import CAPS, NO_CAPS

CONNECTIONS = 16
ROUNDS, SECONDS, QUICK_SECONDS = 9, 1.0, 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """What the hammering principal does, on so many connections."""

    hammering: int
    path: str
    one_key: bool


VARIANTS = (NO_CAPS, CAPS, BARE)
QUIET, HAMMERED, FLOODED, MANY = "nobody hammers", "one key, its line full", "one key, and refused", "many keys"
LOADS = {
    QUIET: Load(0, "/turn", one_key=True),
    HAMMERED: Load(21, "/turn", one_key=True),  # one runs, and as many wait as may
    FLOODED: Load(60, "/turn", one_key=True),
    MANY: Load(50, "/long", one_key=False),
}
Found = dict[tuple[str, str], list[Answer]]


def measured(options: Options, loop: str) -> Found:
    """Load all servers in every way, round after round."""
    rounds, seconds = (1, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    found: Found = defaultdict(list)
    with ExitStack() as stack:
        bench, randomly = Bench(stack, loop, VARIANTS, principals_load.__name__), options.random
        order = [(variant, load) for variant in VARIANTS for load in LOADS]
        for variant in VARIANTS:
            bench.load(variant, quiet=CONNECTIONS, seconds=seconds / 4, **asdict(LOADS[QUIET]))
        for _ in range(rounds):
            randomly.shuffle(order)
            for variant, load in order:
                answer, _ = bench.load(variant, quiet=CONNECTIONS, seconds=seconds, **asdict(LOADS[load]))
                found[variant, load].append(answer)
    return found


def added(found: Found, variant: str, load: str, figure: str) -> float:
    """Return the milliseconds that a load adds to a figure of the other principal."""
    pairs = zip(found[variant, load], found[variant, QUIET], strict=True)
    return 1000 * statistics.median(float(loud["quiet"][figure] - quiet["quiet"][figure]) for loud, quiet in pairs)


def ratio(found: Found, load: str, variant: str, to: str) -> float:
    """Return how the 99th percentiles of two variants compare under the same load."""
    pairs = zip(found[variant, load], found[to, load], strict=True)
    return statistics.median(float(one["quiet"]["p99"] / other["quiet"]["p99"]) for one, other in pairs)


def milliseconds(answers: list[Answer], figure: str) -> str:
    return f"{statistics.median(answer['quiet'][figure] for answer in answers) * 1000:.2f}"


def print_table(report: Report, found: Found, variant: str, server: str, seconds: float) -> None:
    """Print what was found of one variant."""
    report.heading(f"uvicorn ({server}), {variant}: {CONNECTIONS} connections of one principal, while another hammers")
    report.row("ms", "seen p50", "seen p99", "told p99", "added seen", "added told", "hammered/s")
    for load in LOADS:
        answers = found[variant, load]
        cells = [milliseconds(answers, figure) for figure in ("p50", "p99", "told")]
        cells += [f"{added(found, variant, load, figure):.2f}" for figure in ("p99", "told")]
        rate = statistics.median(answer["hammering"]["requests"] for answer in answers) / seconds
        report.row(load, *cells, f"{rate:.0f}")


def benchmark(report: Report, options: Options) -> None:
    """Measure each load with both event loops."""
    for loop in sorted(options.loops, reverse=True):
        found, server = measured(options, loop), f"{HTTP_OF[loop]}, {loop}"
        for variant in VARIANTS:
            print_table(report, found, variant, server, QUICK_SECONDS if options.quick else SECONDS)
        for variant, load in ((NO_CAPS, HAMMERED), (CAPS, HAMMERED), (CAPS, MANY)):
            report.limit(f"ms added to p99: {load}, {variant}, {server}", added(found, variant, load, "p99"), 5)
        report.limit(f"p99: {MANY}, {CAPS} / {NO_CAPS}, {server}", ratio(found, MANY, CAPS, NO_CAPS), 0.2)
        for variant in (NO_CAPS, CAPS):
            report.limit(f"p99: {FLOODED}, {variant} / {BARE}, {server}", ratio(found, FLOODED, variant, BARE), 2)


if __name__ == "__main__":
    exit_with(benchmark)
