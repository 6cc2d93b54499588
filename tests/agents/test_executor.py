"""Many episodes at once: order, retries, and an end that leaves nothing behind."""

import signal
import threading
import time

import pytest

from agents.executor import EpisodeRequest, ThreadExecutor, WorkerLost, play_many
from agents.policies.scripted import SUBMIT, ScriptedPolicy
from agents.rollout import run_episode
from envs.types import Limits, StopReason, ToolCall

VIEW = ToolCall("", "view", {})
SUBMITTING = ScriptedPolicy([SUBMIT])


class Factory:
    """Makes environments and remembers them."""

    def __init__(self, make, tasks, *first, **rest):
        """The n-th environment gets the n-th options, those after them `rest`."""
        self.make, self.tasks, self.first, self.rest, self.made = make, tasks, list(first), rest, []

    def __call__(self):
        options = self.first.pop(0) if self.first else self.rest
        env = self.make(self.tasks, **options)
        self.made.append(env)
        return env

    def assert_all_closed(self):
        assert self.made
        assert all(env.closed.is_set() for env in self.made)


def episode_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("episode-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert episode_threads() == []


def test_every_request_gives_one_trajectory(make_env, make_task):
    task, calls = make_task(), []
    factory = Factory(make_env, [task])
    requests = [EpisodeRequest(task, seed, f"g{seed % 3}") for seed in range(20)]
    executor = ThreadExecutor(factory, 4)
    found = list(executor.play(requests, SUBMITTING, progress=lambda *state: calls.append(state)))
    assert sorted((t.seed, t.group) for t in found) == [(seed, f"g{seed % 3}") for seed in range(20)]
    assert len({t.id for t in found}) == 20
    assert calls == [("episodes", done, 20) for done in range(1, 21)]
    assert len(factory.made) <= 4
    factory.assert_all_closed()


def test_episodes_run_at_the_same_time_and_come_back_as_they_complete(make_env, make_task):
    task = make_task()
    together = threading.Barrier(4, timeout=5)

    def script(_task, seen):
        if len(seen) == 1:
            together.wait()
        return SUBMIT if len(seen) > 1 else VIEW

    requests = [EpisodeRequest(task, seed) for seed in range(4)]
    found = ThreadExecutor(Factory(make_env, [task]), 4).play(requests, ScriptedPolicy(script))
    assert len(list(found)) == 4


def test_requests_are_taken_only_when_a_slot_is_free(make_env, make_task):
    task, taken = make_task(), []

    def endless():
        seed = 0
        while True:
            taken.append(seed)
            yield EpisodeRequest(task, seed)
            seed += 1

    factory = Factory(make_env, [task])
    episodes = ThreadExecutor(factory, 2).play(endless(), SUBMITTING)
    assert len([next(episodes) for _ in range(5)]) == 5
    assert len(taken) == 7
    episodes.close()
    factory.assert_all_closed()


def test_no_requests_are_no_trajectories(make_env):
    assert list(ThreadExecutor(Factory(make_env, []), 3).play([], SUBMITTING)) == []


def test_an_episode_whose_sandbox_failed_is_begun_anew(make_env, make_task):
    task = make_task()
    factory = Factory(make_env, [task], {"fail_on": ("submit",)})
    (trajectory,) = ThreadExecutor(factory, 1).play([EpisodeRequest(task, 0)], SUBMITTING)
    assert trajectory.stop is StopReason.SUBMITTED
    assert len(factory.made) == 2
    factory.assert_all_closed()


def test_an_episode_that_keeps_failing_comes_back_unscored(make_env, make_task):
    task = make_task()
    factory = Factory(make_env, [task], fail_on=("reset",))
    executor = ThreadExecutor(factory, 1, retries=2)
    found = list(executor.play([EpisodeRequest(task, 0)] * 2, SUBMITTING))
    assert [(t.stop, t.reward) for t in found] == [(StopReason.INFRA, None)] * 2
    assert len(factory.made) == 6
    factory.assert_all_closed()


def test_a_mistake_in_the_program_is_raised_and_everything_is_closed(make_env, make_task):
    task = make_task()

    def script(_task, _seen):
        raise ZeroDivisionError("a mistake")

    factory = Factory(make_env, [task])
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        list(ThreadExecutor(factory, 3).play([EpisodeRequest(task, 0)] * 9, ScriptedPolicy(script)))
    factory.assert_all_closed()


def test_an_environment_that_cannot_be_made_is_raised(make_task):
    def make():
        raise RuntimeError("no task sets")

    with pytest.raises(RuntimeError, match="no task sets"):
        list(ThreadExecutor(make, 2).play([EpisodeRequest(make_task(), 0)] * 3, SUBMITTING))


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_slow_episodes_soon(make_env, make_task):
    task = make_task(limits=Limits(max_turns=1_000))
    slow = Factory(make_env, [task], slow_s=60.0)
    requests = [EpisodeRequest(task, seed) for seed in range(9)]
    episodes = ThreadExecutor(slow, 3).play(requests, ScriptedPolicy([VIEW] * 900))

    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(episodes)
    assert time.monotonic() - started < 10
    slow.assert_all_closed()


def test_an_episode_that_is_being_reset_when_it_all_ends_ends_too(make_env, make_task):
    task = make_task(limits=Limits(max_turns=1_000))
    in_reset, go_on = threading.Event(), threading.Event()

    class Reopening(make_env):
        """Like a real environment, it can be used again after it was closed."""

        def reset(self, **options):
            in_reset.set()
            go_on.wait(5)
            self.closed.clear()
            return super().reset(**options)

    factory = Factory(lambda tasks, slow_s: Reopening(tasks, slow_s=slow_s), [task], slow_s=60.0)
    quick = Factory(make_env, [task])
    makers = [quick, factory]

    def make():
        return makers.pop(0)()

    def script(_task, _seen):
        assert in_reset.wait(5), "the quick episode ends once the other one is being reset"
        return SUBMIT

    episodes = ThreadExecutor(make, 2).play([EpisodeRequest(task, 0)] * 2, ScriptedPolicy(script))
    next(episodes)
    threading.Timer(0.3, go_on.set).start()
    started = time.monotonic()
    episodes.close()
    assert time.monotonic() - started < 10
    factory.assert_all_closed()


class Slot:
    """A slot whose worker loses its first `loses` episodes, and is then gone unless it `stays`."""

    def __init__(self, make_env, *, loses=0, stays=True):
        self.make_env, self.loses, self.stays, self.played = make_env, loses, stays, []

    def make_worker(self, stopping):
        if self.loses < 0 or stopping.is_set():
            raise WorkerLost("it was closed down")
        return self

    def play(self, request):
        self.played.append(request.seed)
        lost = self.loses > 0
        if lost:
            self.loses = self.loses - 1 if self.stays else -1
        env = self.make_env([request.task], fail_on=("reset",) if lost else ())
        return run_episode(env, SUBMITTING, task=request.task, seed=request.seed)

    def close(self):
        pass


def test_what_was_lost_with_a_slot_is_played_in_another(make_env, make_task):
    task = make_task()
    gone, stays = Slot(make_env, loses=1, stays=False), Slot(make_env)
    slots = iter([[gone.make_worker], [], [stays.make_worker]])
    requests = [EpisodeRequest(task, seed) for seed in range(4)]
    found = list(play_many(requests, lambda: next(slots, [])))
    assert sorted((t.seed, t.stop) for t in found) == [(seed, StopReason.SUBMITTED) for seed in range(4)]
    assert len(gone.played) == 1
    assert sorted(stays.played) == [0, 1, 2, 3]


def test_an_episode_that_a_slot_does_not_begin_is_not_counted_as_lost(make_env, make_task):
    """Two slots on one node: what the first lost goes to the second, which has learned meanwhile."""

    class Informed(Slot):
        def play(self, request):
            self.loses = -1
            raise WorkerLost("another slot found the node dead")

    gone, informed, stays = Slot(make_env, loses=1, stays=False), Informed(make_env), Slot(make_env)

    def after_gone(stopping):
        while not gone.played and not stopping.wait(0.01):
            pass
        return informed.make_worker(stopping)

    slots = iter([[gone.make_worker], [after_gone], [], [stays.make_worker]])
    [found] = play_many([EpisodeRequest(make_task(), 0)], lambda: next(slots, []), retries=1)
    assert found.stop is StopReason.SUBMITTED
    assert (gone.played, stays.played) == ([0], [0])


def test_slots_that_come_later_are_used(make_env, make_task):
    task = make_task()
    both = threading.Barrier(2, timeout=5)

    class Meeting(Slot):
        def play(self, request):
            if request.seed >= 2:
                both.wait()
            return super().play(request)

    first, second = Meeting(make_env), Meeting(make_env)
    slots = iter([[first.make_worker], [second.make_worker]])
    requests = [EpisodeRequest(task, seed) for seed in range(4)]
    found = play_many(requests, lambda: next(slots, []))
    assert len(list(found)) == 4
    assert first.played and second.played


def test_a_run_whose_last_slot_is_gone_ends_when_no_other_is_expected(make_env, make_task):
    gone = Slot(make_env, loses=1, stays=False)
    slots = iter([[gone.make_worker]])

    def new_slots():
        try:
            return next(slots)
        except StopIteration:
            raise ConnectionError("nobody is left") from None

    requests = [EpisodeRequest(make_task(), seed) for seed in range(4)]
    with pytest.raises(ConnectionError, match="nobody is left"):
        list(play_many(requests, new_slots))


def test_an_end_does_not_wait_for_a_slot_whose_worker_is_still_being_made(make_env, make_task):
    ready = Slot(make_env)

    def slow(stopping):
        stopping.wait(60)
        raise WorkerLost("nobody came")

    slots = iter([[ready.make_worker, slow]])
    episodes = play_many([EpisodeRequest(make_task(), 0)] * 2, lambda: next(slots, []))
    started = time.monotonic()
    assert len(list(episodes)) == 2
    assert time.monotonic() - started < 10
