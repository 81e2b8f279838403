"""One partition's passages written about: what came before is kept, what is open is asked for."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

from msgspec.structs import replace

from polyprag.augment.worded import worded
from polyprag.augment.work.replies import (
    ReplyWriter,
    passage_digest,
    read_replies,
    replies_dir,
    settings_digest,
)
from polyprag.augment.work.writers import MODELS, writer_of
from polyprag.augment.written import Dropped, Written
from polyprag.config import Config
from sharding.corpus.passages import QA, Augmentation, Passage, Record
from sharding.corpus.rewrite import Rewritten
from sharding.shown_progress import tell_part

_SAMPLES = 3  # items of each reason that are shown


@dataclass(slots=True)
class Came:
    """What came of asking about passages.

    Attributes:
        asked: passages asked about.
        written: those of them that something came for, be it nothing worth keeping.
        kept: those that had come before, in a run that was stopped.
        added: own pairs that joined a passage.
        failures: the passages that stay open, by the words of the server or model.
        dropped: items that aren't kept, by reason.
        samples: a few of them for each reason.
    """

    asked: int = 0
    written: int = 0
    kept: int = 0
    added: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, items: Iterable[Dropped]) -> None:
        """Counts items that aren't kept."""
        for item in items:
            self.dropped[item.reason] += 1
            shown = self.samples.setdefault(item.reason, [])
            if len(shown) < _SAMPLES and item.text not in shown:
                shown.append(item.text)

    def join(self, other: "Came") -> None:
        """Adds what came in another partition."""
        self.asked += other.asked
        self.written += other.written
        self.kept += other.kept
        self.added += other.added
        self.failures += other.failures
        self.dropped += other.dropped
        for reason, texts in other.samples.items():
            shown = self.samples.setdefault(reason, [])
            shown.extend([text for text in texts if text not in shown][: _SAMPLES - len(shown)])


@dataclass(frozen=True, slots=True)
class PartitionWork:
    """What is to be done about a partition; any process can do it.

    Attributes:
        run_dir: RUN, as workers see it.
        index: the partition's number.
        config: of the run.
        settings: see `polyprag.augment.settings.deciding`.
        anew: whether what its records hold doesn't count.
        pairs: own question-answer pairs, by `passage_digest`.
        lets_go: whether a partition of which everything stays open is done all the same.
    """

    run_dir: str
    index: int
    config: Config
    settings: Mapping[str, object]
    anew: bool
    pairs: Mapping[str, tuple[QA, ...]]
    lets_go: bool = False

    def __call__(self, records: list[Record]) -> Rewritten:
        """Returns the partition's new records.

        Where passages stay open whose records hold an earlier augmentation, which `anew` is to
        replace, the partition stays as it is: what came for the others waits in RUN/augment.
        """
        came = Came()
        live = [record.passage for record in records if not record.passage.is_removed]
        written = {
            record.passage.id: record.augmentation
            for record in records
            if record.augmentation is not None and not self.anew and not record.passage.is_removed
        }
        open_ = [passage for passage in live if passage.id not in written]
        written |= self._write(open_, came)
        for passage in live:
            self._add_pairs(passage, written, came)
        is_whole = all(passage.id in written for passage in live)
        holds_earlier = self.anew and any(record.augmentation is not None for record in records)
        if holds_earlier and not is_whole:
            came.dropped.clear()  # counted when the replies are taken from where they wait
            return Rewritten(None, is_changed=False, notes=came)
        after = [replace(each, augmentation=written.get(each.passage.id)) for each in records]
        # A partition of removed passages only has nothing that could change, and is done.
        is_changed = bool(written) or not live or self.lets_go
        return Rewritten(after, is_changed=is_changed, notes=came)

    def _write(self, passages: list[Passage], came: Came) -> dict[int, Augmentation]:
        """Returns what came for passages, by id; nothing for those that stay open."""
        is_kept = self.config.augment.backend in MODELS
        directory = replies_dir(self.run_dir, self.index)
        settings = settings_digest(self.settings)
        before = read_replies(directory, settings) if is_kept and passages else {}
        found: dict[int, Augmentation] = {}
        asking: list[Passage] = []
        begun: dict[int, Written] = {}
        for passage in passages:
            kept = before.get(passage_digest(passage)) if before else None
            if kept is None or kept.asked:
                if kept is not None:
                    begun[len(asking)] = kept
                asking.append(passage)
                continue
            came.kept += 1
            came.drop(kept.dropped)
            found[passage.id] = kept.augmentation
        if not asking:
            return found
        came.asked += len(asking)
        write = writer_of(self.config)
        keeping = ReplyWriter(directory, settings) if is_kept else None
        silent = set(range(len(asking)))
        with keeping or nullcontext():
            came_in = write(asking, begun) if begun else write(asking)
            for number, (position, written) in enumerate(came_in, start=1):
                passage = asking[position]
                silent.discard(position)
                if written.failure is None:
                    found[passage.id] = written.augmentation
                before_it = begun.get(position)
                is_more = written.asked > (0 if before_it is None else before_it.asked)
                if keeping is not None and (written.failure is None or is_more):
                    keeping.add(passage, written)
                self._note(written, came)
                tell_part(number / len(asking))
        if silent:
            came.failures["the writer said nothing about it"] += len(silent)
        return found

    def _note(self, written: Written, came: Came) -> None:
        if not written.asked:  # else what is dropped is counted when all has come
            came.drop(written.dropped)
        if written.failure is None:
            came.written += 1
        else:
            came.failures[written.failure] += 1

    def _add_pairs(self, passage: Passage, written: dict[int, Augmentation], came: Came) -> None:
        """Adds own pairs, first, whose questions a passage doesn't have yet."""
        own = self.pairs.get(passage_digest(passage), ()) if self.pairs else ()
        augmentation = written.get(passage.id)
        if not own or augmentation is None:  # one that is open gets them with what will come
            return
        there = {worded(qa.question) for qa in augmentation.qas}
        new = [qa for qa in own if worded(qa.question) not in there]
        came.added += len(new)
        written[passage.id] = replace(augmentation, qas=(*new, *augmentation.qas))
