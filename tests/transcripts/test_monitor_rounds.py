"""The monitor's own affairs: lost events, directories that come and go, trouble, and its end."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.transcripts_scenes import append, line, user
from support.transcripts_watched import Found, deaf, failing, found_by, until
from turnlane.errors import NotConfigured
from turnlane.testing import ManualClock
from turnlane.transcripts import TranscriptMonitor, Transcripts, patrol, rounds
from turnlane.transcripts.looker import Looker
from turnlane.transcripts.pacing import Pace, Stopped


async def test_events_that_are_lost_are_made_up_for_by_scanning(tmp_path: Path) -> None:
    """By itself, at its interval. On this clock nothing takes time: it rests no longer than it is told to."""
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", user("first"))
    async with found_by(transcripts, watcher=deaf, scan_every=0.02, clock=ManualClock()) as found:
        append(tmp_path / "a.jsonl")
        assert (await found.next()).line == 2
        await transcripts.append("b", user("first"))
        append(tmp_path / "b.jsonl")
        assert (await found.next()).session_id == "b"
        assert found.monitor.statistics().scans > 1


async def test_the_audit_begins_by_itself_and_again(tmp_path: Path) -> None:
    """What it has read before tells the line."""
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", *[user("x" * 2000)] * 100)
    async with found_by(transcripts, audit_every=0.01, clock=ManualClock()) as found:
        await until(lambda: found.monitor.statistics().audits > 2)
        with (tmp_path / "a.jsonl").open("r+b") as file:
            file.seek(2)
            file.write(b"ROLE")
        assert ((event := await found.next()).kind, event.line) == ("edited", 1)


async def test_without_a_watcher_it_goes_on_by_scanning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And says so, once."""
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", user("first"))
    async with found_by(transcripts, watcher=failing, clock=ManualClock()) as found:
        assert not found.monitor.statistics().watching
        append(tmp_path / "a.jsonl")
        assert (await found.next()).kind == "appended"
    told = [record.getMessage() for record in caplog.records if record.name == "turnlane.monitor"]
    assert len(told) == 1
    assert "Too many open files" in told[0]


async def test_a_watcher_that_ends_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while without it."""
    monkeypatch.setattr(rounds, "STILL_THERE", 0.001)
    begun: list[str] = []

    def ending(
        directory: str,
        recursive: bool,
        changes: Callable[[frozenset[str]], None],
        started: Callable[[], None],
        stop: threading.Event,
    ) -> None:
        begun.append(directory)
        started()
        if len(begun) > 1:
            stop.wait()

    async with found_by(tmp_path, watcher=ending) as found:
        await until(lambda: len(begun) > 1 and found.monitor.statistics().watching)
    assert "the watcher has ended" in caplog.text


async def test_a_directory_that_is_made_later(tmp_path: Path) -> None:
    """It may not even have a parent yet."""
    directory = tmp_path / "state" / "transcripts"
    transcripts = Transcripts(directory)
    async with found_by(transcripts) as found:
        assert not directory.exists()
        await transcripts.append("a", user("first"))
        append(directory / "a.jsonl")
        assert (await found.next()).kind in ("appended", "unknown")


async def test_a_directory_that_goes_and_comes_back(tmp_path: Path) -> None:
    """What was in it is deleted; the new one is watched."""
    directory = tmp_path / "transcripts"
    transcripts = Transcripts(directory)
    await transcripts.append("a", user("first"))
    async with found_by(transcripts) as found:
        shutil.rmtree(directory)
        assert (await found.next()).kind == "deleted"
        directory.mkdir()
        await Transcripts(directory).append("a", user("anew"))
        await found.monitor.scan()
        await until(lambda: found.monitor.statistics().watching)
        append(directory / "a.jsonl")
        assert ((event := await found.next()).kind, event.line) == ("appended", 2)


async def test_a_journal_that_is_deleted_leaves_a_file_nobody_knows(tmp_path: Path) -> None:
    """That is told; so is the deletion of the file after it."""
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", user("first"))
    async with found_by(transcripts) as found:
        (tmp_path / "a.jsonl.journal").unlink()
        assert ((event := await found.next()).kind, event.session_id) == ("unknown", "a")
        (tmp_path / "a.jsonl").unlink()
        assert (await found.next()).kind == "deleted"


async def test_what_can_not_be_looked_at_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A journal that is none; when it is mended, the file is judged."""
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", user("first"))
    journal = tmp_path / "a.jsonl.journal"
    content = journal.read_bytes()
    async with found_by(transcripts) as found:
        journal.write_bytes(b"x" * 9000)
        append(tmp_path / "a.jsonl")
        for _ in range(3):
            await found.monitor.scan()
        journal.write_bytes(content)
        assert (await found.next()).kind == "appended"
    told = [record.getMessage() for record in caplog.records if record.name == "turnlane.monitor"]
    assert [message.split()[0] for message in told] == ["monitor_trouble"]
    assert "it is not a journal" in caplog.text


async def test_a_directory_that_can_not_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of that name; the monitor is open all the same, and begins when it can."""
    directory = tmp_path / "transcripts"
    directory.write_bytes(b"")
    async with found_by(str(directory)) as found:
        assert found.monitor.statistics().files == 0
        directory.unlink()
        directory.mkdir()
        await until(lambda: found.monitor.statistics().watching)
    assert "Not a directory" in caplog.text


async def test_a_fault_of_the_monitor_is_logged_and_does_not_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opened it relies on it."""
    monkeypatch.setattr(rounds, "AFTER_A_FAILURE", 0.001)
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", user("first"))
    async with found_by(transcripts) as found:
        with monkeypatch.context() as patch:

            def fail(*_: object, **__: object) -> None:
                raise RuntimeError("planted")

            patch.setattr(Looker, "look", fail)
            append(tmp_path / "a.jsonl")
            await until(lambda: "planted" in caplog.text)
        found.monitor._require_open().patrol.ask(str(tmp_path / "a.jsonl"))  # pyright: ignore[reportPrivateUsage]
        assert (await found.next()).kind == "appended"


async def test_its_end_leaves_nothing_behind(tmp_path: Path) -> None:
    """No task, no thread, no watch, no descriptor; also in the middle of a slow audit, and cancelled."""
    transcripts = Transcripts(tmp_path)
    await transcripts.append("a", *[user("x" * 1000)] * 5000)
    async with TranscriptMonitor(transcripts):  # the threads of anyio, which it keeps for a while, are there now
        pass
    before = (asyncio.all_tasks(), threading.active_count(), set(os.listdir("/proc/self/fd")))
    for number in range(5):
        opened = asyncio.Event()

        async def watch(opened: asyncio.Event = opened) -> None:
            async with TranscriptMonitor(transcripts) as monitor:
                await transcripts.append("a", user("more"))
                opened.set()
                async for _ in monitor:
                    pass

        task = asyncio.create_task(watch())
        await opened.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), number
        del task
        assert asyncio.all_tasks() == before[0]
        assert threading.active_count() <= before[1] + 2, "anyio's threads for scan and audit, which wait for more work"
    await until(
        lambda: set(os.listdir("/proc/self/fd")) <= before[2]
    )  # its inotify is closed by a thread of watchfiles


async def test_opening_that_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    """The directory was not even listed."""
    before = asyncio.all_tasks()
    task = asyncio.create_task(TranscriptMonitor(tmp_path).__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert asyncio.all_tasks() - {task} == before


async def test_it_is_opened_once_at_a_time_and_may_be_opened_again(tmp_path: Path) -> None:
    """And does nothing while it is closed."""
    monitor = TranscriptMonitor(tmp_path)
    with pytest.raises(NotConfigured, match="async with"):
        await monitor.scan()
    for _ in range(2):
        async with monitor:
            with pytest.raises(NotConfigured, match="open already"):
                await monitor.__aenter__()
            (tmp_path / "a.jsonl").write_bytes(line(user("first")))
            await monitor.scan()
            (tmp_path / "a.jsonl").unlink()
            assert (await Found(monitor).next()).kind == "deleted"


def test_a_pace_rests_as_long_as_its_share_asks() -> None:
    """After enough work; stopped, it raises."""
    clock, stop = ManualClock(), threading.Event()
    waited: list[float] = []

    def wait(timeout: float | None = None) -> bool:
        waited.append(timeout or 0.0)
        return stop.is_set()

    stop.wait = wait  # type: ignore[method-assign]
    pace = Pace(0.1, stop, clock.monotonic)
    pace.rest()
    clock.advance(0.02)
    pace.rest()
    assert waited == [pytest.approx(0.18)]
    stop.set()
    with pytest.raises(Stopped):
        pace.rest()


def test_importing_the_package_does_not_import_watchfiles() -> None:
    """Only a monitor that is opened does."""
    code = "import sys, turnlane, turnlane.transcripts; print('watchfiles' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


async def test_thousands_of_files_edited_at_once_are_all_told(tmp_path: Path) -> None:
    """A burst loses events; whoever does not wait for all of them scans."""
    transcripts = Transcripts(tmp_path)
    names = [f"s-{number}" for number in range(900)]
    for name in names:
        await transcripts.append(name, user("first"))
    async with found_by(transcripts) as found:
        for name in names:
            append(tmp_path / f"{name}.jsonl")
        await found.monitor.scan()
        assert {(await found.next()).session_id for _ in names} == set(names)
        await found.nothing()


def test_looks_are_short_and_few() -> None:
    """A file that never stands still is given up until the next scan after about a second."""
    total = sum(patrol.FIRST_PAUSE * 2**number for number in range(patrol.LOOKS))
    assert 0.5 < total < 3
