"""One script a claim; results as JSON under results/."""
