"""A coding task as a Gymnasium environment. Knows nothing of models or tokens.

Importing this package registers `daythree/Repo-v0`; `gymnasium.make("envs:daythree/Repo-v0", …)` does both.
"""

import gymnasium

ENV_ID = "daythree/Repo-v0"

if ENV_ID not in gymnasium.registry:
    # No max_episode_steps: Gymnasium's TimeLimit would cut an episode off without grading it.
    gymnasium.register(ENV_ID, entry_point="envs.coding:CodingEnv", nondeterministic=True)
