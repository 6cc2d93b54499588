"""Compiled bodies: when they pay, how many programs they are, where those are kept; and no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from trainer.data.batch import make_batch
from trainer.data.samples import Sample
from trainer.learning.compiling import compiled, compiles
from trainer.learning.model import load_model, score
from trainer.learning.packing import enable_packing

pytestmark = pytest.mark.train
LEARN = """
import sys, logging
logging.basicConfig(format="%(message)s", level=logging.WARNING)
import torch
from trainer.learning.compiling import compiled
from trainer.learning.model import load_model, score
model = load_model(sys.argv[1])
ids_BT = torch.arange(24).reshape(2, 12)
mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
mask_BT[:, 0] = False
body = compiled(model)
for _ in range(2):
    loss = score(model, ids_BT, mask_BT, body=body).logprobs_N.sum()
    loss.backward()
hits = torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"]
print("loss", round(float(loss.detach()), 4), "hits", hits)
"""


def learn(model: Path, cache: Path, **variables: str) -> tuple[list[str], str]:
    """Compile and learn in a new process; returns the words that it printed, and its complaints."""
    environment = {name: value for name, value in os.environ.items() if "INDUCTOR" not in name}
    environment |= {"XDG_CACHE_HOME": str(cache), "OMP_WAIT_POLICY": "PASSIVE", **variables}
    done = subprocess.run(
        [sys.executable, "-c", LEARN, str(model)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("sections", "cuda", "cpu"),
    [
        ({"rl": {"steps": 3}}, False, False),
        ({"sft": {"lessons": 2_000_000}}, False, True),
        ({"sft": {"episodes": 96, "epochs": 60.0}, "rl": {"steps": 0}}, False, True),
        ({"rl": {"steps": 100, "tasks_per_step": 8, "samples_per_task": 8}}, False, True),
        ({"learner": {"compile": True}, "rl": {"steps": 1}}, True, True),
        ({"learner": {"compile": False}, "sft": {"lessons": 2_000_000}}, False, False),
    ],
)
def test_automatic_compilation_is_for_long_runs_on_a_cpu(
    toy_config, sections: dict, cuda: bool, cpu: bool
) -> None:
    config = toy_config(**sections)
    assert compiles(config, torch.device("cpu")) is cpu
    assert compiles(config, torch.device("cuda")) is cuda


@pytest.mark.slow
@pytest.mark.parametrize(("packed", "most"), [(True, 1), (False, 2)])
def test_rows_of_every_shape_share_a_program(toy_model: Path, packed: bool, most: int) -> None:
    """Padded, a micro-batch with a single row is a second program."""
    torch._dynamo.reset()
    model = load_model(toy_model)
    assert enable_packing(model)
    body = compiled(model)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for count, longest in ((3, 20), (1, 31), (7, 9), (2, 64), (5, 50), (1, 12)):
        samples = [
            Sample.of(range(longest - n), [place > 2 for place in range(longest - n)]) for n in range(count)
        ]
        for part in make_batch(samples, max_tokens=2000, packed=packed).micro_batches:
            layout: dict = {"positions_BT": part.positions_BT, "starts_S": part.starts_S}
            fast = score(model, part.ids_BT % 32, part.mask_BT, body=body, **layout).logprobs_N
            fast.sum().backward()
            slow = score(model, part.ids_BT % 32, part.mask_BT, **layout).logprobs_N
            assert torch.allclose(fast, slow, atol=1e-5)
    programs = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    assert 1 <= programs <= most


@pytest.mark.slow
def test_a_second_start_finds_the_programs_of_the_first(toy_model: Path, tmp_path: Path) -> None:
    first, _ = learn(toy_model, tmp_path)
    assert any((tmp_path / "daythree" / "inductor").rglob("*.so"))
    second, _ = learn(toy_model, tmp_path)
    assert first[:2] == second[:2]
    assert int(first[3]) == 0 and int(second[3]) > 0


@pytest.mark.slow
def test_without_a_compiler_a_process_learns_eagerly_and_says_so_once(
    toy_model: Path, tmp_path: Path
) -> None:
    printed, complaints = learn(toy_model, tmp_path, CXX="/nowhere/c++")
    assert printed[0] == "loss"
    lines = [line for line in complaints.splitlines() if "training is slower" in line]
    assert len(lines) == 1
