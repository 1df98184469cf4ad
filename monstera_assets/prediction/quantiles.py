"""Quantiles of distributions as expressions, since DuckDB has none.

Source: M. Abramowitz and I. A. Stegun (eds.), Handbook of Mathematical Functions, 1964: formula 26.2.23
for the normal distribution, whose error is below 4.5e-4, and the expansion 26.7.5 for Student's.
"""

from __future__ import annotations

import ibis.expr.types as ir


def normal_quantile(tail: ir.FloatingValue) -> ir.FloatingValue:
    """The value that a standard normal variable exceeds with a probability of at most one half."""
    t = (-2.0 * tail.ln()).sqrt()
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    below = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return t - above / below


def student_quantile(tail: ir.FloatingValue, freedom: ir.FloatingValue) -> ir.FloatingValue:
    """The value that a variable of Student's distribution exceeds with a small probability.

    Args:
        tail: the probability.
        freedom: degrees of freedom, 10 or more for an error below 2 % down to tails of 1e-5.
    """
    x = normal_quantile(tail)
    square = x * x
    terms = (
        (square + 1.0) * x / 4.0,
        ((5.0 * square + 16.0) * square + 3.0) * x / 96.0,
        (((3.0 * square + 19.0) * square + 17.0) * square - 15.0) * x / 384.0,
    )
    first, second, third = terms
    return x + (first + (second + third / freedom) / freedom) / freedom
