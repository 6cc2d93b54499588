"""Losses by hand, and by automatic differentiation."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch")

from trainer.algorithms import losses
from trainer.algorithms.losses import (
    LossInputs,
    LossOutputs,
    add_sums,
    entropy_bonus,
    kl_to_reference,
    mismatch,
    nll,
    per_token,
    weighted_nll,
)
from trainer.algorithms.losses import policy_gradient as loss_of
from trainer.config import PolicyGradient

pytestmark = pytest.mark.train


def tensor(*values: float, grad: bool = False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def inputs(now, before, advantages, weights, *, on_policy: bool = False) -> LossInputs:
    versions = torch.full(now.shape, 5 if on_policy else 4)
    rows = torch.zeros(now.shape, dtype=torch.long)
    settings = PolicyGradient().model_dump()
    return LossInputs(
        now, before, advantages, weights, versions, rows, -now.detach(), version=5, settings=settings
    )


def policy_gradient(now, before, advantages, weights, *, on_policy: bool = False) -> LossOutputs:
    return loss_of(inputs(now, before, advantages, weights, on_policy=on_policy))


def test_on_policy_the_ratio_is_one_and_the_gradient_is_reinforce() -> None:
    now = tensor(-1.0, -2.0, grad=True)
    loss, sums = policy_gradient(now, now.detach(), tensor(0.5, -0.5), tensor(0.5, 0.25), on_policy=True)
    loss.backward()
    assert now.grad.tolist() == [-0.25, 0.125]
    assert sums["ratio"].item() == 2.0
    assert sums["mismatch_abs"].item() == 0.0
    assert sums["clip_fraction"].item() == 0.0


@pytest.mark.parametrize("on_policy", [True, False])
def test_both_forms_have_the_same_gradient_at_the_sampling_weights(on_policy: bool) -> None:
    now = tensor(-1.0, -2.0, -0.1, grad=True)
    advantages, weights = tensor(1.0, -1.0, 0.3), tensor(0.2, 0.3, 0.5)
    loss, _ = policy_gradient(now, now.detach(), advantages, weights, on_policy=on_policy)
    loss.backward()
    assert torch.allclose(now.grad, -advantages * weights)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [
        (1.1, 1.0, True),
        (1.5, 1.0, False),  # already much likelier: no further
        (0.5, 1.0, True),  # less likely, though good: back up
        (0.5, -1.0, False),  # already much less likely: no further
        (1.5, -1.0, True),  # likelier, though bad: back down
        (3.0, -1.0, False),  # beyond the bound on a single token's pull
    ],
)
def test_clipping_is_one_sided_by_the_sign_of_the_advantage(
    ratio: float, advantage: float, moves: bool
) -> None:
    now = tensor(-1.0, grad=True)
    before = tensor(-1.0 - math.log(ratio))
    loss, sums = policy_gradient(now, before, tensor(advantage), tensor(1.0))
    loss.backward()
    assert now.grad.item() == pytest.approx(-advantage * ratio if moves else 0.0)
    assert sums["clip_fraction"].item() == (0.0 if moves else 1.0)


def test_on_policy_the_correction_for_the_engine_is_capped_and_constant() -> None:
    now = tensor(-1.0, grad=True)
    loss, sums = policy_gradient(now, tensor(-4.0), tensor(1.0), tensor(1.0), on_policy=True)
    loss.backward()
    assert now.grad.item() == pytest.approx(-2.0)
    assert sums["clip_fraction"].item() == 1.0


def test_an_absurd_ratio_gives_no_infinity() -> None:
    now = tensor(-0.1, -0.1, grad=True)
    for on_policy in (True, False):
        loss, sums = policy_gradient(
            now, tensor(-1000.0, -1000.0), tensor(1.0, -1.0), tensor(1.0, 1.0), on_policy=on_policy
        )
        assert loss.isfinite()
        assert all(value.isfinite() for value in sums.values())


def test_mismatch_is_measured_by_hand() -> None:
    sums = mismatch(tensor(-1.0, -2.0), tensor(-1.5, -1.9))
    assert sums["mismatch_abs"].item() == pytest.approx(0.6)
    assert sums["mismatch_abs_max"].item() == pytest.approx(0.5)
    assert sums["ratio"].item() == pytest.approx(math.exp(0.5) + math.exp(-0.1))
    assert sums["mismatch_k3"].item() == pytest.approx(math.exp(0.5) - 1 - 0.5 + math.exp(-0.1) - 1 + 0.1)


def test_the_logged_divergence_estimates_it_and_is_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(0) for _ in range(2))
    drawn = torch.multinomial(p.exp(), 200_000, replacement=True, generator=generator)
    weights = torch.full((200_000,), 1 / 200_000, dtype=torch.float64)
    _, sums = kl_to_reference(p[drawn], q[drawn], weights, p[drawn])
    assert sums["kl"].item() / 200_000 == pytest.approx((p.exp() * (p - q)).sum().item(), rel=0.02)
    same, sums = kl_to_reference(p[drawn], p[drawn], weights, p[drawn])
    assert same.item() == sums["kl"].item() == 0.0


@pytest.mark.parametrize("off_policy", [False, True])
def test_the_gradient_of_the_divergence_is_that_of_the_policy_from_its_reference(off_policy: bool) -> None:
    """Enumerated: the expectation of the estimate's gradient over samples of q is grad KL(p || reference)."""
    generator = torch.Generator().manual_seed(1)
    logits, other, behaviour = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(3))
    logits.requires_grad_()
    p, reference = logits.log_softmax(0), other.log_softmax(0)
    q = (logits.detach() + 0.2 * behaviour).log_softmax(0) if off_policy else p.detach()
    assert float((p.detach() - q).exp().max()) < 2.0, "no weight is cut off"
    estimate, _ = kl_to_reference(p, reference, q.exp(), q)  # each token weighted by how often q draws it
    (found,) = torch.autograd.grad(estimate, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad((p.exp() * (p - reference)).sum(), logits)
    assert torch.allclose(found, wanted, atol=1e-12)


def test_tokens_that_got_worse_have_a_bound_of_their_own() -> None:
    """Off policy with a negative advantage: bounded at `dual_clip`, whatever `truncate_ratio` is."""
    settings = {"clip_low": 0.2, "clip_high": 0.2, "truncate_ratio": 1.5, "dual_clip": 3.0}
    for ratio, bound in ((2.0, 2.0), (9.0, 3.0)):
        given = inputs(tensor(math.log(ratio) - 5), tensor(-5.0), tensor(-1.0), tensor(1.0))
        given = dataclasses.replace(given, settings=settings, versions_N=torch.tensor([1]), version=2)
        assert losses.policy_gradient(given).loss.item() == pytest.approx(bound)


def test_weights_of_tokens_reach_the_supervised_loss() -> None:
    loss, sums = weighted_nll(
        inputs(tensor(-1.0, -3.0), tensor(0.0, 0.0), tensor(1.0, 0.2), tensor(0.5, 0.5))
    )
    assert loss.item() == pytest.approx(0.5 + 0.3)
    assert sums["nll"].item() == pytest.approx(1.6)


def test_likelihood_and_entropy_are_weighted_sums() -> None:
    loss, sums = nll(inputs(tensor(-1.0, -3.0), tensor(0.0, 0.0), tensor(0.0, 0.0), tensor(0.5, 0.25)))
    assert loss.item() == 1.25
    assert sums["nll"].item() == 4.0
    assert entropy_bonus(tensor(2.0, 4.0), tensor(0.5, 0.25)).item() == -2.0


def test_sums_add_up_over_micro_batches_and_maxima_stay_maxima() -> None:
    total: dict[str, float] = {}
    add_sums(total, {"x": tensor(3.0).sum(), "y_max": tensor(2.0).sum()})
    add_sums(total, {"x": tensor(1.0).sum(), "y_max": tensor(1.0).sum()})
    assert per_token(total, 8) == {"x": 0.5, "y_max": 2.0}
