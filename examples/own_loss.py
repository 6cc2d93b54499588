"""A loss of your own: CISPO (arXiv 2506.13585), REINFORCE whose importance weight is clipped from above.

python examples/own_loss.py
PYTHONPATH=examples daythree train configs/tiny.toml --set rl.loss=own_loss:cispo …
"""

import tempfile
from pathlib import Path

from envs.tools.toolset import tool_specs
from trainer.algorithms.losses import LossInputs, LossOutputs
from trainer.config import Tiny, parse
from trainer.data.samples import Sample
from trainer.learning.learner import Learner
from trainer.learning.tiny import make_tiny


def cispo(inputs: LossInputs) -> LossOutputs:
    """All tensors are over the N sampled tokens; what is returned besides the loss is logged as a mean."""
    ratio_N = (inputs.logprobs_N - inputs.behaviour_logprobs_N).detach().exp()
    clipped_N = ratio_N.clamp(max=1 + float(inputs.settings.get("high", 0.2)))
    loss = -(clipped_N * inputs.advantages_N * inputs.logprobs_N * inputs.weights_N).sum()
    return LossOutputs(loss, {"clip_fraction": (ratio_N > clipped_N).float().sum()})


def main(folder: Path, steps: int = 30) -> None:
    """Reward one of two continuations of a prompt, and see it become likely."""
    config = parse({"tasks": {"sets": ["none"]}, "rl": {"loss": "own_loss:cispo", "learning_rate": 3e-3}})
    size = Tiny(hidden=32, layers=1, heads=2, kv_heads=2, head_dim=16, intermediate=64, vocab_size=512)
    make_tiny(folder, size, text=["one two three"], tools=tool_specs(), context_tokens=64, seed=0)
    learner = Learner(config, folder)
    prompt, mask = [10, 11, 12], [False, False, False, True]
    for step in range(steps + 1):
        samples = [
            Sample.of([*prompt, token], mask, 0.0, learner.version, advantage)
            for token, advantage in ((20, 1.0), (21, -1.0))
        ]
        good, bad = (learner.score([sample])[0][0] for sample in samples)
        if step % 10 == 0:
            print(f"step {step}: log-probability of the rewarded token {good:.2f}, of the other {bad:.2f}")
        known = [
            Sample.of([*prompt, token], mask, value, learner.version, advantage)
            for token, value, advantage in ((20, good, 1.0), (21, bad, -1.0))
        ]
        learner.step(known, cispo, step / steps)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place) / "model")
