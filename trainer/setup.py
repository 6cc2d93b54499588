"""The parts of a training run, started in order and closed in reverse.

Task sets, Ray, the executor with its sandboxes, the model folder and its codec, the learner, and the engine
with the policy that samples from it. The engine starts at its first use, so that SFT has the machine alone.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agents.chat import ChatCodec
from agents.engine import Sampling
from agents.evals.evaluate import EvalSettings, evaluate_tasks
from agents.executor import EpisodeRequest, Executor, ThreadExecutor, episode_seed
from agents.policies.by_name import TokenPolicy
from agents.policies.demonstrator import DemonstratorPolicy
from agents.runs.store import TrajectoryStore
from agents.types import Policy, Trajectory
from envs.tasksets.taskset import TaskSet, load_taskset
from envs.tools.toolset import tool_specs
from envs.types import Task
from sandboxes.files import write_json
from sandboxes.names import UnknownNameError, resolve
from sandboxes.progress import Progress, silent

from .cluster import session as cluster
from .cluster.executor import RayExecutor, somewhere_else
from .cluster.interruption import Interruption
from .cluster.worker import ENVS, TasksetEnvSpec, open_envs
from .config import Config, TrainError
from .data.buffer import Group
from .data.lessons import Lessons, lesson_text
from .engine.client import EngineSpec, start_engine
from .learning.actor import RemoteLearner
from .learning.sft import Batches, SftSummary, replayed, sft_samples, supervise, taught
from .learning.tiny import make_tiny
from .run import TrainingRun
from .shipped import SHIPPED

TOKENIZER_LESSONS = 1500
"""Lessons that the tokenizer of a tiny model is trained on; more of them add no word."""


class Setup:
    """The parts of a run, and the `loop.RolloutSource` that plays its episodes. Made by `open_setup`."""

    def __init__(
        self, run: TrainingRun, stack: ExitStack, interruption: Interruption, progress: Progress = silent
    ) -> None:
        config = run.config
        self._run, self._config, self._stack, self._interruption = run, config, stack, interruption
        self._progress = progress
        self._tasksets = [load_taskset(folder) for folder in config.tasks.sets]
        self._tasks = {task.id: task for taskset in self._tasksets for task in taskset.tasks}
        train, heldout = config.tasks.train, config.tasks.heldout
        self._train = {name: t for name, t in self._tasks.items() if train in ("all", t.split)}
        self._heldout = [task for task in self._tasks.values() if task.split == heldout]
        if not self._train:
            raise TrainError(f"the task sets hold no task of the split {train!r} to train on")
        self._cluster = stack.enter_context(cluster.start(sandboxes=config.sandbox.concurrency))
        self._executor = open_executor(config, self._tasksets, stack)
        self._store = TrajectoryStore(run.trajectories)
        stack.callback(self._store.close)
        self._model = model_folder(config, run.path, self._tasksets)
        self._codec = ChatCodec.load(str(self._model), config.policy.dialect)
        progress("starting the learner", 0, 1)
        self.learner = RemoteLearner(
            config, self._model, start_s=config.engine.start_s, call_s=config.learner.step_s
        )
        progress("starting the learner", 1, 1)
        stack.callback(self.learner.close)
        self._policy: TokenPolicy | None = None
        self._started: list[EpisodeRequest] = []

    @property
    def task_ids(self) -> Sequence[str]:
        """Ids of the training tasks."""
        return list(self._train)

    def supervise(self, progress: Progress = silent) -> SftSummary | None:
        """Run SFT on lessons, or on stored or demonstrated episodes; None without SFT."""
        settings = self._config.sft
        if settings.lessons:
            limit = self._config.policy.context_tokens
            batches = taught(Lessons(self._codec, tool_specs(), limit, self._config.seed), settings)
        elif settings.trajectories or settings.episodes:
            batches = self._examples(progress)
        else:
            return None
        self.learner.start("sft")
        stopped = self._interruption.requested
        summary = supervise(self.learner, batches, settings, stopped=stopped, progress=progress)
        self.learner.start("rl")
        write_json(self._run.path / "warm_start.json", vars(summary))
        self._interruption.check()
        return summary

    def _examples(self, progress: Progress) -> Batches:
        """Batches of stored episodes, or of demonstrations on the training tasks."""
        settings, limit = self._config.sft, self._config.policy.context_tokens
        if settings.trajectories:
            shown = list(TrajectoryStore(Path(settings.trajectories)).read())
        else:
            shown = self._demonstrated(settings.episodes, progress)
        samples = sft_samples(shown, self._tasks, self._codec, tool_specs(), limit=limit)
        if not samples:
            raise TrainError(
                f"none of {len(shown)} SFT episodes passed and fits into {limit} tokens; "
                "raise policy.context_tokens or give other episodes"
            )
        return replayed(samples, settings, seed=self._config.seed)

    def start(self, groups: Sequence[tuple[str, str]]) -> None:
        """Request groups as (group name, task id); `ready` plays and yields them."""
        self._started += [
            EpisodeRequest(self._train[task], self._seed(group, n), group)
            for group, task in groups
            for n in range(self._config.rl.samples_per_task)
        ]

    def ready(self, progress: Progress = silent) -> Iterator[Group]:
        """Yield each requested group when it is finished, its trajectories in the order of their requests.

        Episodes are played while the caller iterates. Raises `Interrupted`.
        """
        requests, self._started = self._started, []
        size = Counter(request.group for request in requests)
        finished: dict[str, list[Trajectory]] = defaultdict(list)
        for trajectory in self._play(requests, self._token_policy(), progress):
            members = finished[trajectory.group]
            members.append(trajectory)
            if len(members) == size[trajectory.group]:
                yield Group(trajectory.group, tuple(_in_order(members, requests)))

    def publish(self) -> int:
        """Load the learner's weights into the engine; returns their version."""
        self._token_policy()
        return self.learner.publish(timeout_s=self._config.engine.start_s)

    def evaluate_untrained(self, progress: Progress = silent) -> float | None:
        """Pass rate of the model before SFT and RL on the held-out tasks."""
        self.publish()
        return self._evaluate("untrained", progress)

    def evaluate(self, step: int, progress: Progress = silent) -> float | None:
        """Pass rate on the held-out tasks; None without such tasks, or when no episode was scored."""
        return self._evaluate(f"step-{step:06d}", progress)

    def forget_after(self, step: int) -> None:
        """Remove evaluations of later steps: the weights that made them were lost."""
        for folder in (self._run.path / "evals").glob("step-*"):
            if int(folder.name.removeprefix("step-")) > step:
                shutil.rmtree(folder)

    def _evaluate(self, name: str, progress: Progress) -> float | None:
        settings = self._config.eval
        chance = random.Random(f"{self._config.seed} evaluation")
        tasks = sorted(self._heldout, key=lambda task: task.id)
        if settings.max_tasks and len(tasks) > settings.max_tasks:
            tasks = chance.sample(tasks, settings.max_tasks)
        if not tasks:
            return None

        def watched(what: str, done: int, total: int) -> None:
            self._interruption.check()
            progress(f"evaluation, {what}", done, total)

        return evaluate_tasks(
            self._token_policy(),
            tasks,
            self._executor,
            EvalSettings(
                self._run.path / "evals" / name,
                split=self._config.tasks.heldout,
                samples=settings.samples,
                seed=self._seed("evaluation"),
                max_format_errors=self._config.rl.max_format_errors,
                resume=True,
            ),
            progress=watched,
        ).pass_rate

    def _token_policy(self) -> TokenPolicy:
        """Return the policy; the first call starts the engine and connects the learner to it."""
        if self._policy is None:
            config = self._config
            spec = EngineSpec(str(self._model), config.engine, config.policy.context_tokens)
            self._progress("starting vLLM", 0, 1)
            engine = start_engine(spec)
            self._progress("starting vLLM", 1, 1)
            self._stack.callback(engine.close)
            scratch = self._cluster.scratch(self._weight_bytes(), folder=config.engine.weight_folder)
            self.learner.connect(engine, scratch)
            sampling = Sampling(config.policy.temperature, config.policy.max_turn_tokens)
            self._policy = TokenPolicy(
                engine, self._codec, sampling, max_context=config.policy.context_tokens, name="policy"
            )
        return self._policy

    def _demonstrated(self, episodes: int, progress: Progress) -> list[Trajectory]:
        tasks: list[Task] = list(self._train.values())
        requests = [
            EpisodeRequest(tasks[n % len(tasks)], self._seed("demonstration", n), f"demonstration/{n}")
            for n in range(episodes)
        ]
        return _in_order(self._play(requests, DemonstratorPolicy(), progress), requests)

    def _play(
        self, requests: Sequence[EpisodeRequest], policy: Policy, progress: Progress
    ) -> Iterator[Trajectory]:
        """Yield and store trajectories as their episodes end."""
        patience = self._config.rl.max_format_errors
        episodes = self._executor.play(requests, policy, progress=progress, max_format_errors=patience)
        try:
            for trajectory in episodes:
                self._store.append(trajectory)
                yield trajectory
                self._interruption.check()
        finally:
            episodes.close()

    def _seed(self, *name: str | int) -> int:
        return episode_seed(self._config.seed, *name)

    def _weight_bytes(self) -> int:
        return 2 * sum(file.stat().st_size for file in self._model.glob("*.safetensors"))


def _in_order(played: Iterable[Trajectory], requests: Sequence[EpisodeRequest]) -> list[Trajectory]:
    """Sort by request: the order of completion varies with the machine's load; training must not."""
    place = {(request.group, request.seed): number for number, request in enumerate(requests)}
    return sorted(played, key=lambda trajectory: place[trajectory.group, trajectory.seed])


@contextmanager
def open_setup(run: TrainingRun, interruption: Interruption, progress: Progress = silent) -> Iterator[Setup]:
    """Start the parts of a run, and close them when the block ends or start-up fails."""
    with ExitStack() as stack:
        yield Setup(run, stack, interruption, progress)


def open_executor(config: Config, tasksets: Sequence[TaskSet], stack: ExitStack) -> Executor:
    """Make the executor of `sandbox.placement`: threads of this process, or the nodes of the running Ray.

    Raises `SandboxUnavailable`, `EmbedderError`, `TrainError`.
    """
    settings = config.sandbox
    opening = {
        "env": settings.env,
        "backend": settings.backend,
        "embedder": config.search.embedder,
        "verdict_memory": settings.verdict_memory,
    }
    try:
        resolve(settings.env, ENVS, kind="environment")
    except UnknownNameError as error:
        raise TrainError(f"sandbox.env: {error}") from None
    if settings.placement == "cluster" or (settings.placement == "auto" and somewhere_else()):
        executor = RayExecutor(TasksetEnvSpec.of(tasksets, **opening), start_s=settings.start_s)
        stack.callback(executor.close)
        return executor
    make_env = stack.enter_context(open_envs(tasksets, **opening))
    return ThreadExecutor(make_env, settings.concurrency)


def model_folder(config: Config, run: Path, tasksets: Sequence[TaskSet]) -> Path:
    """Return the folder of `policy.model`: the package's, a local one, a download, or a new tiny model."""
    if config.policy.model in SHIPPED:
        return SHIPPED[config.policy.model]
    if config.policy.model != "tiny":
        folder = Path(config.policy.model)
        if folder.is_dir():
            return folder
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(config.policy.model))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise TrainError(
                f"policy.model = {config.policy.model!r} is neither a folder nor a model that can be "
                f"downloaded: {' '.join(str(error).split())[:200]}"
            ) from None
    if config.policy.dialect != "qwen3-coder":
        raise TrainError(
            'the tiny model writes calls in one dialect only; set policy.dialect = "qwen3-coder"'
        )
    folder = run / "model"
    if not (folder / "config.json").exists():
        make_tiny(
            folder,
            config.tiny,
            text=lesson_text(config.seed, TOKENIZER_LESSONS) if config.sft.lessons else local_text(tasksets),
            tools=tool_specs(),
            context_tokens=config.policy.context_tokens,
            seed=config.seed,
        )
    return folder


def local_text(tasksets: Sequence[TaskSet]) -> Iterator[str]:
    """Training text for a tokenizer: sources, tool messages, instructions and pull requests of the tasks."""
    for taskset in tasksets:
        for name, text in python_sources(taskset):
            yield text
            yield f"changed line 1 of {name}\n" * 10
        training = taskset.split("train")
        for task in training:
            yield task.instruction
        # Later pull requests hold the fixes of later tasks.
        for pr in taskset.prs[: max((task.past for task in training), default=0)]:
            yield "\n".join((pr.title, pr.body, *(comment.text for comment in pr.discussion), pr.diff))


def python_sources(taskset: TaskSet) -> Iterator[tuple[str, str]]:
    """Yield path and text of the Python files of the training tasks' source trees, each version once."""
    seen: set[tuple[str, bytes]] = set()
    for task in {task.source_digest: task for task in taskset.split("train")}.values():
        for name, file in sorted(taskset.source_tree(task).items()):
            if name.endswith(".py") and (name, file.data) not in seen:
                seen.add((name, file.data))
                yield name, file.data.decode("utf-8", "replace")
