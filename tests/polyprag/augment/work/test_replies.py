"""What came is there after any stop, on a disk and in a storage that can't append."""

import threading
from pathlib import Path

import pytest

from polyprag.augment.work import replies
from polyprag.augment.work.replies import (
    ReplyWriter,
    drop_replies,
    keep_replies_of,
    partitions_with_replies,
    passage_digest,
    read_replies,
    replies_dir,
    settings_digest,
)
from polyprag.augment.written import Dropped, Written
from sharding.corpus.passages import QA, Augmentation, Passage
from sharding.storage.files import list_names

PASSAGES = [Passage(i, f"k{i}", f"Title {i}", f"Text {i}.") for i in range(4)]
SETTINGS = settings_digest({"backend": "hf", "num_qas": 3})


def _written(passage: Passage) -> Written:
    qa = QA(f"What is {passage.title}?", "Zoë", "It is Zoë.")
    return Written(
        Augmentation((f"About {passage.title}",), (qa,)), (Dropped("duplicate", "Again?"),)
    )


def _places(tmp_path: Path) -> list[str]:
    return [str(tmp_path / "run"), f"memory://replies/{tmp_path.name}"]


@pytest.mark.parametrize("place", [0, 1])
def test_what_was_added_is_read_again_by_passage_and_settings(tmp_path: Path, place: int) -> None:
    run = _places(tmp_path)[place]
    directory = replies_dir(run, 3)
    assert read_replies(directory, SETTINGS) == {}
    for passages in (PASSAGES[:2], PASSAGES[2:3]):  # a run that was stopped, and the next
        with ReplyWriter(directory, SETTINGS) as kept:
            for passage in passages:
                kept.add(passage, _written(passage))
    expected = {passage_digest(passage): _written(passage) for passage in PASSAGES[:3]}
    assert read_replies(directory, SETTINGS) == expected
    assert read_replies(directory, settings_digest({"backend": "hf", "num_qas": 4})) == {}
    assert partitions_with_replies(run) == {3}
    reworded = Passage(0, "k0", "Title 0", "Text 0, reworded.")
    assert passage_digest(reworded) not in expected
    drop_replies(run, [3])
    assert read_replies(directory, SETTINGS) == {}


def test_each_reply_is_there_before_the_next_is_waited_for(tmp_path: Path) -> None:
    directory = replies_dir(str(tmp_path), 0)
    kept = ReplyWriter(directory, SETTINGS)
    for number, passage in enumerate(PASSAGES, start=1):
        kept.add(passage, _written(passage))
        assert len(read_replies(directory, SETTINGS)) == number  # though nothing is closed


def test_an_uploaded_reply_does_not_wait_for_the_next(tmp_path: Path) -> None:
    directory = replies_dir(f"memory://replies/{tmp_path.name}", 0)
    kept = ReplyWriter(directory, SETTINGS)
    kept.add(PASSAGES[0], _written(PASSAGES[0]))
    there = threading.Event()
    for _ in range(1000):
        if read_replies(directory, SETTINGS):
            there.set()
            break
        threading.Event().wait(0.01)
    assert there.is_set()
    kept.__exit__(None, None, None)


def test_an_error_of_the_storage_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(url: str) -> None:
        raise OSError("no room")

    monkeypatch.setattr(replies, "atomic_write", full)
    with (
        pytest.raises(OSError, match="no room"),
        ReplyWriter(replies_dir(f"memory://replies/{tmp_path.name}", 0), SETTINGS) as kept,
    ):
        kept.add(PASSAGES[0], _written(PASSAGES[0]))


@pytest.mark.parametrize("damage", ["torn", "flipped", "garbage"])
def test_a_torn_or_damaged_line_is_passed_over(tmp_path: Path, damage: str) -> None:
    directory = replies_dir(str(tmp_path), 0)
    with ReplyWriter(directory, SETTINGS) as kept:
        for passage in PASSAGES:
            kept.add(passage, _written(passage))
    (name,) = list_names(directory)
    path = Path(directory) / name
    data = path.read_bytes()
    if damage == "torn":
        path.write_bytes(data[:-20])
    elif damage == "flipped":
        last = data.rindex(b"About")
        path.write_bytes(data[:last] + b"ABOUT" + data[last + 5 :])
    else:
        path.write_bytes(data[: data[:-1].rindex(b"\n") + 1] + b"\x00\xff{]\n")
    read = read_replies(directory, SETTINGS)
    assert read == {passage_digest(each): _written(each) for each in PASSAGES[:3]}


@pytest.mark.parametrize("place", [0, 1])
def test_what_came_for_a_removed_passage_goes(tmp_path: Path, place: int) -> None:
    directory = replies_dir(_places(tmp_path)[place], 0)
    for passage in PASSAGES:
        with ReplyWriter(directory, SETTINGS) as kept:
            kept.add(passage, _written(passage))
            if passage.id == 0:
                kept.add(PASSAGES[3], _written(PASSAGES[3]))
    keep_replies_of(directory, [PASSAGES[0], PASSAGES[2]])
    assert read_replies(directory, SETTINGS) == {
        passage_digest(each): _written(each) for each in (PASSAGES[0], PASSAGES[2])
    }
