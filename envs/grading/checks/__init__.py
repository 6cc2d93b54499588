"""Checks that the code under test did the work, and did not manipulate the tests that judge it.

Code under test shares an interpreter with its tests and can change anything there, so no check trusts what
that process says about itself. Each asks for something that a cheat does not know: do unseen tests fail as
they must (`sentinels`), do the listed tests fail once their expectation is changed (`mutated_asserts`), and
do they pass again in another order (`rerun`). A fourth, `testing.programs.watch`, is a tripwire inside the
process. `docs/reward.md` says what each catches and costs.

No check accuses alone: each oddity is looked for in the reference's run under the same circumstances too, and
only what the reference does not show is held against a submission.
"""
