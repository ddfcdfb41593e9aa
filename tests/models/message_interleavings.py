"""Runs messages through everything that can happen in a scene, and compares the lanes with the model."""

from collections import deque

from models.message_driver import DrivenGate, MakeGate, state_of
from models.message_model import MessageModel
from models.message_words import Happening, Scene
from support.lanes_visitors import running_loop
from turnlane.lanes.gate import Gate

__all__ = ("Mismatch", "every_interleaving")

Path = tuple[Happening, ...]

ENDS_OF_TURNS = ("answered", "failed", "stopped", "interrupted")


class Mismatch(AssertionError):
    """The lanes did something else than the model, or broke an invariant; the message has what happened."""


def every_interleaving(scene: Scene, make_gate: MakeGate = Gate) -> int:
    """Try everything that may happen in every state there is; return how many states there are."""
    start = MessageModel(scene)
    seen: set[str] = {start.present()}
    to_try: deque[tuple[Path, MessageModel]] = deque([((event,), start) for event in start.possible()])
    while to_try:
        for path, model in _followed(*to_try.popleft(), seen, make_gate):
            to_try += [((*path, event), model) for event in model.possible()[1:]]
    return len(seen) - 1


def _followed(path: Path, model: MessageModel, seen: set[str], make_gate: MakeGate) -> list[tuple[Path, MessageModel]]:
    """Follow a path to its last happening, and from there the first of what may happen, until nothing is new.

    Returns the new states, with the ways there. What was compared before is not compared again.
    """
    driven, found = DrivenGate(running_loop(), model.scene, make_gate), list[tuple[Path, MessageModel]]()
    try:
        for event in path[:-1]:
            driven.happen(event)
        while True:
            driven.happen(path[-1])
            model = model.copy()
            model.happen(path[-1])
            wrong = _differences(driven, model)
            if wrong:
                raise Mismatch("\n".join(wrong))
            shape, possible = model.present(), model.possible()
            if shape in seen:
                return found
            seen.add(shape)
            found.append((path, model))
            if not possible:
                return found
            path = (*path, possible[0])
    except Exception as error:
        error.add_note(f"{model.scene}, after: {', '.join(map(str, path))}")
        if isinstance(error, Mismatch):
            raise
        raise Mismatch(repr(error)) from error
    finally:
        driven.forget()


def _differences(driven: DrivenGate, model: MessageModel) -> list[str]:
    found, wanted = driven.state(), state_of(model)
    wrong = [f"{name}: {found[name]}, in the model: {wanted[name]}" for name in found if found[name] != wanted[name]]
    if not model.possible():
        wrong += driven.left_behind()
    return driven.broken() + wrong + _unaccounted(model)


def _unaccounted(model: MessageModel) -> list[str]:
    """Return the messages that are nowhere, or have come to an end twice or through one who has had no turn."""
    turn, running, have_lane = model.turn, list[int](), list[int]()
    if turn is not None:
        running = [turn.message] if turn.begun else []
        have_lane = [turn.message, *turn.carried, *turn.sharing]
    ended = [message for message, (what, _) in model.fate.items() if what in ENDS_OF_TURNS]
    wrong: list[str] = []
    if sorted([*model.waiting(), *have_lane, *model.fate]) != list(range(model.arrived)):
        wrong.append(f"of {model.arrived} {model.waiting()} wait and {have_lane} do not, and of others {model.fate}")
    for message, (what, through) in model.fate.items():
        if what in ("coalesced", "shared", "left", "steered") and through not in (*running, *ended):
            wrong.append(f"message {message} is {what} through {through}, which has had no turn")
    return wrong
