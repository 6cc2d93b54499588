"""Many episodes at once: order, retries, and an end that leaves nothing behind."""

import signal
import threading
import time

import pytest

from agents.executor import EpisodeRequest, WorkerLost, play_many, run_many
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
    found = list(
        run_many(requests, factory, SUBMITTING, concurrency=4, progress=lambda *state: calls.append(state))
    )
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

    found = run_many(
        [EpisodeRequest(task, seed) for seed in range(4)],
        Factory(make_env, [task]),
        ScriptedPolicy(script),
        concurrency=4,
    )
    assert len(list(found)) == 4


def test_requests_are_taken_only_when_a_place_is_free(make_env, make_task):
    task, taken = make_task(), []

    def endless():
        seed = 0
        while True:
            taken.append(seed)
            yield EpisodeRequest(task, seed)
            seed += 1

    factory = Factory(make_env, [task])
    episodes = run_many(endless(), factory, SUBMITTING, concurrency=2)
    assert len([next(episodes) for _ in range(5)]) == 5
    assert len(taken) == 7
    episodes.close()
    factory.assert_all_closed()


def test_no_requests_are_no_trajectories(make_env):
    assert list(run_many([], Factory(make_env, []), SUBMITTING, concurrency=3)) == []


def test_an_episode_whose_sandbox_failed_is_begun_anew(make_env, make_task):
    task = make_task()
    factory = Factory(make_env, [task], {"fail_on": ("submit",)})
    (trajectory,) = run_many([EpisodeRequest(task, 0)], factory, SUBMITTING, concurrency=1)
    assert trajectory.stop is StopReason.SUBMITTED
    assert len(factory.made) == 2
    factory.assert_all_closed()


def test_an_episode_that_keeps_failing_comes_back_unscored(make_env, make_task):
    task = make_task()
    factory = Factory(make_env, [task], fail_on=("reset",))
    found = list(run_many([EpisodeRequest(task, 0)] * 2, factory, SUBMITTING, concurrency=1, retries=2))
    assert [(t.stop, t.reward) for t in found] == [(StopReason.INFRA, None)] * 2
    assert len(factory.made) == 6
    factory.assert_all_closed()


def test_a_mistake_in_the_program_is_raised_and_everything_is_closed(make_env, make_task):
    task = make_task()

    def script(_task, _seen):
        raise ZeroDivisionError("a mistake")

    factory = Factory(make_env, [task])
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        list(run_many([EpisodeRequest(task, 0)] * 9, factory, ScriptedPolicy(script), concurrency=3))
    factory.assert_all_closed()


def test_an_environment_that_cannot_be_made_is_raised(make_task):
    def make():
        raise RuntimeError("no task sets")

    with pytest.raises(RuntimeError, match="no task sets"):
        list(run_many([EpisodeRequest(make_task(), 0)] * 3, make, SUBMITTING, concurrency=2))


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_slow_episodes_soon(make_env, make_task):
    task = make_task(limits=Limits(max_turns=1_000))
    slow = Factory(make_env, [task], slow_s=60.0)
    episodes = run_many(
        [EpisodeRequest(task, seed) for seed in range(9)],
        slow,
        ScriptedPolicy([VIEW] * 900),
        concurrency=3,
    )

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

    episodes = run_many(
        [EpisodeRequest(task, 0)] * 2,
        make,
        ScriptedPolicy(script),
        concurrency=2,
    )
    next(episodes)
    threading.Timer(0.3, go_on.set).start()
    started = time.monotonic()
    episodes.close()
    assert time.monotonic() - started < 10
    factory.assert_all_closed()


class Place:
    """A place whose player loses the episodes it is told to, and which may then be gone."""

    def __init__(self, make_env, *, loses=0, stays=True):
        self.make_env, self.loses, self.stays, self.played = make_env, loses, stays, []

    def hire(self, stopping):
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


def test_what_was_lost_with_a_place_is_played_at_another(make_env, make_task):
    task = make_task()
    gone, stays = Place(make_env, loses=1, stays=False), Place(make_env)
    places = iter([[gone.hire], [], [stays.hire]])
    requests = [EpisodeRequest(task, seed) for seed in range(4)]
    found = list(play_many(requests, lambda: next(places, [])))
    assert sorted((t.seed, t.stop) for t in found) == [(seed, StopReason.SUBMITTED) for seed in range(4)]
    assert len(gone.played) == 1
    assert sorted(stays.played) == [0, 1, 2, 3]


def test_an_episode_that_a_place_does_not_begin_is_not_counted_as_lost(make_env, make_task):
    """Two places on one node: what the first lost goes to the second, which has learned meanwhile."""

    class Informed(Place):
        def play(self, request):
            self.loses = -1
            raise WorkerLost("another place found the node dead")

    gone, informed, stays = Place(make_env, loses=1, stays=False), Informed(make_env), Place(make_env)
    places = iter([[gone.hire], [informed.hire], [], [stays.hire]])
    [found] = play_many([EpisodeRequest(make_task(), 0)], lambda: next(places, []), retries=1)
    assert found.stop is StopReason.SUBMITTED
    assert (gone.played, stays.played) == ([0], [0])


def test_places_that_come_later_are_used(make_env, make_task):
    task = make_task()
    both = threading.Barrier(2, timeout=5)

    class Meeting(Place):
        def play(self, request):
            if request.seed >= 2:
                both.wait()
            return super().play(request)

    first, second = Meeting(make_env), Meeting(make_env)
    places = iter([[first.hire], [second.hire]])
    requests = [EpisodeRequest(task, seed) for seed in range(4)]
    found = play_many(requests, lambda: next(places, []))
    assert len(list(found)) == 4
    assert first.played and second.played


def test_a_run_whose_last_place_is_gone_ends_when_no_newcomer_is_expected(make_env, make_task):
    gone = Place(make_env, loses=1, stays=False)
    places = iter([[gone.hire]])

    def newcomers():
        try:
            return next(places)
        except StopIteration:
            raise ConnectionError("nobody is left") from None

    requests = [EpisodeRequest(make_task(), seed) for seed in range(4)]
    with pytest.raises(ConnectionError, match="nobody is left"):
        list(play_many(requests, newcomers))


def test_an_end_does_not_wait_for_a_place_that_is_still_looking_for_its_player(make_env, make_task):
    ready = Place(make_env)

    def slow(stopping):
        stopping.wait(60)
        raise WorkerLost("nobody came")

    places = iter([[ready.hire, slow]])
    episodes = play_many([EpisodeRequest(make_task(), 0)] * 2, lambda: next(places, []))
    started = time.monotonic()
    assert len(list(episodes)) == 2
    assert time.monotonic() - started < 10
