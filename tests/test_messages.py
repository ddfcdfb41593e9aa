"""Ready ways to make one message of several: nothing is lost, the order is kept, what is common stands there once."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlane.messages import HttpMessage, joined, openai_chat, openai_responses

Merge = Callable[[Sequence[HttpMessage]], HttpMessage]

MERGES = pytest.mark.parametrize(
    ("merge", "name"), [(openai_chat, "messages"), (openai_responses, "input")], ids=["chat", "responses"]
)
SYSTEM = {"role": "system", "content": "be short"}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def request(name: str, *entries: Any, **members: Any) -> HttpMessage:
    return HttpMessage(json.dumps({"model": "m", **members, name: list(entries)}).encode(), "application/json")


def entries_of(message: HttpMessage, name: str) -> list[Any]:
    found: list[Any] = json.loads(message.body)[name]
    return found


@MERGES
class TestOpenAIBodies:
    """`openai_chat` and `openai_responses`."""

    def test_the_newest_request_has_what_all_of_them_say(self, merge: Merge, name: str) -> None:
        """Its model and its other members count; it brings the messages of all, and its content type."""
        old = request(name, user("a"), user("b"), model="old", stream=False)
        new = HttpMessage(request(name, user("c"), model="new").body, "application/json; charset=utf-8")
        merged = merge([old, new])
        assert merged.content_type == "application/json; charset=utf-8"
        assert json.loads(merged.body) == {"model": "new", name: [user("a"), user("b"), user("c")]}

    def test_a_common_beginning_stands_there_once(self, merge: Merge, name: str) -> None:
        """The system message and the history, however many requests repeat them."""
        history = [SYSTEM, user("hi"), {"role": "assistant", "content": "hello"}]
        merged = merge([request(name, *history, user(text)) for text in ("a", "b", "c")])
        assert entries_of(merged, name) == [*history, user("a"), user("b"), user("c")]

    def test_a_client_that_repeats_what_was_not_answered_yet_adds_only_what_is_new(
        self, merge: Merge, name: str
    ) -> None:
        """Its history is what was gathered so far."""
        texts = [user("a"), user("b"), user("c")]
        merged = merge([request(name, SYSTEM, *texts[:count]) for count in (1, 2, 3)])
        assert entries_of(merged, name) == [SYSTEM, *texts]

    def test_a_beginning_in_common_with_any_of_the_others_counts(self, merge: Merge, name: str) -> None:
        """The third request goes on where the second did, which did not go on where the first did."""
        second = [SYSTEM, user("b")]
        merged = merge([request(name, SYSTEM, user("a")), request(name, *second), request(name, *second, user("c"))])
        assert entries_of(merged, name) == [SYSTEM, user("a"), user("b"), user("c")]

    def test_a_request_that_is_sent_twice_says_its_last_message_twice(self, merge: Merge, name: str) -> None:
        """Whoever says "yes" and "yes" again has said it twice."""
        twice = request(name, SYSTEM, user("yes"))
        assert entries_of(merge([twice, twice]), name) == [SYSTEM, user("yes"), user("yes")]

    def test_one_request_is_what_it_was(self, merge: Merge, name: str) -> None:
        """Also with text of every kind, half a surrogate pair included."""
        text = "gr\u00fc\u00df dich \U0001f600 \\ud83d \x00"
        body = request(name, user(text), user(json.loads('"\\ud83d"'))).body
        assert json.loads(merge([HttpMessage(body)]).body) == json.loads(body)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"hello",
            b"\xff\xfe\xfa",
            b"[1]",
            b"7",
            b"{}",
            b'{"NAME": 7}',
            b'{"NAME": null}',
            b'{"NAME": {}}',
            b'{"NAME": []}',
            b"\x1f\x8b\x08compressed",
            b"[" * 100_000,
            b'{"NAME": ' + b"[" * 100_000,
        ],
        ids=range(13),
    )
    @pytest.mark.parametrize("place", [0, 1])
    def test_what_is_no_such_request_is_a_value_error(self, merge: Merge, name: str, body: bytes, place: int) -> None:
        """Wherever it stands among the others."""
        messages = [request(name, user("a"))]
        messages.insert(place, HttpMessage(body.replace(b"NAME", name.encode())))
        with pytest.raises(ValueError, match="can not be merged"):
            merge(messages)

    @given(data=st.data())
    def test_nothing_is_lost_and_the_order_is_kept(self, merge: Merge, name: str, data: st.DataObject) -> None:
        """Each request's messages stand in the result in their order, and nothing else does; the newest are last."""
        entry = st.sampled_from("abc").map(user) | st.text(max_size=3).map(user)
        lists = data.draw(st.lists(st.lists(entry, min_size=1, max_size=5), min_size=1, max_size=5))
        merged = entries_of(merge([request(name, *entries) for entries in lists]), name)
        for entries in lists:
            remaining = iter(merged)
            assert all(each in remaining for each in entries), (entries, merged)
        assert all(any(each in entries for entries in lists) for each in merged)
        assert merged[-1] == lists[-1][-1]
        assert len(merged) <= sum(len(entries) for entries in lists)

    @given(data=st.data())
    def test_the_common_beginning_is_there_once(self, merge: Merge, name: str, data: st.DataObject) -> None:
        """Requests that differ after it: it, and then what each adds, in order."""
        beginning = data.draw(st.lists(st.text(max_size=3).map(user), max_size=4))
        texts = data.draw(st.lists(st.text(max_size=3), min_size=1, max_size=5, unique=True))
        merged = merge([request(name, *beginning, user(text)) for text in texts])
        assert entries_of(merged, name) == [*beginning, *map(user, texts)]


def test_text_as_input_is_a_message_of_the_user() -> None:
    """Both forms of `/v1/responses` are merged with each other."""
    plain = HttpMessage(json.dumps({"model": "m", "input": "a"}).encode())
    assert entries_of(openai_responses([plain, request("input", user("b"))]), "input") == [user("a"), user("b")]
    assert entries_of(openai_responses([request("input", user("b")), plain]), "input") == [user("b"), user("a")]


class TestJoined:
    """`joined(name)`: the arguments of calls."""

    @given(st.lists(st.text(), min_size=1), st.text(max_size=3))
    def test_texts_are_joined(self, texts: list[str], separator: str) -> None:
        """By the separator, in order; every other argument is that of the newest."""
        calls = [{"key": "a", "text": text, "number": number} for number, text in enumerate(texts)]
        expected = {"key": "a", "text": separator.join(texts), "number": len(texts) - 1}
        assert joined("text", separator)(calls) == expected

    @given(st.lists(st.lists(st.integers()), min_size=1))
    def test_lists_stand_one_after_the_other(self, lists: list[list[int]]) -> None:
        """And none of those that were given is changed."""
        before = [each.copy() for each in lists]
        merged = joined("items")([{"items": each} for each in lists])
        assert merged == {"items": [item for each in lists for item in each]}
        assert lists == before

    def test_by_default_an_empty_line_stands_between(self) -> None:
        """Two messages are two paragraphs."""
        assert joined("text")([{"text": "a"}, {"text": "b"}]) == {"text": "a\n\nb"}

    @pytest.mark.parametrize(
        "calls", [[{"other": "a"}], [{"text": "a"}, {"text": ["b"]}], [{"text": "a"}, {"text": None}], [{"text": 7}]]
    )
    def test_what_is_neither_is_a_value_error(self, calls: list[dict[str, Any]]) -> None:
        """The error names the argument."""
        with pytest.raises(ValueError, match="'text' is neither text in each call nor a list in each call"):
            joined("text")(calls)


@pytest.mark.parametrize(("arguments", "name"), [((5,), "name"), (("text", None), "separator")])
def test_what_names_no_argument_is_refused_when_it_is_given(arguments: tuple[Any, ...], name: str) -> None:
    """Not when messages meet for the first time."""
    with pytest.raises(ValueError, match=f"{name} must be text"):
        joined(*arguments)
