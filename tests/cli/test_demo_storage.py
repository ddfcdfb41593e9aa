"""Where the demo server keeps conversations."""

from pathlib import Path

from turnlane.cli.demo.storage import ConversationStorage


async def test_a_stored_turn_is_loaded_again(tmp_path: Path) -> None:
    """Messages come back in order, with line separators inside them intact, and the key knows its session."""
    storage = ConversationStorage(tmp_path)
    assert await storage.session_id_of("key") is None
    assert await storage.load("s1") == []
    await storage.store_turn("key", "s1", "one\u2028two\n", "reply")
    await storage.store_turn("key", "s1", "three", "reply")
    again = ConversationStorage(tmp_path)
    assert await again.session_id_of("key") == "s1"
    assert [message["content"] for message in await again.load("s1")] == ["one\u2028two\n", "reply", "three", "reply"]
    assert list(again.transcripts()) == ["s1"]


async def test_a_turn_without_key_names_no_session(tmp_path: Path) -> None:
    """It has a transcript of its own."""
    storage = ConversationStorage(tmp_path)
    await storage.store_turn(None, "s1", "one", "reply")
    assert list(storage.transcripts()) == ["s1"]
