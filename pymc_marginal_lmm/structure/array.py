"""What a member of a model is: numbers, or symbols for them."""

from __future__ import annotations

import numpy as np
from pytensor.graph.basic import Variable

__all__ = ["Array"]

type Array = np.ndarray | Variable
"""Numbers where they are known when the model is read, a PyTensor variable where they are not."""
