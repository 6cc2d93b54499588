"""Make the policy that comes with the package, from nothing: `.venv/bin/python scripts/teach-practice.py`.

It learns 32 million tokens of lessons in three stages, which took 50 minutes on two cores beside other work.
The same seeds give the same lessons on every machine; rounding differs between processors, and the weights
with it. The weights in the package had their first two stages from an earlier version of the teacher, who
tested less, in contexts of 1,024 tokens: made anew, the policy has only seen the present one.
"""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from trainer.shipped import SHIPPED

TASKS, RUNS = Path("tasks/practice"), Path("runs")
STAGES = (
    ["seed=0", "sft.lessons=12_000_000"],
    ["seed=1", "sft.lessons=11_000_000", "sft.drills=0.3"],
    [
        "seed=2",
        "sft.lessons=9_000_000",
        "sft.drills=0.1",
        "sft.learning_rate=1.5e-3",
        "sft.muon_learning_rate=0.012",
    ],
)


def daythree(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "daythree", *words], check=True)


def main() -> None:
    if not TASKS.exists():
        daythree("register", "practice", "--out", str(TASKS))
    model = ""
    for number, settings in enumerate(STAGES):
        out = RUNS / f"teach-practice-{number}"
        changes = [f'tasks.sets=["{TASKS}"]', "rl.steps=0", "rl.warmup_steps=0", *settings]
        changes += [f"policy.model={model}"] if model else []
        options = [word for change in changes for word in ("--set", change)]
        daythree("train", "configs/practice.toml", "--out", str(out), *options)
        model = str(max((out / "checkpoints").iterdir()) / "model")
    folder = SHIPPED["practice"]
    folder.mkdir(parents=True, exist_ok=True)
    for file in Path(model).iterdir():
        if file.suffix == ".safetensors":
            weights = {name: value.to(torch.bfloat16) for name, value in load_file(file).items()}
            save_file(weights, folder / file.name, metadata={"format": "pt"})
        else:
            (folder / file.name).write_bytes(file.read_bytes())


if __name__ == "__main__":
    main()
