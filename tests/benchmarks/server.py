"""What `LaneMiddleware` costs a real server, and what a hammered key costs the others.

All benchmarks with their limits: `cd tests && python -m benchmarks`; this one: `python -m benchmarks.server`.

uvicorn runs in a process of its own, one for each variant, all at once; one more process is the client, with 64
keep-alive connections that each send the next request when the last was answered. The variants are loaded in turn,
round after round; figures are medians over the rounds. It takes about four minutes.
"""

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from benchmarks import load_process, server_process
from benchmarks.report import Options, Report, exit_with

BARE, LOCK = "bare", "defaultdict(asyncio.Lock)"
LANE, LANE_PLAIN = "LaneMiddleware", "LaneMiddleware headers=False"
COMPARED = (BARE, "no-op pure ASGI", LOCK, LANE_PLAIN, LANE)
CONNECTIONS, HOT = 64, 16
TURNS_EACH, SLICE = 27, 0.4  # for processor time: many short slices, so that what disturbs disturbs all alike
ROUNDS, SECONDS = 9, 2.0  # for latencies
HTTP_OF = {"uvloop": "httptools", "asyncio": "h11"}

Answer = dict[str, Any]


class Child:
    """A process that answers each line on its input with a line, and ends with its input."""

    def __init__(self, *command: str) -> None:
        tests = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join([tests, *(part for part in sys.path if part)])
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        line = cast("IO[str]", self.process.stdout).readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait(10)}")
        return line

    def ask(self, line: str) -> str:
        stdin = cast("IO[str]", self.process.stdin)
        stdin.write(line + "\n")
        stdin.flush()
        return self.read()

    def end(self) -> None:
        cast("IO[str]", self.process.stdin).close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        cast("IO[str]", self.process.stdout).close()


@contextmanager
def child(*command: str) -> Generator[Child, None, None]:
    started = Child(*command)
    try:
        yield started
    finally:
        started.end()


class Bench:
    """Servers, by name, and the client that loads them."""

    def __init__(
        self, stack: ExitStack, loop: str, variants: tuple[str, ...], client: str = load_process.__name__
    ) -> None:
        self.client = stack.enter_context(child(client))
        self.servers = {
            name: stack.enter_context(child(server_process.__name__, name, loop, HTTP_OF[loop])) for name in variants
        }
        self.ports = {name: int(server.read()) for name, server in self.servers.items()}

    def load(self, name: str, **asked: Any) -> tuple[Answer, float]:
        """Load one server; return what the client saw and the seconds of processor time the server took."""
        server, port = self.servers[name], self.ports[name]
        before = float(server.ask("time"))
        answer: Answer = json.loads(self.client.ask(json.dumps({"port": port, **asked})))
        wrong = sum(group["wrong"] for group in answer.values())
        if wrong:
            raise RuntimeError(f"{name}: {wrong:.0f} requests were not answered as they should be")
        return answer, float(server.ask("time")) - before


def processor_time(report: Report, options: Options, loop: str) -> None:
    """Print what a request costs each variant."""
    took: dict[str, list[float]] = defaultdict(list)
    rate: dict[str, list[float]] = defaultdict(list)
    rounds, seconds = (1, 0.1) if options.quick else (TURNS_EACH, SLICE)
    variants = (BARE, LANE) if options.quick else COMPARED
    with ExitStack() as stack:
        bench, order, randomly = Bench(stack, loop, variants), list(variants), options.random
        for name in order:
            bench.load(name, cold=CONNECTIONS, hot=0, seconds=seconds / 2)
        for _ in range(rounds):
            randomly.shuffle(order)
            for name in order:
                answer, used = bench.load(name, cold=CONNECTIONS, hot=0, seconds=seconds)
                took[name].append(used / answer["cold"]["requests"])
                rate[name].append(answer["cold"]["requests"] / seconds)
    report.heading(
        f"uvicorn ({HTTP_OF[loop]}, {loop}), {CONNECTIONS} connections, other keys each: {rounds} x {seconds} s"
    )
    report.row("", "CPU us/req", "x bare", "requests/s")
    ratios = {
        name: statistics.median(one / base for one, base in zip(took[name], took[BARE], strict=True))
        for name in variants
    }
    for name in variants:
        microseconds = statistics.median(took[name]) * 1e6
        report.row(name, f"{microseconds:.1f}", f"{ratios[name]:.3f}", f"{statistics.median(rate[name]):.0f}")
    report.limit(f"server CPU per request, {LANE} / bare, {HTTP_OF[loop]}, {loop}", ratios[LANE], 1.15)


def hammered_key(report: Report, options: Options, loop: str) -> None:
    """Print how long requests of other keys take while one key is hammered, and while it is not."""
    rounds, seconds = (1, 0.1) if options.quick else (ROUNDS, SECONDS)
    variants = (LANE,) if options.quick else (LOCK, LANE)
    found: dict[tuple[str, int], list[Answer]] = defaultdict(list)
    with ExitStack() as stack:
        bench, randomly = Bench(stack, loop, variants), options.random
        order = [(name, hot) for name in variants for hot in (0, HOT)]
        for name, hot in order:
            bench.load(name, cold=CONNECTIONS - HOT, hot=hot, seconds=seconds / 4)
        for _ in range(rounds):
            randomly.shuffle(order)
            for name, hot in order:
                found[name, hot].append(bench.load(name, cold=CONNECTIONS - HOT, hot=hot, seconds=seconds)[0])
    report.heading(
        f"uvicorn ({HTTP_OF[loop]}, {loop}), {CONNECTIONS - HOT} connections with other keys, without and with {HOT}"
        f" on one key whose turns take {server_process.TURN_SECONDS * 1000:.0f} ms: {rounds} x {seconds} s"
    )
    report.row("", "p50 ms", "p99 ms", "p50 hammered", "p99 hammered", "p99 ratio")
    for name in variants:
        quiet, loud = ([answer["cold"] for answer in found[name, hot]] for hot in (0, HOT))
        ratio = statistics.median(b["p99"] / a["p99"] for a, b in zip(quiet, loud, strict=True))
        cells = [statistics.median(one[part] for one in group) for group in (quiet, loud) for part in ("p50", "p99")]
        report.row(name, *(f"{cell * 1000:.2f}" for cell in cells), f"{ratio:.2f}")
        if name == LANE:
            report.limit(f"p99 of other keys, one key hammered / not, {HTTP_OF[loop]}, {loop}", ratio, 1.3)


def benchmark(report: Report, options: Options) -> None:
    """Measure processor time and latencies with both event loops."""
    for loop in sorted(options.loops, reverse=True):
        processor_time(report, options, loop)
        hammered_key(report, options, loop)


if __name__ == "__main__":
    exit_with(benchmark)
