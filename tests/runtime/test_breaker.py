"""The circuit breaker: any calls and results in any order keep its laws."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.delivery import CircuitBreaker
from pipeline.options import Duration
from pipeline.runtime.breaker import Breaker, Circuit

FAILURES, COOL_DOWN = 3, 10.0
POLICY = CircuitBreaker(failures=FAILURES, cool_down=Duration(COOL_DOWN))


def fail(breaker: Breaker, times: int = 1, now: float = 0.0, retry_after: float | None = None) -> bool:
    opened = False
    for _ in range(times):
        opened = breaker.failed(breaker.began(), now, retry_after)
    return opened


def test_it_opens_with_the_last_of_so_many_failures_in_a_row_and_says_so_once() -> None:
    breaker = Breaker(POLICY)
    assert not fail(breaker, FAILURES - 1)
    assert breaker.wait_s(0.0) == 0
    assert fail(breaker)
    assert (breaker.state, breaker.wait_s(4.0)) == (Circuit.OPEN, 6.0)


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(POLICY)
    for _ in range(10):
        fail(breaker, FAILURES - 1)
        breaker.answered(breaker.began())
    assert breaker.state is Circuit.CLOSED


def test_after_the_cool_down_one_call_goes_and_its_result_decides() -> None:
    breaker = Breaker(POLICY)
    fail(breaker, FAILURES)
    probe = breaker.began()
    assert (breaker.state, breaker.wait_s(11.0)) == (Circuit.HALF_OPEN, float("inf"))
    assert not breaker.failed(probe, 11.0), "it was open already"
    assert breaker.wait_s(11.0) == COOL_DOWN
    assert breaker.answered(breaker.began())
    assert (breaker.state, breaker.wait_s(21.0)) == (Circuit.CLOSED, 0.0)


def test_retry_after_opens_it_at_once_for_as_long_as_the_backend_asks() -> None:
    breaker = Breaker(POLICY)
    assert fail(breaker, retry_after=2.0)
    assert breaker.wait_s(0.0) == 2.0
    assert not breaker.failed(breaker.began(), 2.0, 30.0)
    assert breaker.wait_s(2.0) == 30.0


def test_calls_that_began_before_it_opened_do_not_close_it() -> None:
    breaker = Breaker(POLICY)
    early = breaker.began()
    fail(breaker, FAILURES)
    assert not breaker.answered(early)
    assert breaker.wait_s(0.0) == COOL_DOWN


def test_a_probe_that_is_cut_off_makes_room_for_the_next() -> None:
    breaker = Breaker(POLICY)
    fail(breaker, FAILURES)
    breaker.abandoned(breaker.began())
    assert (breaker.state, breaker.wait_s(10.0)) == (Circuit.OPEN, 0.0)


def test_turned_off_it_never_opens() -> None:
    breaker = Breaker(CircuitBreaker(enabled=False))
    assert not fail(breaker, 100, retry_after=60.0)
    assert breaker.wait_s(0.0) == 0


class Machine(RuleBasedStateMachine):
    """Senders that call whenever they may, and a backend of any mood."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(POLICY)
        self.now = 0.0
        self.calls: list[int] = []
        self.since_open: list[int] = []
        """Calls that began after it was last opened and have no result yet."""
        self.in_a_row = 0

    @rule(seconds=st.floats(0, 20))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.breaker.wait_s(self.now) == 0)
    @rule()
    def call(self) -> None:
        was_open = self.breaker.state is Circuit.OPEN
        self.calls.append(self.breaker.began())
        if was_open:
            self.since_open.append(self.calls[-1])
        assert len(self.since_open) <= 1, "a second probe went"

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), asked=st.none() | st.floats(0, 60))
    def failure(self, data: st.DataObject, asked: float | None) -> None:
        call = self._end(data)
        was = self.breaker.state
        self.in_a_row += was is Circuit.CLOSED
        opened = self.breaker.failed(call, self.now, asked)
        assert opened == (was is Circuit.CLOSED and (self.in_a_row >= FAILURES or bool(asked)))
        if opened or call in self.since_open:
            assert self.breaker.wait_s(self.now) >= (asked or 0) - 1e-6
            self.since_open = []
        assert self.breaker.state is not Circuit.CLOSED or was is Circuit.CLOSED, "a failure closed it"

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        call = self._end(data)
        was = self.breaker.state
        closed = self.breaker.answered(call)
        assert closed == (was is not Circuit.CLOSED and call in self.since_open)
        if closed or was is Circuit.CLOSED:
            self.in_a_row, self.since_open = 0, []

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cut_off(self, data: st.DataObject) -> None:
        call = self._end(data)
        self.breaker.abandoned(call)
        if call in self.since_open:
            self.since_open = []

    @invariant()
    def it_never_stays_shut_for_ever(self) -> None:
        if not self.since_open:
            assert self.breaker.wait_s(self.now) <= 60 + 1e-6, "longer than any wait that was asked for"
            assert self.breaker.wait_s(self.now + 61) == 0

    @invariant()
    def half_open_is_when_a_probe_is_out(self) -> None:
        assert (self.breaker.state is Circuit.HALF_OPEN) == bool(self.since_open)

    def _end(self, data: st.DataObject) -> int:
        return self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
