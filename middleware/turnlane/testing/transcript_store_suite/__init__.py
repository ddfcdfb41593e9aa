"""What every transcript store must keep, as async functions that raise `SuiteFailure`.

Say in a subclass of `TranscriptPlace` where the stores of a test live and how somebody who is none of us changes a
transcript there, and run each check on a place of its own, in whatever test framework:

    suite = TranscriptStoreSuite(lambda: MyPlace(new_directory()))
    for check in suite.checks:
        await suite.run(check)

It finds broken promises of one process, whose stores on one place know nothing of each other, as those of several
processes do. What processes that are killed leave behind depends on the store and is for its own tests.
"""

from collections.abc import Callable

from turnlane.testing.transcript_store_suite import _content, _endings, _fences, _locks, _takeovers
from turnlane.testing.transcript_store_suite._bench import Bench, Check, SuiteFailure, TranscriptPlace

__all__ = ("Bench", "Check", "SuiteFailure", "TranscriptPlace", "TranscriptStoreSuite")


class TranscriptStoreSuite:
    """Every promise of the contract, over one kind of store.

    Args:
        make_place: makes an empty place, another one with each call.
    """

    checks: tuple[Check, ...] = (
        *_content.CHECKS,
        *_fences.CHECKS,
        *_takeovers.CHECKS,
        *_endings.CHECKS,
        *_locks.CHECKS,
    )
    """Every promise, in the order of the contract."""

    def __init__(self, make_place: Callable[[], TranscriptPlace]) -> None:
        self._make_place = make_place

    async def run(self, check: Check) -> None:
        """Run one check on a place of its own, and close the stores it has made.

        Raises:
            SuiteFailure: the store broke that promise; the message says how.
        """
        bench = Bench(self._make_place())
        try:
            await check(bench)
        finally:
            await bench.aclose()
