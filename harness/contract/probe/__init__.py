"""What a hypergradient answers on quadratics whose answer is known. Runs in any environment that has torch.

    python probe FILE OUT

FILE has ``hypergradient(f, g, x, y)``; OUT gets a JSON list of observations. With ``ARRAYS = "jax"`` in FILE, x and y
are arrays of jax and the answer is one; f and g take them. Nothing of bilevelbench is imported: the library that FILE
uses may need an environment in which bilevelbench cannot be installed.
"""

from .answers import accuracy, honesty, scales
from .door import Door, through
from .effects import cost, effects
from .points import minibatches, place, truncation
from .tasks import Quadratic, ask, off, through_jax

PARTS = (accuracy, scales, honesty, place, truncation, minibatches, effects, cost)

__all__ = ["PARTS", "Door", "Quadratic", "ask", "off", "through", "through_jax"]
