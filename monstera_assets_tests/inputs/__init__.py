"""Sources that tests generate, and Hypothesis strategies."""
