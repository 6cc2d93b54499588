"""A pool hands out blank sandboxes, each to one user, within its bounds, and leaves none behind."""

import io
import random
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from sandboxes import Backend, ExecResult, SandboxError, SandboxLost, SandboxSpec, SandboxUnavailable
from sandboxes.base import Content
from sandboxes.fake import FakeBackend, FakeSandbox, Files, succeed
from sandboxes.pool.pool import Pool
from sandboxes.pool.throttle import Throttle

WORK = SandboxSpec("any")
GRADING = replace(WORK, role="grading")
SOON_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Engine(FakeBackend):
    """Takes its time, fails when it is told to, and knows how many starts were under way at once."""

    def __init__(self, *, start_s: float = 0.0) -> None:
        super().__init__(run=self._run_command)
        self.start_s = start_s
        self.at_work: Callable[[], object] = lambda: None
        self.down = False
        self.failing: Callable[[], Exception | None] = lambda: None
        self.missing: set[str] = set()
        self.most_at_once = 0
        self._under_way = 0
        self._counting = threading.Lock()

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> FakeSandbox:
        with self._counting:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            time.sleep(self.start_s)
            if self.down:
                raise SandboxUnavailable("no engine answers")
            if spec.image in self.missing:
                raise SandboxUnavailable(f"image {spec.image} is not there")
            error = self.failing()
            if error is not None:
                raise error
            with self._counting:
                return super().open(spec, timeout_s=timeout_s, content=content)
        finally:
            with self._counting:
                self._under_way -= 1

    def _run_command(self, command: str | Sequence[str], files: Files) -> ExecResult:
        self.at_work()
        return succeed(command, files)

    def has_image(self, ref: str) -> bool:
        if self.down:
            raise SandboxUnavailable("no engine answers")
        return ref not in self.missing

    def alive(self) -> list[FakeSandbox]:
        """Every sandbox that was not ended, after however many lives."""
        latest = []
        for opened in list(self.opened):
            sandbox = opened
            while sandbox.successor is not None:
                sandbox = sandbox.successor
            latest.append(sandbox)
        return [sandbox for sandbox in latest if not sandbox.closed]


@dataclass
class Scene:
    engine: Engine
    clock: Clock
    made: list[Pool] = field(default_factory=list)

    def pool(self, **options: object) -> Pool:
        given = {"ready": 4, "clock": self.clock, "spare_memory": lambda: 1.0, **options}
        pool = Pool(self.engine, **given)  # pyright: ignore[reportArgumentType]
        self.made.append(pool)
        return pool


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene(Engine(), Clock())
    yield made
    for pool in made.made:
        pool.close()
    assert not made.engine.alive(), "something was left behind"


def settled(pool: Pool) -> Pool:
    assert pool.settle(timeout_s=SOON_S)
    return pool


def content(**files: bytes) -> Content:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return Content(str(sorted(files)), buffer.getvalue)


def test_it_is_a_backend_whose_sandboxes_hold_what_they_were_opened_with(scene: Scene) -> None:
    pool = scene.pool()
    assert isinstance(pool, Backend) and pool.name == "fake"
    sandbox = pool.open(WORK, timeout_s=SOON_S, content=content(a=b"1"))
    assert sandbox.read("a", timeout_s=1) == b"1" and sandbox.spec == WORK
    sandbox.close()
    again = settled(pool).open(WORK, timeout_s=SOON_S, content=content(b=b"2"))
    assert again.listdir(".", timeout_s=1) == ["b"]


def test_the_second_is_warm_and_the_two_roles_never_mix(scene: Scene) -> None:
    pool = scene.pool()
    pool.open(WORK, timeout_s=SOON_S).close()
    settled(pool).open(WORK, timeout_s=SOON_S)
    assert pool.stats().warm == 1
    settled(pool).open(GRADING, timeout_s=SOON_S)
    assert pool.stats().warm == 1 and pool.stats().handed_out == 3
    assert {sandbox.spec.role for sandbox in scene.engine.opened} == {"work", "grading"}


def test_a_late_call_of_an_old_user_never_reaches_the_next_one(scene: Scene) -> None:
    pool = scene.pool(ready=1)
    old = pool.open(WORK, timeout_s=SOON_S)
    old.close()
    old.close()
    new = settled(pool).open(WORK, timeout_s=SOON_S)
    for call in (lambda: old.write("x", b"", timeout_s=1), lambda: old.exec("true", timeout_s=1)):
        with pytest.raises(SandboxLost):
            call()
    assert new.listdir(".", timeout_s=1) == []


def test_what_was_lost_or_in_use_when_it_was_closed_is_thrown_away(scene: Scene) -> None:
    pool = scene.pool(ready=1)
    lost = pool.open(WORK, timeout_s=SOON_S)
    scene.engine.opened[0].shut()
    with pytest.raises(SandboxLost):
        lost.read("x", timeout_s=1)
    lost.close()
    settled(pool)
    busy = pool.open(WORK, timeout_s=SOON_S)
    running, finish = threading.Event(), threading.Event()
    scene.engine.at_work = lambda: (running.set(), finish.wait(SOON_S))
    with ThreadPoolExecutor(1) as thread:
        thread.submit(busy.exec, "true", timeout_s=SOON_S)
        assert running.wait(SOON_S)
        busy.close()
        finish.set()
    assert settled(pool).stats().recycled == 0 and pool.stats().thrown_away == 2


def test_recycling_can_be_asked_for_by_the_user_too(scene: Scene) -> None:
    pool = scene.pool()
    first = pool.open(WORK, timeout_s=SOON_S)
    first.write("x", b"", timeout_s=1)
    second = first.recycled(timeout_s=1)
    assert second is not None and second.listdir(".", timeout_s=1) == []
    with pytest.raises(SandboxLost):
        first.listdir(".", timeout_s=1)
    assert pool.stats().in_use == 1 and first.recycled(timeout_s=1) is None
    second.close()


def test_without_room_nothing_is_kept_and_without_recycling_nothing_comes_back(scene: Scene) -> None:
    none, fresh = scene.pool(ready=0), scene.pool(recycle=False)
    for pool in (none, fresh):
        for _ in range(3):
            pool.open(WORK, timeout_s=SOON_S).close()
            settled(pool)
            scene.clock.now += 1
        assert pool.stats().recycled == 0
    assert none.stats().started == none.stats().thrown_away == 3
    assert fresh.stats().warm == 2 and fresh.stats().idle == 2


def test_there_are_as_many_as_were_in_use_at_once_and_one_more_within_the_bound(scene: Scene) -> None:
    pool = scene.pool(ready=5)
    held = [pool.open(WORK, timeout_s=SOON_S) for _ in range(3)]
    assert settled(pool).stats().idle == 1
    held.pop().close()
    assert settled(pool).stats().idle == 2 and pool.stats().started == 4
    pool.expect(GRADING, 2)
    assert settled(pool).stats().idle == 4
    pool.expect(GRADING, 50)
    assert settled(pool).stats().idle == 5, "the bound is for all specs together"


def test_what_comes_back_serves_and_is_not_started_anew(scene: Scene) -> None:
    pool = scene.pool(ready=2)
    for _ in range(100):
        held = [pool.open(WORK, timeout_s=SOON_S) for _ in range(2)]
        for sandbox in held:
            sandbox.close()
        settled(pool)
    stats = pool.stats()
    assert stats.started <= 4 and stats.recycled > 190 and stats.warm > 190, stats


def test_crowds_of_different_specs_in_turns_start_nothing_after_the_first_turn(scene: Scene) -> None:
    pool = scene.pool(ready=2, kept=12)
    for turn in range(10):
        for spec in (WORK, GRADING):
            held = [pool.open(spec, timeout_s=SOON_S) for _ in range(6)]
            for sandbox in held:
                sandbox.close()
            settled(pool)
        if turn == 0:
            begun = pool.stats().started
    assert pool.stats().started == begun <= 14 and pool.stats().idle <= 12


def test_what_comes_back_is_kept_only_while_memory_is_free(scene: Scene) -> None:
    free = [1.0]
    pool = scene.pool(ready=1, kept=8, spare_memory=lambda: free[0])
    held = [pool.open(WORK, timeout_s=SOON_S) for _ in range(4)]
    free[0] = 0.1
    for sandbox in held:
        sandbox.close()
        settled(pool)
    assert pool.stats().idle == 1


def test_what_waits_without_demand_is_ended(scene: Scene) -> None:
    pool = scene.pool(idle_s=60.0)
    pool.expect(WORK, 3)
    settled(pool)
    scene.clock.now += 59
    pool.tend()
    assert settled(pool).stats().idle == 3
    scene.clock.now += 2
    pool.tend()
    assert settled(pool).stats().idle == 0 and not scene.engine.alive()


def test_idle_ones_end_by_themselves(scene: Scene) -> None:
    pool = scene.pool(idle_s=0.2, clock=time.monotonic)
    pool.expect(replace(WORK, lifetime_s=10.0), 2)
    deadline = time.monotonic() + SOON_S
    while pool.stats().thrown_away < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert pool.stats().thrown_away == 2 and pool.stats().idle == 0


def test_a_spec_that_is_quiet_makes_room_for_one_that_is_wanted(scene: Scene) -> None:
    pool = scene.pool(ready=2)
    pool.expect(WORK, 2)
    settled(pool)
    scene.clock.now += 1
    pool.expect(GRADING, 1)
    assert {sandbox.spec for sandbox in (settled(pool), scene.engine.alive())[1]} == {WORK}, (
        "it may be wanted soon"
    )
    scene.clock.now += 10
    pool.expect(GRADING, 1)
    settled(pool)
    assert sorted(sandbox.spec.role for sandbox in scene.engine.alive()) == ["grading", "work"]


def test_nothing_is_started_ahead_when_memory_is_short_or_lives_are(scene: Scene) -> None:
    pool = scene.pool(spare_memory=lambda: 0.1)
    pool.expect(WORK, 2)
    pool.open(WORK, timeout_s=SOON_S)
    assert settled(pool).stats().started == 1
    short = scene.pool()
    short.expect(replace(WORK, lifetime_s=5.0), 2)
    assert settled(short).stats().started == 0


def test_one_that_has_waited_its_lifetime_away_is_renewed_or_replaced(scene: Scene) -> None:
    spec = replace(WORK, lifetime_s=600.0)
    for recycle, recycled, ended in ((True, 1, 0), (False, 0, 1)):
        pool = scene.pool(ready=1, idle_s=60.0, recycle=recycle)
        pool.expect(spec)
        settled(pool)
        scene.clock.now += 59
        pool.expect(spec)
        settled(pool)
        scene.clock.now += 2
        pool.tend()
        stats = settled(pool).stats()
        assert (stats.idle, stats.recycled, stats.thrown_away) == (1, recycled, ended)


def test_dead_idle_ones_are_found_and_replaced(scene: Scene) -> None:
    pool = scene.pool()
    pool.expect(WORK, 3)
    settled(pool)
    for sandbox in scene.engine.alive()[1:]:
        sandbox.close()
    scene.clock.now += 2
    opened = [pool.open(WORK, timeout_s=SOON_S) for _ in range(2)]
    for sandbox in opened:
        sandbox.ping(timeout_s=1)
    assert settled(pool).stats().thrown_away == 2


def test_one_that_died_since_it_was_looked_at_is_replaced_when_content_is_laid(scene: Scene) -> None:
    pool = scene.pool(ready=1)
    pool.expect(WORK)
    settled(pool)
    scene.engine.alive()[0].close()
    sandbox = pool.open(WORK, timeout_s=SOON_S, content=content(a=b"1"))
    assert sandbox.read("a", timeout_s=1) == b"1"


def test_content_that_cannot_be_laid_is_the_callers_error_and_leaves_nothing(scene: Scene) -> None:
    pool = scene.pool()
    with pytest.raises(ValueError, match="outside"):
        pool.open(WORK, timeout_s=SOON_S, content=content(**{"../out": b""}))
    assert pool.stats().in_use == 0


# What the engine does


def test_a_missing_image_is_told_at_once_to_all_who_wait(scene: Scene) -> None:
    scene.engine.missing.add("any")
    scene.engine.start_s = 0.1
    pool = scene.pool()
    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        told = [threads.submit(pool.open, WORK, timeout_s=SOON_S) for _ in range(8)]
    assert all("is not there" in str(future.exception()) for future in told)
    assert time.monotonic() - started < 2


def test_the_pools_clock_says_nothing_about_how_long_a_start_took(scene: Scene) -> None:
    """A missing image is an answer of the engine, however far the clock is from the machine's."""
    scene.engine.missing.add("any")
    pool = scene.pool()
    for now in (-1e9, 1e9):
        scene.clock.now = now
        started = time.monotonic()
        with pytest.raises(SandboxUnavailable, match="is not there"):
            pool.open(WORK, timeout_s=5)
        assert time.monotonic() - started < 2


def test_a_refused_start_is_tried_once_more_whatever_the_pools_clock(scene: Scene) -> None:
    pool = scene.pool()
    scene.engine.failing = lambda: SandboxUnavailable("the disk is full")
    for now in (-1e9, 1e9):
        scene.clock.now = now
        started = time.monotonic()
        with pytest.raises(SandboxUnavailable, match="the disk is full"):
            pool.open(WORK, timeout_s=5)
        assert time.monotonic() - started < 2


def test_a_start_that_is_refused_is_told_unchanged_and_not_tried_for_ever(scene: Scene) -> None:
    class Full(SandboxUnavailable):
        pass

    pool = scene.pool()
    scene.engine.failing = lambda: Full("the disk is full")
    with pytest.raises(Full, match="the disk is full"):
        pool.open(WORK, timeout_s=SOON_S)
    assert settled(pool).stats().failed <= 3
    scene.engine.failing = ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        pool.open(WORK, timeout_s=SOON_S)


def test_an_engine_that_comes_back_within_the_deadline_costs_nobody_anything(scene: Scene) -> None:
    pool = scene.pool(clock=time.monotonic)
    scene.engine.down = True
    with ThreadPoolExecutor(4) as threads:
        opened = [threads.submit(pool.open, WORK, timeout_s=SOON_S) for _ in range(4)]
        time.sleep(0.4)
        scene.engine.down = False
        assert all(future.result().spec == WORK for future in opened)
    assert 1 <= pool.stats().failed < 12, "it backed off"


def test_an_engine_that_stays_away_is_told_at_the_deadline(scene: Scene) -> None:
    pool = scene.pool(clock=time.monotonic)
    scene.engine.down = True
    started = time.monotonic()
    with pytest.raises(SandboxUnavailable, match="no engine answers"):
        pool.open(WORK, timeout_s=0.5)
    assert 0.4 < time.monotonic() - started < 2


def test_a_deadline_is_kept_while_waiting_for_a_turn_and_the_start_is_not_wasted(scene: Scene) -> None:
    scene.engine.start_s = 1.0
    pool = scene.pool()
    started = time.monotonic()
    with pytest.raises(SandboxUnavailable, match=r"within 0\.2 s"):
        pool.open(WORK, timeout_s=0.2)
    assert time.monotonic() - started < 0.8
    assert settled(pool).stats().idle >= 1


@pytest.mark.slow
def test_an_engine_that_becomes_slow_gets_fewer_starts_at_once(scene: Scene) -> None:
    throttle = Throttle(4, 4)
    pool = scene.pool(ready=0, throttle=throttle)

    def open_eight() -> int:
        scene.engine.most_at_once = 0
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: pool.open(WORK, timeout_s=SOON_S), range(8)))
        return scene.engine.most_at_once

    scene.engine.start_s = 0.01
    assert open_eight() == 4
    scene.engine.start_s = 0.4
    open_eight()
    assert throttle.width <= 2 and open_eight() <= 2


# Many users at once


def test_under_load_each_has_a_blank_one_alone_and_the_bounds_hold(scene: Scene) -> None:
    chance = random.Random(7)
    scene.engine.start_s = 0.002
    scene.engine.failing = lambda: SandboxUnavailable("bad luck") if chance.random() < 0.05 else None
    pool = scene.pool(ready=3, kept=5, clock=time.monotonic)
    held: set[int] = set()
    lock = threading.Lock()
    wrong: list[str] = []

    def episode(number: int) -> None:
        spec = replace(WORK, memory_mb=100 + number % 3)
        try:
            sandbox = pool.open(spec, timeout_s=SOON_S)
        except SandboxError as error:
            if "bad luck" not in str(error):
                wrong.append(str(error))
            return
        name = id(sandbox.files)
        with lock:
            if name in held:
                wrong.append("two users had the same sandbox")
            held.add(name)
        if sandbox.listdir(".", timeout_s=1) or sandbox.spec != spec:
            wrong.append("what was handed out was not blank, or not what was asked for")
        sandbox.write("mine", b"x", timeout_s=1)
        with lock:
            held.remove(name)
        sandbox.close()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(episode, range(400)))
    stats = settled(pool).stats()
    assert not wrong, wrong
    assert stats.in_use == 0 and stats.idle <= 5
    assert stats.started - stats.thrown_away == stats.idle == len(scene.engine.alive())
    assert stats.warm > 100 and stats.recycled > 100, stats
    assert scene.engine.most_at_once <= 8


def test_closing_under_load_leaves_nothing_open_and_tells_who_waits(scene: Scene) -> None:
    scene.engine.start_s = 0.05
    pool = scene.pool(ready=4, clock=time.monotonic)
    told: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                pool.open(WORK, timeout_s=SOON_S).close()
        except SandboxUnavailable as error:
            told.append(error)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    pool.close()
    for thread in threads:
        thread.join(SOON_S)
    pool.close()
    assert len(told) == 12 and all("closed" in str(error) for error in told)
    assert not scene.engine.alive()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sandbox ")]
    assert pool.stats().started == pool.stats().thrown_away
