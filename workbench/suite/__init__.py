"""The evaluation suite: text metrics, robustness, bias, toxicity and gates for finished runs, in one table."""
