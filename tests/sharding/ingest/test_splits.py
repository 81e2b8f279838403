from pathlib import Path

import numpy as np

from sharding.ingest.splits import Split, load_split, save_split

SPLIT = Split(
    key="k",
    num_lines=3,
    skipped={"bad JSON": 1},
    open_at=7,
    has_made_ids=True,
    unread=((2, "not UTF-8: byte 2"),),
    columns={
        "lengths": np.array([2, 3], np.uint32),
        "lines": np.array([1, 3], np.uint32),
        "keys": np.array([2**64 - 1, 5], np.uint64),
        "texts": np.array([6, 7], np.uint64),
    },
    bodies=b"{}{ }",
)


def test_a_split_is_read_back_only_for_its_key(tmp_path: Path) -> None:
    url = str(tmp_path / "split")
    save_split(url, SPLIT)
    found = load_split(url, key="k")
    assert found is not None
    assert (found.num_lines, found.skipped, found.open_at) == (3, {"bad JSON": 1}, 7)
    assert found.has_made_ids and found.unread == ((2, "not UTF-8: byte 2"),)
    assert found.bodies == b"{}{ }" and found.body_offsets().tolist() == [0, 2, 5]
    assert found.columns.keys() == SPLIT.columns.keys()
    for name, column in SPLIT.columns.items():
        assert found.columns[name].tolist() == column.tolist()
    assert found.hashes("sources") is None
    assert load_split(url, key="other") is None
    assert load_split(str(tmp_path / "none"), key="k") is None


def test_a_damaged_split_is_none_wherever_the_damage_is(tmp_path: Path) -> None:
    url = tmp_path / "split"
    save_split(str(url), SPLIT)
    data = url.read_bytes()
    for end in range(len(data)):
        url.write_bytes(data[:end])
        assert load_split(str(url), key="k") is None, end
    body = data.index(b"\n") + 1
    for at in range(body, len(data)):
        url.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert load_split(str(url), key="k") is None, at
