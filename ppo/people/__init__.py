"""People inside PPO: blind comparisons of policy and start policy while it trains (docs/people-in-ppo.md)."""
