"""A tool of your own: `outline` says what a Python file defines.

daythree register inject examples/basket --out tasks/basket
python examples/own_tool.py tasks/basket
"""

import ast
import sys

import daythree
from sandboxes.syntax import syntax_tree


@daythree.tool
class Outline:
    """List the functions and classes of a Python file, each with its line."""  # the policy reads this

    path: str  # an argument of the tool; its type is checked, and is in the JSON Schema

    def run(self, at: daythree.ToolContext) -> str:
        try:
            tree = syntax_tree(at.sandbox.read(self.path, timeout_s=10))
        except FileNotFoundError:
            raise daythree.ToolError(f"there is no file {self.path}") from None
        except SyntaxError as error:
            raise daythree.ToolError(f"{self.path} is not Python: {error}") from None
        named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = [f"{node.lineno}: {node.name}" for node in ast.walk(tree) if isinstance(node, named)]
        return "\n".join(found) or "(nothing is defined there)"


def main(taskset: str) -> None:
    env = daythree.make_env(taskset, tools=["view", "edit", "test", "submit", Outline])
    try:
        print("tools:", ", ".join(spec.name for spec in env.tools))
        env.reset(seed=0)
        for path in ("basket/prices.py", "basket/nowhere.py"):
            observation, *_ = env.step(daythree.ToolCall("", "outline", {"path": path}))
            print(f"outline {path}:\n{observation.text}")
    finally:
        env.close()


if __name__ == "__main__":
    main(sys.argv[1])
