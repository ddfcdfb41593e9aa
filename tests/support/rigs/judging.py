"""What two messages of one conversation that overlapped have done to it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from support.rigs.contract import Line, reply_to

__all__ = ("damage", "damage_in_any_order")


def damage(sent: Sequence[str], answers: Mapping[str, str], history: Sequence[Line]) -> list[str]:
    """Return what is wrong with a conversation whose messages arrived in the order in which they were sent.

    Args:
        sent: the messages, in order.
        answers: what each caller got, by message.
        history: what is stored.
    """
    expected = [
        line
        for place, text in enumerate(sent)
        for line in (Line("user", text), Line("assistant", reply_to(text, place)))
    ]
    found = [
        f"the caller of {text!r} got {answers.get(text)!r}"
        for place, text in enumerate(sent)
        if answers.get(text) != reply_to(text, place)
    ]
    missing = Counter(expected) - Counter(history)
    found += [f"lost: {line.role} {line.text!r}" for line in missing]
    if list(history) != expected and not missing:
        found.append(f"stored in another order: {[line.text for line in history]}")
    return found


def damage_in_any_order(sent: Sequence[str], answers: Mapping[str, str], history: Sequence[Line]) -> list[str]:
    """Return the same where nobody knows in which order the messages arrived: the one that is stored counts."""
    order = [line.text for line in history if line.role == "user"]
    if sorted(order) != sorted(sent):
        return [f"sent {sorted(sent)}, and stored {sorted(order)}"]
    return damage(order, answers, history)
