"""Phase 3: PPO against a reward model, or contrastive post-training on preference pairs."""
