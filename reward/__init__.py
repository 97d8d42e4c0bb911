"""Phase 2: a reward model fitted on preference pairs."""
