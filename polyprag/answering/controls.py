"""The passages whose rows stand in for a question's own in the control `poly-wrong-row`."""

import hashlib
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError


def other_passages(
    question: str, *, num_wanted: int, num_passages: int, barred: Collection[int], seed: int
) -> npt.NDArray[np.int64]:
    """Returns ids of passages that aren't the question's own; the same ones for the same arguments.

    Args:
        question: with `seed`, all that the choice depends on, so batches and order don't matter.
        num_wanted: how many different ids to return.
        num_passages: ids are 0..num_passages-1.
        barred: ids never to return: the question's retrieved and gold passages.
        seed: of the choice.

    Raises:
        RunError: the corpus hasn't that many other passages.
    """
    taken = {int(i) for i in barred if 0 <= i < num_passages}
    if num_passages - len(taken) < num_wanted:
        raise RunError(
            f"poly-wrong-row needs {num_wanted} passages that aren't a question's own, and "
            f"{len(taken)} of the corpus's {num_passages} passages are: leave the method out, "
            "lower --top-k, or encode more passages"
        )
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest)])
    chosen: list[int] = []
    while len(chosen) < num_wanted:
        candidate = int(rng.integers(num_passages))
        if candidate not in taken:
            taken.add(candidate)
            chosen.append(candidate)
    return np.asarray(chosen, dtype=np.int64)
