"""Phase 1: supervised instruction tuning of a LoRA adapter."""
