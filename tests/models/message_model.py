"""What becomes of messages on one lane under all policies, said as plainly as possible.

Messages are numbers in the order of arrival. It shares no idea with the lanes but the meaning of the words.
"""

from dataclasses import dataclass, field
from typing import Self

from models.message_words import GATHERING, LIMITED, MOST_MERGED, NOBODY, TAKING_OVER, Happening, Name, Scene

__all__ = ("Holding", "MessageModel", "Place")


@dataclass(slots=True)
class Place:
    """A place in line: of one message, or of several that will be one turn once it was quiet for long enough.

    `gathers` names the policy of those that may join, and their principal. `dropped` are those that had to leave since
    too many were in it.
    """

    messages: list[int]
    gathers: tuple[Name, str] | None = None
    quiet: bool = True
    dropped: list[int] = field(default_factory=list[int])

    def copy(self) -> Self:
        """Return another in the same state."""
        return type(self)(self.messages.copy(), self.gathers, self.quiet, self.dropped.copy())


@dataclass(slots=True)
class Holding:
    """The turn of a message, while it has the lane.

    `carried` are those that came with it, and are told when it has begun: from then on it `answers` them, too. If they
    are to have its result they wait for its end instead: `sharing`. Messages are `offered` to it while it may go on:
    until somebody has asked it to stop, the message `asked_by`; it is `cut` when it did not.
    """

    message: int
    came_as: Place
    carried: list[int] = field(default_factory=list[int])
    begun: bool = False
    answers: list[int] = field(default_factory=list[int])
    sharing: list[int] = field(default_factory=list[int])
    offered: list[int] = field(default_factory=list[int])
    asked_by: int | None = None
    cut: bool = False

    def copy(self) -> Self:
        """Return another in the same state."""
        return type(self)(
            self.message,
            self.came_as,
            self.carried.copy(),
            self.begun,
            self.answers,
            self.sharing.copy(),
            self.offered.copy(),
            self.asked_by,
            self.cut,
        )


@dataclass(slots=True)
class MessageModel:
    """One lane.

    `taken` are messages that were offered, and the turns that took them. `fate` is what became of a message, and
    through which one. `owed` are the turns that were rolled back, until another is about to begin: `undone` has both.
    Whoever rolls back also takes back what NOBODY, a process that died, has left. `ended` are those that are noted to
    need no rolling back.
    """

    scene: Scene
    arrived: int = 0
    turn: Holding | None = None
    line: list[Place] = field(default_factory=list[Place])
    taken: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    owed: list[int] = field(default_factory=list[int])
    undone: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    ended: list[int] = field(default_factory=list[int])
    fate: dict[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])

    def copy(self) -> Self:
        """Return another model in the same state."""
        return type(self)(
            self.scene,
            self.arrived,
            None if self.turn is None else self.turn.copy(),
            [place.copy() for place in self.line],
            self.taken.copy(),
            self.owed.copy(),
            self.undone.copy(),
            self.ended.copy(),
            self.fate.copy(),
        )

    def waiting(self) -> list[int]:
        """Return who stands in line."""
        return [message for place in self.line for message in place.messages]

    def present(self) -> str:
        """Return what decides everything that can still happen: all but what became of those who are gone."""
        return repr((self.arrived, self.turn, self.line, self.taken, self.owed))

    # -- what may happen

    def possible(self) -> list[Happening]:
        """Return what may happen next."""
        found: list[Happening] = []
        if self.arrived < len(self.scene.policies):
            found.append(Happening("arrive", self.arrived))
        leaving = self.waiting()
        if self.turn is not None:
            found += self._possible_to(self.turn)
            leaving += self.turn.carried
            found += [Happening("cancel", message) for message in self.turn.sharing]
        found += [Happening(what, message) for message in leaving for what in ("cancel", "expire")]
        found += [Happening("quiet", place.messages[0]) for place in self.line if not place.quiet]
        found += [Happening("done", message) for message, _ in self.taken]
        return [event for event in found if event.what in self.scene.kinds]

    def _possible_to(self, turn: Holding) -> list[Happening]:
        found = [Happening("interrupt", turn.message)]
        if turn.asked_by is not None and not turn.cut:
            found.append(Happening("cut", turn.message))
        if turn.begun:
            found += [Happening(what, turn.message) for what in ("finish", "fail", "stop")]
            if any(message in self.waiting() for message in turn.offered):
                found.append(Happening("take", turn.message))
        else:
            found += [Happening(what, turn.message) for what in ("wake", "cancel") if what == "cancel" or not turn.cut]
        return found

    # -- what happens

    def happen(self, event: Happening) -> None:
        """Let something happen."""
        turn, message = self.turn, event.message
        if event.what == "arrive":
            self._arrive(message)
        elif event.what == "quiet":
            next(place for place in self.line if message in place.messages).quiet = True
        elif event.what == "done":
            self._done(message)
        elif turn is None or message != turn.message:
            self._leave(message, {"cancel": "cancelled", "expire": "expired"}[event.what])
        else:
            self._happen_to(turn, event)
        if self.turn is None and self.line and self.line[0].quiet:
            place = self.line.pop(0)
            *carried, newest = place.messages
            self.turn = Holding(newest, place, carried)
            if event == Happening("arrive", newest):  # it need not be woken to know
                self._begin(self.turn)

    def _happen_to(self, turn: Holding, event: Happening) -> None:
        match event.what:
            case "wake":
                self._begin(turn)
            case "interrupt":
                self._ask(turn, NOBODY)
            case "cut":
                turn.cut = True
            case "take":
                taken = next(each for each in turn.offered if each in self.waiting())
                turn.offered = turn.offered[turn.offered.index(taken) + 1 :]
                self.taken.append((taken, turn.message))
            case "finish":
                self._end(turn, "answered")
            case "fail":
                self._end(turn, "failed")
            case _ if turn.cut:
                self._end(turn, "interrupted", turn.asked_by)
            case _:
                self._end(turn, "stopped" if turn.begun else "cancelled")

    # -- arriving

    def _arrive(self, message: int) -> None:
        self.arrived += 1
        policy, turn = self.scene.policies[message], self.turn
        if turn is None and not self.line:
            self.turn = Holding(message, Place([message]))
            self._begin(self.turn)
            return
        refusal = self._refusal(message)
        if refusal is not None:
            self.fate[message] = (refusal, NOBODY)
        elif policy in GATHERING:
            self._join(message)
        else:
            if policy in TAKING_OVER:
                self._take_over(message)
            elif policy == "steer" and turn is not None:
                self._offer(turn, message)
            self.line.append(Place([message]))

    def _refusal(self, message: int) -> str | None:
        policy, whom = self.scene.policies[message], self.scene.whom(message)
        if policy == "reject":
            return "busy"
        fellows = [other for other in self.waiting() if whom and self.scene.whom(other) == whom]
        most = self.scene.most_waiting
        if most is not None and len(fellows) >= most and policy not in TAKING_OVER:  # they are about to be superseded
            return "capacity"
        last = self.line[-1] if self.line else Place([])
        full = last.gathers == (policy, whom) and len(last.messages) == MOST_MERGED
        return "full" if full and policy == "refuse" else None

    def _join(self, message: int) -> None:
        policy = self.scene.policies[message]
        gathers = policy, self.scene.whom(message)
        if not self.line or self.line[-1].gathers != gathers:
            self.line.append(Place([], gathers))
        place = self.line[-1]
        if policy == "oldest" and len(place.messages) == MOST_MERGED:
            oldest = place.messages.pop(0)
            place.dropped.append(oldest)
            self.fate[oldest] = ("superseded", message)
        place.messages.append(message)
        place.quiet = policy in LIMITED and len(place.messages) == MOST_MERGED

    def _take_over(self, message: int) -> None:
        gone, turn = self.waiting(), self.turn
        self.line = []
        if turn is not None:
            gone += turn.carried
            turn.carried = []
            self._ask(turn, message)
            if self.scene.policies[message] == "rollback" and turn.message not in self.owed:
                self.owed.append(turn.message)
        for earlier in gone:
            self.fate[earlier] = ("superseded", message)

    def _offer(self, turn: Holding, message: int) -> None:
        if turn.asked_by is None and self.scene.whom(message) == self.scene.whom(turn.message):
            turn.offered.append(message)

    def _ask(self, turn: Holding, by: int) -> None:
        if turn.asked_by is None:
            turn.asked_by = by

    # -- having the lane

    def _begin(self, turn: Holding) -> None:
        self.undone += [(owed, turn.message) for owed in self.owed if owed != turn.message]
        self.owed = [owed for owed in self.owed if owed == turn.message]
        policy, others = self.scene.policies[turn.message], turn.carried
        if policy == "rollback":
            self.undone.append((NOBODY, turn.message))
        turn.carried = []
        if policy == "fussy" and others:
            self.line = [Place([each]) for each in others] + self.line
            self._end(turn, "unmerged")
            return
        turn.begun = True
        turn.answers = [*others, turn.message]
        if policy == "share":
            turn.sharing = others
            return
        for other in others:
            self.fate[other] = ("coalesced", turn.message)

    def _end(self, turn: Holding, what: str, through: int | None = None) -> None:
        self.turn = None
        if turn.begun and turn.message not in self.owed:
            self.ended.append(turn.message)
        self.fate[turn.message] = (what, NOBODY if through is None else through)
        for other in turn.sharing:
            self.fate[other] = ("shared" if what == "answered" else "coalesced", turn.message)
        if turn.carried:
            self.line.insert(0, Place(turn.carried, turn.came_as.gathers, dropped=turn.came_as.dropped))

    # -- leaving without it

    def _leave(self, message: int, what: str) -> None:
        turn = self.turn
        holder = NOBODY if turn is None else turn.message
        self.fate[message] = (what, holder if what == "expired" else NOBODY)
        if turn is not None and message in turn.sharing:
            turn.sharing.remove(message)
            self.fate[message] = ("left", holder)
        elif turn is not None and message in turn.carried:
            turn.carried.remove(message)
        else:
            self._leave_line(message)

    def _done(self, message: int) -> None:
        by = next(holder for taken, holder in self.taken if taken == message)
        self.taken.remove((message, by))
        if message in self.waiting() and self.turn is not None and by == self.turn.message:
            self.fate[message] = ("steered", by)
            self._leave_line(message)

    def _leave_line(self, message: int) -> None:
        for place in self.line:
            if message in place.messages:
                place.messages.remove(message)
        self.line = [place for place in self.line if place.messages]
