"""An environment of your own: the instruction says which file to look at, and there are at most eight turns.

daythree register inject examples/basket --out tasks/basket
python examples/own_env.py tasks/basket
PYTHONPATH=examples daythree train configs/tiny.toml --set sandbox.env=own_env:Guided …
"""

import sys
from dataclasses import replace
from typing import Any

import daythree
from envs.tasksets.trees import patched_paths

MOST_TURNS = 8


class Guided(daythree.CodingEnv):
    """An easier environment to begin with; graded exactly as the usual one."""

    def reset(self, **options: Any) -> tuple[daythree.Observation, dict[str, Any]]:
        first, info = super().reset(**options)
        self.turns = 0
        files = ", ".join(sorted(patched_paths(self.task.reference_patch)))
        return replace(first, text=f"{first.text}\n\nThe bug is in {files}."), info

    def step(
        self, action: daythree.ToolCall
    ) -> tuple[daythree.Observation, float, bool, bool, dict[str, Any]]:
        self.turns += 1
        return super().step(action if self.turns < MOST_TURNS else daythree.ToolCall("", "submit", {}))


def main(taskset: str) -> None:
    env = Guided([taskset])
    try:
        first, _ = env.reset(seed=0)
        print(first.text)
        ended, turns, reward = False, 0, 0.0
        while not ended:
            _, reward, ended, _, _ = env.step(daythree.ToolCall("", "view", {"path": "."}))
            turns += 1
        print(f"ended after {turns} turns with reward {reward}")
    finally:
        env.close()


if __name__ == "__main__":
    main(sys.argv[1])
