"""Checks that the code under test did the work, and did not manipulate the tests that judge it.

Code under test shares an interpreter with its tests and can change anything there, so no check trusts that
process's own account. Each check asks for knowledge that a cheat lacks: do unseen tests fail as they must
(`sentinels`), do the listed tests fail after a change of their expectation (`mutated_asserts`), and do they
pass again in another order (`rerun`). A fourth, `testing.programs.watch`, is a tripwire inside the process.
`docs/reward.md` lists what each catches and costs.

No check accuses alone: each oddity is also looked for in the reference's run under the same conditions, and
counts against a submission only if the reference does not show it.
"""
