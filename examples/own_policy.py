"""A policy of your own: one that runs the tests, looks at the file they blame, and gives up.

daythree register inject examples/basket --out tasks/basket
python examples/own_policy.py tasks/basket
PYTHONPATH=examples daythree eval --tasks tasks/basket --policy own_policy:LookAround --out runs/look
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import daythree
from agents.types import Action


@dataclass
class Looking:
    """One episode's conversation. `act` decides, `observe` is shown what came of it."""

    seen: list[str] = field(default_factory=list)

    def act(self, *, deadline: float) -> Action:  # noqa: ARG002 (a model would have to answer by then)
        if not self.seen:
            return Action((daythree.ToolCall("", "test", {}),))
        blamed = re.search(r"basket/\w+\.py", self.seen[-1])
        if len(self.seen) == 1 and blamed:
            return Action((daythree.ToolCall("", "view", {"path": blamed.group()}),))
        return Action((daythree.ToolCall("", "submit", {}),), text="I give up.")

    def observe(self, observations: Sequence[daythree.Observation]) -> None:
        self.seen += [observation.text for observation in observations]

    def fork(self, *, seed: int) -> "Looking":  # noqa: ARG002 (nothing here is drawn by chance)
        return replace(self, seen=list(self.seen))


class LookAround:
    """The policy: opens a session for each episode; many run at once."""

    name = "look-around"

    def start(self, *_: object, **__: object) -> Looking:
        return Looking()

    def close(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    taskset = daythree.load_taskset(sys.argv[1])
    env = daythree.make_env(taskset)
    trajectory = daythree.run_episode(env, LookAround(), task=taskset.split("heldout")[0], seed=0)
    env.close()
    for turn in trajectory.turns:
        print(*(f"{call.name} {call.arguments}" for call in turn.action.calls))
    print(f"{trajectory.task_id}: reward {trajectory.reward}")
