"""The exceptions of the package: a refusal that says what to do next, and a fault of its own."""

from __future__ import annotations

__all__ = ["InternalError", "NotMarginalizable"]


class InternalError(RuntimeError):
    """A model that the package made is not what it should be: a fault of the package.

    Parameters
    ----------
    variable : str
        Name of the variable that is wrong.
    reason : str
        What is wrong with it.
    """

    def __init__(self, variable: str, reason: str) -> None:
        self.variable = variable
        self.reason = reason
        super().__init__(
            f"A fault of pymc_marginal_lmm, not of your model, at '{variable}': {reason}. The "
            "model that was made is not returned, since its density would be wrong. Please report "
            "this, with the code of your model."
        )

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return type(self), (self.variable, self.reason)


class NotMarginalizable(ValueError):
    """A variable cannot be integrated out exactly; the model is left as it was.

    Parameters
    ----------
    variable : str
        Name of the variable that was refused.
    reason : str
        Why, in terms of the user's model.
    remedy : str
        What the user can do instead.
    place : str, optional
        The operation of the model's graph at which the reason was found.

    Attributes
    ----------
    variable, reason, remedy, place : str
        As given.
    """

    def __init__(self, variable: str, reason: str, remedy: str, place: str = "") -> None:
        self.variable = variable
        self.reason = reason
        self.remedy = remedy
        self.place = place
        where = f" (at {place})" if place else ""
        super().__init__(f"Cannot integrate out '{variable}': {reason}{where}. {remedy}")

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return type(self), (self.variable, self.reason, self.remedy, self.place)
