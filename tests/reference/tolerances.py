"""The one table of tolerances; loosening an entry needs a reason beside it."""

EXACT = {"rtol": 1e-10, "atol": 1e-12}
"""float64 against a float64 oracle: the same sum in another order."""

FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}
"""float32 arithmetic of a few hundred terms."""

SHAPES = {"rtol": 1e-3, "atol": 2e-5}
"""float32 through a small transformer in batches of other shapes: kernels add in another order."""

RECORDED = {"rtol": 0.0, "atol": 5e-5}
"""Against numbers that a paper or a log gives with four decimals."""
