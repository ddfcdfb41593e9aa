"""The read timeout that clients tell bounds how long their requests stand in line."""

import asyncio

import pytest

from support.asgi_staged import KEY, StagedApp, laned, post, serving
from support.asgi_wire import Wire, scope_of
from support.lanes_visitors import loop_lanes, on_virtual_time
from turnlane import Enqueue, Interrupt, Reject, keys
from turnlane.asgi.deadlines import bounded_by_client
from turnlane.policies import Policy

NAME = b"x-stainless-read-timeout"
OTHER = b"x-stainless-timeout"


@pytest.mark.parametrize(
    ("policy", "value", "expected"),
    [
        (Enqueue(), b"12.5", 12.5),
        (Enqueue(wait_timeout=None), b"12.5", 12.5),
        (Interrupt(), b"600", 300.0),
        (Enqueue(wait_timeout=5), b"600", 5.0),
        (Enqueue(), b"nan", 300.0),
        (Enqueue(), b"inf", 300.0),
        (Enqueue(wait_timeout=None), b"-1", None),
        (Enqueue(), b"soon", 300.0),
        (Enqueue(), b"\xff", 300.0),
    ],
)
def test_the_shorter_of_both_counts(policy: Policy, value: bytes, expected: float | None) -> None:
    """What is no positive number of seconds is passed over."""
    bounded = bounded_by_client(policy, {"headers": [(NAME, value)]})
    assert not isinstance(bounded, Reject)
    assert bounded.wait_timeout == expected
    assert type(bounded) is type(policy)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(OTHER, b"12")], 12.0),
        ([(NAME, b"20"), (OTHER, b"12")], 12.0),
        ([(OTHER, b"12"), (NAME, b"5")], 5.0),
        ([(OTHER, b"0"), (NAME, b"5")], 5.0),
        ([(NAME, b"soon"), (NAME, b"7")], 7.0),
        ([(NAME, b"1e400")], 300.0),
    ],
)
def test_the_shortest_of_several_counts(headers: list[tuple[bytes, bytes]], expected: float) -> None:
    """Clients for Node send another header, in whole seconds: one of less than a second says 0, which says nothing."""
    bounded = bounded_by_client(Enqueue(), {"headers": headers})
    assert bounded == Enqueue(wait_timeout=expected)


@pytest.mark.parametrize(
    ("passed", "expected"), [(0.0, 10.0), (0.09, 10.0), (0.1, 9.9), (4.05, 6.0), (10.0, 0.0), (99.0, 0.0), (1e-9, 10.0)]
)
def test_what_has_passed_since_the_arrival_counts(passed: float, expected: float) -> None:
    """In steps, so that those who wait equally long share a timer; never below nothing."""
    bounded = bounded_by_client(Enqueue(), {"headers": [(NAME, b"10")]}, passed=passed)
    assert isinstance(bounded, Enqueue)
    assert bounded.wait_timeout == pytest.approx(expected)


@on_virtual_time
async def test_the_deadline_is_measured_from_arrival() -> None:
    """A body that holds the key takes four of ten seconds to come: six are left for the line."""
    app, lanes = StagedApp(), loop_lanes()
    middleware = laned(app, lanes=lanes, key=keys.json_body("key"))
    holding, late = Wire(), Wire()
    holder = holding.call(middleware, scope_of(name="holder"))
    holding.body(b'{"key": "a"}')
    await app.entered("holder")
    loop = asyncio.get_running_loop()
    began = loop.time()
    task = late.call(middleware, scope_of(name="late", headers=[(NAME, b"10")]))
    late.body(b'{"key": ', more=True)
    await asyncio.sleep(4)
    late.body(b'"a"}')
    await task
    assert late.status == 503
    assert loop.time() - began == pytest.approx(10.0)
    app.release("holder")
    await holder


def test_who_does_not_wait_has_no_bound() -> None:
    """`Reject` stays as it is, and so does a request without the header."""
    assert bounded_by_client(Reject(), {"headers": [(NAME, b"1")]}) == Reject()
    assert bounded_by_client(Enqueue(), {"headers": []}) == Enqueue()


async def test_a_request_leaves_the_line_when_its_client_has_given_up() -> None:
    """Answered as any wait that took too long."""
    app = StagedApp()
    middleware = laned(app)
    async with serving(middleware) as driver:
        holder = post(driver, "alice", "holder")
        await app.entered("holder")
        headers = {KEY: "alice", "x-name": "late", NAME.decode(): "0.01"}
        late = await driver.start("POST", "/", headers=headers).response()
        assert (late.status, late.json()["error"]["code"]) == (503, "wait_timeout")
        app.release("holder")
        assert (await holder.response()).status == 200
