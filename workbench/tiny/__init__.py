"""The embedded default: a help-desk grammar, a tokenizer, a small Llama, the gold reward, simulated annotators."""
