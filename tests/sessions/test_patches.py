"""Changes carry only what the caller sets, and are applied to the fresh entry."""

import asyncio
import math
from collections.abc import Callable
from enum import StrEnum

import pytest

from sessions.helpers import T0, StepClock
from turnlane.errors import SessionConflict
from turnlane.sessions import DELETE, UNSET, Draft, Sessions

FIELD_NAMES = (
    "last_channel",
    "last_to",
    "last_account_id",
    "last_thread_id",
    "channel",
    "model_override",
    "label",
    "spawned_by",
    "group_id",
    "group_channel",
    "space",
    "delivery_context",
)
EACH_AND_ALL = [*((name,) for name in FIELD_NAMES), FIELD_NAMES]


def one_or_all(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else "all"


def value_of(name: str) -> object:
    return {"to": [name]} if name == "delivery_context" else f"the {name}"


@pytest.mark.parametrize("names", EACH_AND_ALL, ids=one_or_all)
async def test_a_field_set_by_another_writer_survives_a_patch(sessions: Sessions, names: tuple[str, ...]) -> None:
    """An entry is read without a field, another writer sets it, the first patches something else: it stays."""
    await sessions.resolve("k")
    stale = await sessions.get("k")
    assert stale is not None
    await sessions.patch("k", {name: value_of(name) for name in names})
    await sessions.patch("k", {"updated_by_first": True})
    found = (await sessions.resolve("k")).as_dict()
    assert found["fields"] == {**{name: value_of(name) for name in names}, "updated_by_first": True}
    assert set(stale.fields) == set()


@pytest.mark.parametrize("names", EACH_AND_ALL, ids=one_or_all)
async def test_a_field_set_by_another_writer_survives_an_edit(sessions: Sessions, names: tuple[str, ...]) -> None:
    """The same while a draft is open: what it did not name stays, what it fills is filled only if still absent."""
    await sessions.resolve("k")
    async with sessions.edit("k") as draft:
        draft["other"] = 1
        for name in names:
            draft.setdefault(name, "from the draft")
        await sessions.patch("k", {name: value_of(name) for name in names})
    found = (await sessions.resolve("k")).as_dict()
    assert found["fields"] == {**{name: value_of(name) for name in names}, "other": 1}


@pytest.mark.parametrize("blank", [None, "", " \t\n", "\u00a0"])
@pytest.mark.parametrize("names", EACH_AND_ALL, ids=one_or_all)
async def test_a_blank_value_counts_as_not_given(sessions: Sessions, names: tuple[str, ...], blank: str | None) -> None:
    """Fill-if-absent fills what the fresh entry holds as None or white space, although the old one was given."""
    await sessions.resolve("k")
    await sessions.patch("k", dict.fromkeys(names, "given"))
    async with sessions.edit("k") as draft:
        for name in names:
            draft.setdefault(name, value_of(name))
        await sessions.patch("k", dict.fromkeys(names, blank))
    assert (await sessions.resolve("k")).as_dict()["fields"] == {name: value_of(name) for name in names}


@pytest.mark.parametrize("given", [0, False, 0.0, [], {}, "x"])
async def test_any_other_value_counts_as_given(sessions: Sessions, given: object) -> None:
    """Zero, false and empty lists are values."""
    await sessions.resolve("k")
    await sessions.patch("k", {"a": given})
    async with sessions.edit("k") as draft:
        draft.setdefault("a", "filled")
    assert repr((await sessions.resolve("k")).as_dict()["fields"]) == repr({"a": given})


async def test_unset_leaves_delete_removes_and_none_is_a_value(sessions: Sessions) -> None:
    """The three things that are not the same."""
    await sessions.resolve("k")
    await sessions.patch("k", {"a": 1, "b": 2, "c": 3})
    patched = await sessions.patch("k", {"a": UNSET, "b": DELETE, "c": None, "d": DELETE})
    assert patched.fields == {"a": 1, "c": None}


async def test_a_patch_never_turns_updated_at_back(sessions: Sessions, clock: StepClock) -> None:
    """`updated_at` moves with the clock, forward only; the other times stay."""
    first = await sessions.resolve("k")
    clock.at = T0 + 5
    assert (await sessions.patch("k", {"a": 1})).updated_at == T0 + 5
    clock.at = T0 - 500
    patched = await sessions.patch("k", {"a": 2})
    assert (patched.updated_at, patched.created_at, patched.last_activity_at) == (T0 + 5, T0, T0)
    assert (patched.id, patched.version) == (first.id, 3)


@pytest.mark.parametrize("changes", [{}, {"a": UNSET}, {"a": {"x": [1, None]}}, {"b": DELETE}])
async def test_a_patch_that_changes_nothing_writes_nothing(sessions: Sessions, changes: dict[str, object]) -> None:
    """What already is as wanted keeps its version."""
    await sessions.resolve("k")
    before = await sessions.patch("k", {"a": {"x": [1, None]}})
    assert await sessions.patch("k", changes) == before


@pytest.mark.parametrize(("old", "new"), [(1, True), (True, 1), (1, 1.0), (0.0, -0.0), (None, UNSET)])
async def test_values_that_python_takes_for_equal_are_different(sessions: Sessions, old: object, new: object) -> None:
    """JSON tells 1, 1.0 and true apart, so a patch from one to the other is a change."""
    await sessions.resolve("k")
    await sessions.patch("k", {"a": old})
    async with sessions.edit("k") as draft:
        draft["a"] = DELETE if new is UNSET else new
    assert draft.session is not None
    assert draft.session.version == 3
    assert repr(dict(draft.session.fields)) == ("{}" if new is UNSET else repr({"a": new}))


@pytest.mark.parametrize("name", ["id", "key", "version", "created_at", "updated_at", "last_activity_at", "is_new"])
async def test_what_makes_the_session_can_not_be_patched(sessions: Sessions, name: str) -> None:
    """The identity and the times are refused by name, in every way to change a field."""
    before = await sessions.resolve("k")
    with pytest.raises(ValueError, match=name):
        await sessions.patch("k", {"a": 1, name: "x"})
    async with sessions.edit("k") as draft:
        with pytest.raises(ValueError, match=name):
            draft[name] = "x"
        with pytest.raises(ValueError, match=name):
            draft.setdefault(name, "x")
        with pytest.raises(ValueError, match=name):
            del draft[name]
    after = await sessions.resolve("k")
    assert (after.id, after.version, after.fields) == (before.id, 1, {})


@pytest.mark.parametrize("name", ["", "  ", 7, None, "\udc00"])
async def test_a_field_needs_a_name(sessions: Sessions, name: str) -> None:
    """Blank names, names that are not text and names that are not UTF-8 are refused."""
    await sessions.resolve("k")
    with pytest.raises(ValueError, match="the name of a session field"):
        await sessions.patch("k", {name: 1})


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "a is nan"),
        ({"x": [1, math.inf]}, r"a\.x\[1\] is inf"),
        ({"x": {"y": object()}}, r"a\.x\.y is a object, which is not JSON"),
        ({1: 2}, "a has the key 1, and JSON knows text keys only"),
        ([b"bytes"], r"a\[0\] is a bytes"),
        ({1, 2}, "a is a set"),
        (["\ud800"], r"a\[0\] holds half a surrogate pair"),
        ({"\ud800": 1}, "a key of a holds half a surrogate pair"),
        (1 << 2000, "a is an integer of more than 1024 bits"),
        (nested(65), "nested deeper than 64 levels"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_what_is_not_json_is_refused_by_its_place(sessions: Sessions, value: object, place: str) -> None:
    """The message names the field and the way to the offending value; nothing is stored."""
    await sessions.resolve("k")
    with pytest.raises(ValueError, match=place):
        await sessions.patch("k", {"a": value})
    async with sessions.edit("k") as draft:
        with pytest.raises(ValueError, match=place):
            draft["a"] = value
    assert (await sessions.resolve("k")).version == 1


async def test_deep_and_odd_values_are_stored_plainly(sessions: Sessions) -> None:
    """Values at the limit come back; subclasses of JSON types are stored as those types."""

    class Word(StrEnum):
        HELLO = "hello"

    await sessions.resolve("k")
    patched = await sessions.patch("k", {"deep": nested(64), "word": Word.HELLO, "tuple": (1, 2)})
    assert patched == await sessions.resolve("k")
    assert type(patched.fields["word"]) is str
    assert patched.as_dict()["fields"] == {"deep": nested(64), "word": "hello", "tuple": [1, 2]}


async def test_snapshots_are_frozen_and_can_be_patched_back(sessions: Sessions) -> None:
    """Nothing in a snapshot can be changed, at any depth; its values are accepted by a patch."""
    await sessions.resolve("k")
    given: dict[str, object] = {"to": ["a", {"b": 1}]}
    patched = await sessions.patch("k", {"context": given})
    given["to"] = "changed by the caller afterwards"
    context = patched.fields["context"]
    assert repr(context) == "mappingproxy({'to': ('a', mappingproxy({'b': 1}))})"
    copied = await sessions.patch("k", {"copy": context})
    assert copied.fields["copy"] == context
    assert patched.as_dict()["fields"] == {"context": {"to": ["a", {"b": 1}]}}


async def test_expected_version_makes_it_compare_and_set(sessions: Sessions) -> None:
    """Another version is a conflict that names both; the fitting one is stored."""
    await sessions.resolve("k")
    assert (await sessions.patch("k", {"a": 1}, expected_version=1)).version == 2
    with pytest.raises(SessionConflict) as caught:
        await sessions.patch("k", {"a": 2}, expected_version=1)
    assert (caught.value.key, caught.value.expected_version, caught.value.found_version) == ("k", 1, 2)
    with pytest.raises(SessionConflict):
        async with sessions.edit("k", expected_version=1):
            raise AssertionError("the block runs on a version that is not expected")

    async def edit_behind_a_patch() -> None:
        async with sessions.edit("k", expected_version=2) as draft:
            draft["b"] = 1
            await sessions.patch("k", {"a": 3})

    with pytest.raises(SessionConflict):
        await edit_behind_a_patch()
    assert (await sessions.resolve("k")).fields == {"a": 3}
    with pytest.raises(ValueError, match="expected_version"):
        await sessions.patch("k", {}, expected_version=True)


async def test_an_old_version_does_not_fit_after_renewal_or_delete(sessions: Sessions) -> None:
    """A writer that read the session before it was replaced can not write into its successor."""
    version = (await sessions.resolve("k")).version
    version = (await sessions.renew("k")).version if version else 0
    await sessions.delete("k")
    await sessions.resolve("k")
    with pytest.raises(SessionConflict):
        await sessions.patch("k", {"a": 1}, expected_version=version)
    with pytest.raises(SessionConflict):
        await sessions.patch("k", {"a": 1}, expected_version=1)


async def test_a_key_without_entry_can_not_be_changed(sessions: Sessions) -> None:
    """Patching makes no entry: it is a conflict that has found none."""
    with pytest.raises(SessionConflict) as caught:
        await sessions.patch("k", {"a": 1})
    assert caught.value.found_version is None
    with pytest.raises(SessionConflict):
        async with sessions.edit("k"):
            raise AssertionError("the block runs without an entry")
    await sessions.resolve("k")

    async def edit_behind_a_delete() -> None:
        async with sessions.edit("k") as draft:
            draft["a"] = 1
            await sessions.delete("k")

    with pytest.raises(SessionConflict) as caught:
        await edit_behind_a_delete()
    assert caught.value.found_version is None
    assert await sessions.list() == ()


async def test_lost_updates_are_impossible_with_expected_version(sessions: Sessions) -> None:
    """20 tasks count to 5 each, trying again on conflict: 100."""
    await sessions.resolve("k")

    async def count() -> None:
        done = 0
        while done < 5:
            session = await sessions.resolve("k")
            before = session.fields.get("n", 0)
            assert isinstance(before, int)
            try:
                await sessions.patch("k", {"n": before + 1}, expected_version=session.version)
            except SessionConflict:
                continue
            done += 1

    await asyncio.gather(*(count() for _ in range(20)))
    assert (await sessions.resolve("k")).fields == {"n": 100}


def filled_and_read(draft: Draft) -> object:
    draft.setdefault("a", 5)
    return draft["a"]


READS: dict[str, Callable[[Draft], object]] = {
    "index": lambda draft: draft["a"],
    "get": lambda draft: draft.get("a"),
    "in": lambda draft: "a" in draft,
    "after setdefault": filled_and_read,
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("change", [{"a": 2}, {"a": DELETE}, {"a": None}, {"a": True}], ids=repr)
async def test_reading_a_field_pins_it(sessions: Sessions, how: str, change: dict[str, object]) -> None:
    """What the draft has read must still be so when it is stored."""
    await sessions.resolve("k")
    await sessions.patch("k", {"a": 1})

    async def read_then_store() -> None:
        async with sessions.edit("k") as draft:
            READS[how](draft)
            draft["b"] = 1
            await sessions.patch("k", change)

    with pytest.raises(SessionConflict) as caught:
        await read_then_store()
    assert caught.value.fields == ("a",)
    assert "b" not in (await sessions.resolve("k")).fields


async def test_reading_an_absent_field_pins_its_absence(sessions: Sessions) -> None:
    """A field that appears is as much a change as one that differs."""
    await sessions.resolve("k")

    async def read_then_store() -> None:
        async with sessions.edit("k") as draft:
            assert draft.get("a", 7) == 7
            with pytest.raises(KeyError):
                draft["a"]
            await sessions.patch("k", {"a": None})

    with pytest.raises(SessionConflict):
        await read_then_store()


async def test_a_pinned_field_that_did_not_change_is_stored(sessions: Sessions) -> None:
    """Changes of other fields, and changes back, do not disturb a reader."""
    await sessions.resolve("k")
    await sessions.patch("k", {"a": [1]})
    async with sessions.edit("k") as draft:
        assert draft["a"] == (1,)
        draft["b"] = "seen"
        await sessions.patch("k", {"a": 2, "c": 3})
        await sessions.patch("k", {"a": [1]})
    assert draft.session is not None
    assert draft.session.fields == {"a": (1,), "b": "seen", "c": 3}


async def test_own_assignments_are_read_back_without_pinning(sessions: Sessions) -> None:
    """A field the draft has assigned or deleted itself does not depend on the entry any more."""
    await sessions.resolve("k")
    async with sessions.edit("k") as draft:
        draft["a"] = 1
        assert draft["a"] == 1
        del draft["b"]
        assert "b" not in draft
        draft.setdefault("b", "filled")
        assert draft["b"] == "filled"
        await sessions.patch("k", {"a": 8, "b": 9})
    assert (await sessions.resolve("k")).fields == {"a": 1, "b": "filled"}


async def test_steps_are_applied_in_order(sessions: Sessions) -> None:
    """Delete then fill is not fill then delete; `UNSET` and `DELETE` mean what they mean in a patch."""
    await sessions.resolve("k")
    await sessions.patch("k", {"a": 1, "b": 1, "c": 1, "d": 1})
    async with sessions.edit("k") as draft:
        del draft["a"]
        draft.setdefault("a", 2)
        draft.setdefault("b", 2)
        del draft["b"]
        draft["c"] = UNSET
        draft["d"] = DELETE
    assert (await sessions.resolve("k")).fields == {"a": 2, "c": 1}


async def test_setdefault_tells_nothing() -> None:
    """It is decided when the block ends, so there is nothing to return before."""
    async with Sessions() as sessions:
        await sessions.resolve("k")
        async with sessions.edit("k") as draft:
            told: object = draft.setdefault("a", 1)  # type: ignore[func-returns-value]
            assert told is None
            assert draft.session is None
            assert repr(draft) == "<Draft open key='k' changes=1 pinned=[]>"


async def test_a_block_that_raises_stores_nothing(sessions: Sessions) -> None:
    """The error of the block reaches the caller; the entry is as before."""
    before = await sessions.resolve("k")
    drafts: list[Draft] = []

    async def fail() -> None:
        async with sessions.edit("k") as draft:
            drafts.append(draft)
            draft["a"] = 1
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail()
    assert (await sessions.resolve("k")).version == before.version
    with pytest.raises(RuntimeError, match="has ended"):
        drafts[0]["a"] = 2


async def test_a_draft_ends_with_its_block(sessions: Sessions) -> None:
    """Recording into a draft that was stored is an error, not a change that gets lost."""
    await sessions.resolve("k")
    async with sessions.edit("k") as draft:
        draft["a"] = 1
    with pytest.raises(RuntimeError, match="has ended"):
        draft["a"] = 2
    with pytest.raises(TypeError):
        iter(draft)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def test_a_draft_applies_to_a_session_that_was_renewed_meanwhile(sessions: Sessions) -> None:
    """Fields belong to the key: the change is stored under the new id, which it does not touch."""
    await sessions.resolve("k")
    async with sessions.edit("k") as draft:
        draft["a"] = 1
        renewed = await sessions.renew("k")
    found = await sessions.resolve("k")
    assert (found.id, found.fields) == (renewed.id, {"a": 1})
