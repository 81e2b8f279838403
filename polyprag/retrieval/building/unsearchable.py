"""Passages that a search can't find: they are counted, one is shown, and all are refused."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from polyprag.errors import CorpusError, RunError
from polyprag.retrieval.dense.embeddings import read_notes
from polyprag.retrieval.lexical.term_counts import TermCounts
from polyprag.retrieval.parts.index_store import IndexStore
from polyprag.retrieval.parts.part import IndexPart
from polyprag.retrieval.parts.passages import PassageStore
from polyprag.retrieval.parts.span import Span
from polyprag.retrieval.remedy import REMEDY

_SHOWN_CHARACTERS = 40

Ids = npt.NDArray[np.int64]


class Unsearchable:
    """Says of a segment's passages which of them a search won't find."""

    def __init__(
        self,
        store: IndexStore,
        passages: PassageStore,
        spans: Sequence[Span],
        *,
        removed: Sequence[int],
        say: Callable[[str], None],
        is_base: bool,
    ) -> None:
        """Takes what the segment has.

        Args:
            store: RUN/index.
            passages: of the segment.
            spans: of its groups.
            removed: ids of the corpus's removed passages, of whom nothing is said.
            say: takes a sentence for the user.
            is_base: whether it is refused that none of the passages can be found: a few passages
                that an index grows by are only told of.
        """
        self._store, self._passages, self._spans = store, passages, spans
        self._removed, self._say, self._is_base = removed, say, is_base

    def by_words(self, counts: Sequence[IndexPart], *, language: str) -> None:
        """Looks for passages without any term.

        Args:
            counts: the term counts of each group.
            language: `index.language`.

        Raises:
            CorpusError: there is no other one in the base.
        """
        empty = [
            np.flatnonzero(TermCounts.open(self._store.local(part)).lengths == 0) for part in counts
        ]
        self._tell(
            self._live(empty),
            f"no word that can be searched (index.language={language})",
            "a search by words won't find them",
        )

    def by_vectors(self, embeddings: Sequence[IndexPart], *, encoder: str) -> None:
        """Looks for passages that the encoder knows nothing of, and for those that it had to cut.

        Args:
            embeddings: of each group.
            encoder: `index.encoder`.

        Raises:
            CorpusError: it knows nothing of any passage of the base.
        """
        notes = [read_notes(self._store.local(part)) for part in embeddings]
        if encoder != "lsa":  # of its zero vectors the terms have told
            self._tell(
                self._live([note.without_vector for note in notes]),
                f"no text that index.encoder={encoder} can read: its tokens are mostly unknown",
                "a search by vectors won't find them",
            )
        cut = self._live([note.cut for note in notes])
        if len(cut):
            self._say(
                f"{len(cut):,} passages are longer than the embeddings endpoint takes and were "
                f"cut, such as {self._shown(int(cut[0]))}; index.max_tokens says where"
            )

    def _live(self, positions: Sequence[npt.ArrayLike]) -> Ids:
        ids = []
        for each, span in zip(positions, self._spans, strict=True):
            found = np.asarray(each)
            if found.size and not 0 <= found.min() <= found.max() < span.num_passages:
                raise RunError(f"the notes of an index's embeddings name no passage; {REMEDY}")
            ids.append(found.astype(np.int64) + span.first_id)
        return np.setdiff1d(np.concatenate(ids), np.asarray(self._removed, np.int64))

    def _tell(self, ids: Ids, what: str, consequence: str) -> None:
        if not len(ids):
            return
        span = self._passages.span
        num_live = span.num_passages - len(span.positions(self._removed))
        shown = self._shown(int(ids[0]))
        if len(ids) == num_live and self._is_base:
            raise CorpusError(
                f"none of the {num_live:,} passages can be searched: they have {what}, such as "
                f"{shown}; take another index.language or index.encoder, or check the corpus"
            )
        have = "has" if len(ids) == 1 else "have"
        self._say(
            f"{len(ids):,} of {num_live:,} passages {have} {what}, such as {shown}; {consequence}"
        )

    def _shown(self, passage_id: int) -> str:
        passage = self._passages[passage_id]
        text = f"{passage.title}: {passage.text}" if passage.title else passage.text
        return f"passage {passage.key!r} ({text[:_SHOWN_CHARACTERS]!r})"
