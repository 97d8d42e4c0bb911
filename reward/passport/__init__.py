"""The examination of a reward model: what it must show before PPO may optimise against it."""
