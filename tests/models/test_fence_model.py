"""The fence of a transcript, and the journal beside it, in every order of their steps: checked by spin."""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from models.spin_runs import Run, Statement, Verdict, require_spin, verified

Verify = Callable[[Run], Verdict]
Switches = dict[str, int | str]

pytestmark = pytest.mark.timeout(900)  # the first one to ask for a verification may wait for others

# What holds, in the short form.
HOLDS: dict[str, Switches] = {
    "owned writes and kills": {"CRASHES": 2},
    "an edit": {"EDITS": 1},
    "two edits": {"EDITS": 2, "TURNS": 1},
    "an edit and a kill": {"EDITS": 1, "CRASHES": 1, "TURNS": 1},
    "an edit, a kill and a zombie": {"EDITS": 1, "CRASHES": 1, "PEERS": 0},
    "a touch and two kills": {"TOUCHES": 1, "CRASHES": 2, "TURNS": 1},
    "a new transcript": {"NEW": 1, "EDITS": 1, "CRASHES": 1, "TURNS": 1},
    "a new transcript and kills": {"NEW": 1, "CRASHES": 2, "TURNS": 1},
    "appends inside a release": {"INSIDE": 1, "EDITS": 1, "CRASHES": 1, "TURNS": 1, "PEERS": 0},
    "a large file": {"LARGE": 1, "EDITS": 2, "TURNS": 1},
    "coarse stamps": {"TICKS": 1, "EDITS": 1, "TURNS": 1},
    "coarse stamps of a large file": {"TICKS": 1, "LARGE": 1, "EDITS": 1, "TURNS": 1},
    "a lost record": {"LOSSES": 1, "EDITS": 1, "PEERS": 0},
    "a lost record and a kill": {"LOSSES": 1, "EDITS": 1, "CRASHES": 1, "TURNS": 1},
    "a third party appends": {"THIRD": 1, "EDITS": 1, "CRASHES": 1, "TURNS": 1, "PEERS": 0},
    "a third party rewrites": {"THIRD": 2, "EDITS": 1, "CRASHES": 1, "TURNS": 1, "PEERS": 0},
    "a third party and a turn that is out": {"THIRD": 2, "CRASHES": 1, "PEERS": 0},
}

# What holds, in the long form.
LONG: dict[str, Switches] = {
    "an edit and a kill": {"EDITS": 1, "CRASHES": 1},
    "two edits": {"EDITS": 2},
    "two edits of a large file": {"LARGE": 1, "EDITS": 2},
    "two edits and two kills": {"EDITS": 2, "CRASHES": 2, "TURNS": 1},
    "coarse stamps": {"TICKS": 2, "EDITS": 1, "TURNS": 1},
    "coarse stamps of a large file": {"TICKS": 2, "LARGE": 1, "EDITS": 1, "TURNS": 1},
    "a lost record and a kill": {"LOSSES": 1, "EDITS": 1, "CRASHES": 1},
    "a third party among all": {"THIRD": 1, "CRASHES": 1},
    "a new transcript": {"NEW": 1, "EDITS": 2, "CRASHES": 1, "TURNS": 1},
}

# A rule of the protocol that is left out, and the property it was there for.
ALONE: Switches = {"TURNS": 1, "PEERS": 0}
WITHOUT: dict[str, tuple[Switches, str]] = {
    "REREAD": ({"EDITS": 1, **ALONE}, "laundered"),
    "TRUSTING": ({"THIRD": 1, "EDITS": 1, **ALONE}, "laundered"),
    "READ_NEW": ({"NEW": 1, "EDITS": 1, **ALONE}, "laundered"),
    "NO_INTENT": ({"CRASHES": 1, **ALONE}, "false_alarm"),
    "FORGETFUL": ({"CRASHES": 1, **ALONE}, "false_alarm"),
    "NO_LOCK": ({"TURNS": 1}, "false_alarm"),
    "ONE_PLACE": ({"CRASHES": 1, **ALONE}, "false_alarm"),
    "CUT_BLIND": ({"CRASHES": 1, "EDITS": 1, **ALONE}, "destroyed"),
    "FRESH_STAT": ({"LARGE": 1, "EDITS": 1, **ALONE}, "blind"),
    "UNSETTLED": ({"LARGE": 1, "EDITS": 1, "TICKS": 1, **ALONE}, "blind"),
    "TAKEN_LATE": ({"LARGE": 1, "EDITS": 1, "TICKS": 1, **ALONE}, "blind"),
    "SETTLED_ANEW": ({"LARGE": 1, "EDITS": 1, "TICKS": 1, "TURNS": 1}, "blind"),
    "UNPROVEN_PEER": ({"LARGE": 1, "EDITS": 1, "TURNS": 1}, "blind"),
    "UNPROVEN_RETURN": ({"EDITS": 1, **ALONE}, "blind"),
    "UNRECORDED": ({"EDITS": 1, "PEERS": 0}, "unseen"),
    "BY_VERSION": ({"LOSSES": 1, "PEERS": 0}, "unseen"),
    "NO_TOKEN": ({"PEERS": 0}, "zombie"),
    "ACK_EARLY": ({"CRASHES": 1, **ALONE}, "lost"),
    "UNSALVAGED": ({"CRASHES": 1, **ALONE}, "lost"),
    "GIVEN_UP_FIRST": ({"CRASHES": 2, "TURNS": 1}, "lost"),
    "LASTING_LOCK": ({"CRASHES": 1, **ALONE}, "deadlock"),
}

# What the protocol does not promise: a promise that is asked for, and the property that shows it is not kept.
LIMITS: dict[str, tuple[Switches, str]] = {
    "AT_ONCE": ({"LARGE": 1, "EDITS": 1, "TURNS": 1}, "blind"),
    "CUT_APART": ({"CRASHES": 1, "EDITS": 1, "TURNS": 1}, "destroyed"),
}

JOURNAL_WITHOUT = {"ONE_PLACE": "forgotten", "NO_CHECKSUM": "torn", "OLDEST": "old", "PAYLOAD_LATE": "unknown"}


def fence(switches: Switches, *, large: bool = False) -> Run:
    return Run(model="fence.pml", switches=tuple(switches.items()), large=large)


def left_out(rules: dict[str, tuple[Switches, str]]) -> list[tuple[Run, str]]:
    """With each of these, only the property that is named is looked at."""
    return [(fence({rule: 1, "ONLY": broken, **switches}), broken) for rule, (switches, broken) in rules.items()]


JOURNAL = Run(model="journal.pml")
HOLDING = [fence(switches) for switches in HOLDS.values()]


@pytest.fixture(scope="module")
def verify(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Verify, None, None]:
    """Tell the verdict on a run. Each is made once, two at a time; those of the tests that were chosen are begun."""
    require_spin()
    verdicts: dict[Run, Future[Verdict]] = {}
    with ThreadPoolExecutor(2) as pool:

        def begin(run: Run) -> Future[Verdict]:
            if run not in verdicts:
                verdicts[run] = pool.submit(verified, run, tmp_path_factory.mktemp("spin"))
            return verdicts[run]

        for item in request.session.items:
            run = getattr(getattr(item, "callspec", None), "params", {}).get("run")
            if isinstance(run, Run) and not run.large:
                begin(run)
        try:
            yield lambda run: begin(run).result()
        finally:
            pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("run", HOLDING, ids=list(HOLDS))
def test_the_fence_holds(verify: Verify, run: Run) -> None:
    """Nothing foreign becomes owned, no owned write is an alarm, nothing is lost, in every order there is."""
    verdict = verify(run)
    assert verdict.violated == "", verdict.output
    assert verdict.complete
    assert verdict.states > 10_000


@pytest.mark.parametrize("run", [fence(switches, large=True) for switches in LONG.values()], ids=list(LONG))
def test_the_fence_holds_within_wider_bounds(verify: Verify, run: Run, long_form: bool) -> None:
    """The same with more of them at once; minutes."""
    if not long_form:
        pytest.skip("minutes: --long")
    verdict = verify(run)
    assert verdict.violated == "", verdict.output
    assert verdict.complete
    assert verdict.states > 500_000


@pytest.mark.parametrize(("run", "broken"), left_out(WITHOUT), ids=list(WITHOUT))
def test_every_rule_of_the_fence_is_needed(verify: Verify, run: Run, broken: str) -> None:
    """Without it the verifier finds the property violated that it is there for."""
    assert verify(run).violated == broken.replace("deadlock", "invalid end state")


@pytest.mark.parametrize(("run", "broken"), left_out(LIMITS), ids=list(LIMITS))
def test_what_is_not_promised_is_not_kept(verify: Verify, run: Run, broken: str) -> None:
    """The limits that the documents name are real: asked for more, the verifier finds where it is not kept."""
    assert verify(run).violated == broken


def test_every_step_of_the_fence_is_taken(verify: Verify) -> None:
    """The verifications are about what is in the model: each statement is executed by somebody in one of them."""
    made, reached = set[Statement](), set[Statement]()
    for verdict in map(verify, HOLDING):
        made |= verdict.reached | verdict.unreached
        reached |= verdict.reached
    assert {process for process, _, _ in made} == {"Turn", "Peer", "Third", "Editor", "Time", "init"}
    # What a peer or a third party does in a function of the protocol, a turn does too.
    assert {found for found in made - reached if found[0] in ("Turn", "Editor", "Time")} == set()
    assert {found[1:] for found in made} - {found[1:] for found in reached} == set()


def test_the_two_places_of_a_journal_are_one_record(verify: Verify) -> None:
    """Whoever is killed, what is read is the last record that was written, and the payload is that of its intent."""
    verdict = verify(JOURNAL)
    assert verdict.violated == "", verdict.output
    assert verdict.complete
    assert verdict.states > 1_000
    assert {found for found in verdict.unreached if found[0] == "Writer"} == set()


@pytest.mark.parametrize("rule", JOURNAL_WITHOUT)
def test_every_rule_of_the_journal_is_needed(verify: Verify, rule: str) -> None:
    """Without it the verifier finds the property violated that it is there for."""
    assert verify(Run(model="journal.pml", switches=((rule, 1),))).violated == JOURNAL_WITHOUT[rule]


@pytest.mark.parametrize("name", ["spin", "gcc"])
def test_a_missing_tool_is_a_failure_on_ci_and_a_skip_elsewhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """CI can not pass without the models; whoever has no spin is told what to install."""

    def which(asked: str) -> str | None:
        return None if asked == name else f"bin/{asked}"

    monkeypatch.setattr("shutil.which", which)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{name} not found; Debian has both"):
        require_spin()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"{name} not found"):
        require_spin()
