"""The rows that stand in for those of a question's own passages: other passages', or random ones.

`poly-wrong-row` shows what any passage's mixture knows, with all that the rows have in common;
`poly-random-row` what a mixture knows that no passage has, and that is as sharp.
"""

import hashlib
from collections.abc import Collection, Sequence

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
    rng = np.random.default_rng([seed, _number_of(question)])
    chosen: list[int] = []
    while len(chosen) < num_wanted:
        candidate = int(rng.integers(num_passages))
        if candidate not in taken:
            taken.add(candidate)
            chosen.append(candidate)
    return np.asarray(chosen, dtype=np.int64)


def random_rows(
    question: str,
    rows_kSK: npt.NDArray[np.floating],
    *,
    ids: Sequence[int] | npt.NDArray[np.int64],
    seed: int,
) -> npt.NDArray[np.float32]:
    """Returns rows (k, S, K) that belong to no passage; the same ones for the same arguments.

    Their numbers are drawn from the normal distribution that has the mean and the spread of the
    passage's own row at each site. So the gates are about as sharp as its own, while those of a
    fresh row, before any training, would nearly be those of `poly-uniform`.

    Args:
        question: with `seed` and a passage's id, all that a draw depends on, besides mean and
            spread.
        rows_kSK: of the question's passages.
        ids: of these passages.
        seed: of the draws.
    """
    own_kSK = np.asarray(rows_kSK, dtype=np.float32)
    rngs = [np.random.default_rng([seed, _number_of(question), int(i)]) for i in ids]
    drawn_kSK = np.stack([rng.standard_normal(own_kSK.shape[1:], np.float32) for rng in rngs])
    mean_kS1, spread_kS1 = own_kSK.mean(-1, keepdims=True), own_kSK.std(-1, keepdims=True)
    found: npt.NDArray[np.float32] = mean_kS1 + spread_kS1 * drawn_kSK
    return found


def _number_of(question: str) -> int:
    return int.from_bytes(hashlib.blake2b(question.encode(), digest_size=8).digest())
