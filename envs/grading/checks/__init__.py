"""What shows that code under test did the work, and not something to the tests that judge it.

Code under test shares an interpreter with its tests, so it can do anything to them; nothing here trusts what
that process says about itself. Three layers ask for what a cheat does not know: whether tests that nobody has
seen fail as they must (`canaries`), whether the listed tests fail once what they compare with is changed
(`altering`), and whether they pass again alone, in another order (`second`). A fourth,
`testing.programs.watch`, is a tripwire inside the process. `docs/reward.md` says what each catches and costs.

No layer accuses by itself: whatever looks wrong is asked of the reference too, under the same circumstances,
and only what the reference does not show is held against a submission.
"""
