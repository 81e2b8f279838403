"""The ways in which a question may be answered.

closed           the base model alone
rag              the base model with the passages in its prompt
poly             the passages' mixture of experts, no passage in the prompt
combine          both
poly-wrong-row   control: each passage's row is that of some other passage
poly-uniform     control: every expert weighs alike (rows of ones)
routed           the mixture that a learned map gives to the question; nothing is retrieved
"""

from typing import Literal

Mode = Literal["closed", "rag", "poly", "combine", "poly-wrong-row", "poly-uniform", "routed"]
SEARCHES: tuple[Mode, ...] = ("rag", "poly", "combine", "poly-wrong-row", "poly-uniform")
WITHOUT_MAP: tuple[Mode, ...] = ("closed", *SEARCHES)  # all that a run without RUN/router can do
MODES: tuple[Mode, ...] = (*WITHOUT_MAP, "routed")
CONTROLS: tuple[Mode, ...] = ("poly-wrong-row", "poly-uniform")  # for evaluation only
READS: frozenset[Mode] = frozenset({"rag", "combine"})  # passages are in the prompt
MIXES: frozenset[Mode] = frozenset(MODES) - {"closed", "rag"}
