"""Draw a practice repository: modules, tests, past pull requests, and the bugs that its tasks are about.

A seed and a split decide everything: the same pair gives the same bytes on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from envs.tasksets.taskset import Comment, PullRequest
from envs.tasksets.trees import Tree, TreeFile

from .bugs import FAMILIES, Bug, Case, draw_bug, hidden_cases, visible_cases
from .functions import SHAPES, Function, Shape, draw_function
from .words import AUTHORS, DOMAINS, FILES, PARAMETERS, Domain, constants_of, names_of

HELDOUT_SHAPES = 0.3
"""Share of held-out functions whose shape no training task is about."""
DOCUMENTED = 0.6
RULE_IN_TITLE = 0.75
"""Share of the pull requests that state a rule in the title; of the others the text has to be read."""
FIRST_DAY = date(2024, 1, 8)


@dataclass(frozen=True)
class Issue:
    """What one task is about: one or two bugs, and the name by which the instruction calls their function."""

    family: str
    module: str
    bugs: tuple[Bug, ...]
    called: tuple[str, ...]


@dataclass(frozen=True)
class Module:
    """A module: its functions in order. A callee stands before its callers, in the same module."""

    name: str
    functions: tuple[Function, ...]

    def callee(self, function: Function) -> Function | None:
        wanted = function.values.get("callee")
        return next((other for other in self.functions if other.name == wanted), None)


@dataclass(frozen=True)
class Repository:
    """A repository without bugs, and the issues to make tasks of."""

    domain: Domain
    modules: tuple[Module, ...]
    aliases: Mapping[str, str]
    """Public name -> the function's name in its module."""
    issues: tuple[Issue, ...]
    visible: Mapping[str, Sequence[Case]]
    """Function name -> cases of the test that the policy sees."""
    hidden: Mapping[str, Sequence[Case]]
    """Function name -> cases of the test that only grading sees."""
    prs: tuple[PullRequest, ...] = field(default=())

    def module_of(self, name: str) -> Module:
        """Return the module that defines a function."""
        return next(m for m in self.modules if any(function.name == name for function in m.functions))

    def tree(self, issue: Issue | None = None, *, with_hidden: bool = False) -> Tree:
        """Return the files: the right code, or that with an issue's bugs; with or without hidden tests."""
        wrong = {bug.right.name: bug.wrong for bug in issue.bugs} if issue else {}
        package = self.domain.package
        files = {
            "README.md": f"# {package}\n\n{self.domain.subject}\n",
            f"{package}/__init__.py": self._face(),
        }
        for module in self.modules:
            files[f"{package}/{module.name}.py"] = _source(module, wrong)
            files[path_of_tests(module.name)] = self._tests(module, self.visible, "")
            if with_hidden:
                files[path_of_tests(module.name, hidden=True)] = self._tests(module, self.hidden, "_cases")
        return {path: TreeFile(text.encode()) for path, text in files.items()}

    def _face(self) -> str:
        lines = [f'"""{self.domain.subject}"""', *([""] if self.aliases else [])]
        lines += [
            f"from .{self.module_of(name).name} import {name} as {alias}"
            for alias, name in self.aliases.items()
        ]
        return "\n".join(lines) + "\n"

    def _tests(self, module: Module, cases: Mapping[str, Sequence[Case]], suffix: str) -> str:
        names = [function.name for function in module.functions if cases.get(function.name)]
        tests = [f"from {self.domain.package}.{module.name} import {', '.join(names)}"] if names else []
        for name in names:
            asserted = [f"    {assertion(name, case)}" for case in cases[name]]
            tests.append("\n".join([f"def test_{name}{suffix}():", *asserted]))
        return "\n\n\n".join(tests) + "\n"


def path_of_tests(module: str, *, hidden: bool = False) -> str:
    """Path of the tests of a module."""
    return f"tests/test_{module}{'_cases' if hidden else ''}.py"


def assertion(name: str, case: Case) -> str:
    """Write a case as a line of a test."""
    (x, y), value = case
    return f"assert {name}({x}, {y}) {'is' if isinstance(value, bool) else '=='} {value}"


def _source(module: Module, wrong: Mapping[str, Function]) -> str:
    parts = [
        "\n".join(wrong.get(function.name, function).lines(function.docstring))
        for function in module.functions
    ]
    return "\n\n\n".join(parts) + "\n"


def draw_repository(
    seed: int | str, split: str, *, issues: int = 3, families: Mapping[str, float] = FAMILIES
) -> Repository:
    """Draw a repository with up to `issues` issues; `split` is `train` or `heldout`.

    `families` are the shares of the families of bugs.
    """
    chance = random.Random(f"practice {split} {seed}")
    while True:
        drawn = _attempt(chance, split, issues, families)
        if drawn is not None:
            return drawn


def _attempt(
    chance: random.Random, split: str, wanted: int, families: Mapping[str, float]
) -> Repository | None:
    """Draw once; None where no function took a bug."""
    modules = _modules(chance, split)
    free = [(module, function) for module in modules for function in module.functions]
    chance.shuffle(free)
    issues: list[Issue] = []
    for family in chance.choices(list(families), list(families.values()), k=wanted):
        issue = _issue(chance, family, free)
        if issue is not None:
            issues.append(issue)
    if not issues:
        return None
    names = [name for name in names_of(split) if all(name != f.name for m in modules for f in m.functions)]
    aliases: dict[str, str] = {}
    for number, issue in enumerate(issues):
        if issue.family == "alias":
            alias = chance.choice([name for name in names if name not in aliases])
            aliases[alias] = issue.bugs[0].right.name
            issues[number] = Issue(issue.family, issue.module, issue.bugs, (alias,))
    visible, hidden = _cases(chance, modules, issues)
    return Repository(
        chance.choice(DOMAINS),
        modules,
        aliases,
        tuple(issues),
        visible,
        hidden,
        _history(chance, modules, issues),
    )


def _modules(chance: random.Random, split: str) -> tuple[Module, ...]:
    sizes = [chance.randint(2, 3) for _ in range(chance.randint(2, 3))]
    names = iter(chance.sample(names_of(split), sum(sizes)))
    modules: list[Module] = []
    for name, size in zip(chance.sample(FILES, len(sizes)), sizes, strict=True):
        functions: list[Function] = []
        for _ in range(size):
            simple = [f.name for f in functions if not {"callee", "cmp"} & f.values.keys()]
            functions.append(_function(chance, next(names), split, simple))
        modules.append(Module(name, tuple(functions)))
    return tuple(modules)


def _function(chance: random.Random, name: str, split: str, callees: Sequence[str]) -> Function:
    new = split == "heldout" and chance.random() < HELDOUT_SHAPES
    shapes: list[Shape] = [
        shape for shape in SHAPES if shape.heldout == new and (callees or not shape.has("callee"))
    ]
    a, b = chance.sample(PARAMETERS, 2)
    return draw_function(
        chance,
        name,
        (a, b),
        chance.choice(shapes),
        constants=constants_of(split),
        callee=chance.choice(callees) if callees else "",
        documented=chance.random() < DOCUMENTED,
    )


def _issue(chance: random.Random, family: str, free: list[tuple[Module, Function]]) -> Issue | None:
    """Take one or two free functions and break them."""
    size = 2 if family == "two" else 1
    for module, _ in list(free):
        bugs: list[Bug] = []
        for home, function in free:
            if home is module and len(bugs) < size and _apart(function, bugs):
                bug = draw_bug(chance, family, function)
                if bug is not None and _matters(chance, bug, module.callee(function)):
                    bugs.append(bug)
        if len(bugs) == size:
            taken = {bug.right.name for bug in bugs}
            free[:] = [(home, function) for home, function in free if function.name not in taken]
            return Issue(family, module.name, tuple(bugs), tuple(bug.right.name for bug in bugs))
    return None


def _apart(function: Function, bugs: Sequence[Bug]) -> bool:
    """Whether a function neither calls a broken function nor is called by one."""
    broken = {bug.right.name for bug in bugs}
    callers = {bug.right.values.get("callee") for bug in bugs}
    return function.values.get("callee") not in broken and function.name not in callers


def _matters(chance: random.Random, bug: Bug, callee: Function | None) -> bool:
    """Whether the bug changes a value: swapping the arguments of a sum changes none."""
    wrong = bug.wrong.evaluator(callee)
    return any(wrong(*point) != value for point, value in hidden_cases(chance, bug.right, callee))


def _cases(
    chance: random.Random, modules: Sequence[Module], issues: Sequence[Issue]
) -> tuple[dict[str, list[Case]], dict[str, list[Case]]]:
    bugs = {bug.right.name: (issue, bug) for issue in issues for bug in issue.bugs}
    visible: dict[str, list[Case]] = {}
    hidden: dict[str, list[Case]] = {}
    for module in modules:
        for function in module.functions:
            issue, bug = bugs.get(function.name, (None, None))
            callee = module.callee(function)
            silent = issue is not None and issue.family == "pr"
            visible[function.name] = visible_cases(chance, bug, function, callee, silent=silent)
            hidden[function.name] = hidden_cases(chance, function, callee)
    return visible, hidden


def _history(
    chance: random.Random, modules: Sequence[Module], issues: Sequence[Issue]
) -> tuple[PullRequest, ...]:
    """Write the past pull requests, oldest first: functions that were added, and rules that bugs forgot."""
    homes = {function.name: module.name for module in modules for function in module.functions}
    stated = {bug.right.name: bug for issue in issues for bug in issue.bugs if bug.statement}
    others = [name for name in homes if name not in stated]
    names = [*chance.sample(others, min(2, len(others))), *stated]
    chance.shuffle(names)
    day, number, rows = FIRST_DAY, 0, list[PullRequest]()
    for name in names:
        day += timedelta(days=chance.randint(2, 40))
        number += chance.randint(1, 4)
        author, reviewer = chance.sample(AUTHORS, 2)
        title, body = (
            _rule(chance, name, stated[name]) if name in stated else _routine(chance, name, homes[name])
        )
        thanks = Comment(reviewer, f"{day + timedelta(days=1)}T09:00:00Z", "Checked, thank you.")
        rows.append(
            PullRequest(
                str(number),
                title,
                f"{day}T10:00:00Z",
                body,
                author,
                files=(f"{homes[name]}.py",),
                discussion=(thanks,) if name in stated else (),
            )
        )
    return tuple(rows)


def _routine(chance: random.Random, name: str, module: str) -> tuple[str, str]:
    """Title and body of a change that states no rule."""
    titles = (f"Add {name}", f"Move {name} to {module}", f"Tests for {name}")
    return chance.choice(titles), "No change for callers."


def _rule(chance: random.Random, name: str, bug: Bug) -> tuple[str, str]:
    """Title and body of a change that states what a function must do, which the bug forgot."""
    rule = f"{name} must use {bug.statement}" if bug.kind == "constant" else f"{name} must {bug.statement}"
    if chance.random() < RULE_IN_TITLE:
        return rule, "The old rule was out of date."
    return f"New rule for {name}", f"From now on {rule}."
