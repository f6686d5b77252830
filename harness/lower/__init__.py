"""Lower levels with constraints: y*(x), multipliers and the derivative of y*, found by libraries."""
