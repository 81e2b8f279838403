"""The ways in which a question may be answered.

closed           the base model alone
rag              the base model with the passages in its prompt
poly             the passages' mixture of experts, no passage in the prompt
combine          both
poly-wrong-row   control: each passage's row is that of some other passage
poly-random-row  control: each passage's row is drawn at random, as sharp as its own
poly-uniform     control: every expert weighs alike (rows of ones)
routed           the mixture that a learned map gives to the question; nothing is retrieved
"""

from typing import Literal

Mode = Literal[
    "closed",
    "rag",
    "poly",
    "combine",
    "poly-wrong-row",
    "poly-random-row",
    "poly-uniform",
    "routed",
]
CONTROLS: tuple[Mode, ...] = (  # for evaluation only
    "poly-wrong-row",
    "poly-random-row",
    "poly-uniform",
)
SEARCHES: tuple[Mode, ...] = ("rag", "poly", "combine", *CONTROLS)
WITHOUT_MAP: tuple[Mode, ...] = ("closed", *SEARCHES)  # all that a run without RUN/router can do
MODES: tuple[Mode, ...] = (*WITHOUT_MAP, "routed")
READS: frozenset[Mode] = frozenset({"rag", "combine"})  # passages are in the prompt
MIXES: frozenset[Mode] = frozenset(MODES) - {"closed", "rag"}


def ready_modes(*, has_index: bool, has_experts: bool, has_map: bool) -> list[Mode]:
    """Returns the modes, controls included, that a run has everything for."""
    return [
        mode
        for mode in MODES
        if (has_index or mode not in SEARCHES)
        and (has_experts or mode not in MIXES)
        and (has_map or mode != "routed")
    ]
