"""The quickstart's recipe, and the changes that might keep rounding from growing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """A way to train the quickstart.

    Attributes:
        name: for the tables.
        changed: settings that differ from the quickstart's, as `section.key=value`.
        epsilon: of both Adams; 1e-8 is what polyprag trains with.
    """

    name: str
    changed: tuple[str, ...] = ()
    epsilon: float = 1e-8


RECIPES = (
    Recipe("quickstart"),
    Recipe("warm-up, 5 % of the steps", ("train.warmup_ratio=0.05",)),
    Recipe("epsilon 1e-6", epsilon=1e-6),
    Recipe("epsilon 1e-4", epsilon=1e-4),
    Recipe("warm-up and epsilon 1e-6", ("train.warmup_ratio=0.05",), epsilon=1e-6),
)
EXACT = Recipe("exact", ("train.exact=true",))
