"""A reward of your own: the share of the listed tests that pass, in place of all or nothing.

daythree register inject examples/basket --out tasks/basket
python examples/own_reward.py tasks/basket
"""

import sys

import daythree


def share_of_tests(verdict: daythree.Verdict) -> float:
    """Between 0 and 1. Tampering still earns nothing: a verdict that was tampered with is no evidence."""
    listed = len(verdict.passed) + len(verdict.failed) + len(verdict.missing)
    return 0.0 if verdict.tampered or not listed else len(verdict.passed) / listed


def main(taskset: str) -> None:
    # On the command line, in `make_env` and in a configuration it is also "own_reward:share_of_tests".
    env = daythree.make_env(taskset, reward=share_of_tests)
    try:
        env.reset(seed=0)
        _, reward, terminated, _, info = env.step(daythree.ToolCall("", "submit", {}))
        print(
            f"an empty submission: ended {terminated}, solved {info['verdict'].resolved}, reward {reward:.2f}"
        )
    finally:
        env.close()


if __name__ == "__main__":
    main(sys.argv[1])
