"""The images a disk may hold after a power loss under `durability="power"`: each has what was acknowledged."""

import random
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from support.transcripts_disk import Disk, Image, Moment, images
from support.transcripts_images import NUMBERED, SCENES, Scene, judged, record
from turnlane.transcripts import jsonl

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform == "win32", reason="transcripts in files need a POSIX system"),
]

SHORT_MOST, LONG_MOST = 8, 5000
SHORT_NUMBERS, ABOUT_ALL_NUMBERS = 2, 22
BEFORE, AFTER = b"before".ljust(16), b"after".ljust(16)


class Enumeration:
    """Judges images, each content once for what is known of it.

    Mutable: the counts, and what was wrong.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, seed: int, most: int) -> None:
        self._directory = directory
        self._monkeypatch = monkeypatch
        self._chance = random.Random(seed)
        self._most = most
        self._seen: set[object] = set()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def run(self, scene: Scene, number: int = 0) -> bool:
        """Enumerate one run of a scene; tell whether there is a next one."""
        self._monkeypatch.setattr(jsonl, "boot_of", lambda: BEFORE)
        moments, more = await record(scene, self._directory / "run" / "transcripts", number)
        self._monkeypatch.setattr(jsonl, "boot_of", lambda: AFTER)
        for place, moment in enumerate(moments):
            for image in images(moment, self._most, self._chance):
                if self._is_new(image, moment):
                    wrong = await judged(image, moment, self._directory / "image")
                    self.wrong += [f"{scene.__name__} {number}, moment {place}: {text}" for text in wrong]
                    self.counts[scene.__name__] += 1
        return more

    def _is_new(self, image: Image, moment: Moment) -> bool:
        known = (moment.acknowledged, moment.handed, moment.salvaged)
        key = (None if image is None else tuple(sorted(image.items())), *known)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


async def test_no_image_of_a_power_loss_lacks_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, long_form: bool
) -> None:
    """It opens, holds what was acknowledged whole and in order and nothing torn, and nothing is taken for an edit.

    Runs in which nothing happens, in which a writer or who recovers after it was killed at a call, and in which a call
    failed, a sync among them. The short form takes some calls, by the seed, and fewer images of each moment.
    """
    enumeration = Enumeration(tmp_path, monkeypatch, seed, LONG_MOST if long_form else SHORT_MOST)
    for scene in SCENES:
        await enumeration.run(scene)
    chance = random.Random(seed)
    for scene in NUMBERED:
        if long_form:
            for number in count():
                if not await enumeration.run(scene, number):
                    break
        else:
            for number in chance.sample(range(ABOUT_ALL_NUMBERS), SHORT_NUMBERS):
                await enumeration.run(scene, number)
    assert enumeration.wrong[:20] == []
    assert set(enumeration.counts) == {scene.__name__ for scene in (*SCENES, *NUMBERED)}
    print(f"seed {seed}: {enumeration.counts.total()} images: {enumeration.counts}")


@pytest.mark.parametrize("what", ["synced", "directory_synced"])
async def test_a_disk_that_syncs_nothing_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The negative control: without the syncs there are images that lack what was acknowledged."""

    def forgets(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(Disk, what, forgets)
    enumeration = Enumeration(tmp_path, monkeypatch, 1, SHORT_MOST)
    await enumeration.run(SCENES[0])
    assert any("was acknowledged and is gone" in text for text in enumeration.wrong)


async def test_a_wrong_image_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judgement can fail: a torn entry, one that nobody wrote, one that is gone, and a salvage that is gone."""
    moments, _ = await record(SCENES[0], tmp_path / "run" / "transcripts", 0)
    monkeypatch.setattr(jsonl, "boot_of", lambda: AFTER)
    last = moments[-1]
    [image] = list(images(last, 1, random.Random(1)))[:1]
    assert image is not None
    assert await judged(image, last, tmp_path / "image") == []
    whole = image["old.jsonl"]
    for content in (whole[:-9], whole + b'{"role": "us', whole + whole, b""):
        assert await judged({**image, "old.jsonl": content}, last, tmp_path / "image") != []
    salvaged = Moment(
        last.nodes, last.names, last.namings, last.root, last.acknowledged, last.handed, salvaged=("torn",)
    )
    assert await judged(image, salvaged, tmp_path / "image") == ["torn was salvaged and is gone: []"]
