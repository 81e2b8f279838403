"""Reads a corpus in training code that is built on webdataset.

polyprag prepare runs/quick examples/popqa/passages.jsonl
python examples/webdataset_pipeline.py runs/quick/corpus
"""

import sys

from torch.utils.data import DataLoader

from sharding.corpus.webdataset import open_pipeline


def main(corpus: str) -> None:
    """Goes through an epoch in batches of 32 that two processes read."""
    pipeline = open_pipeline(corpus, shuffle=1000, seed=0)
    batches = DataLoader(pipeline, batch_size=32, num_workers=2, collate_fn=list)
    num_passages = num_words = 0
    for batch in batches:
        num_passages += len(batch)
        num_words += sum(len(sample["text"].split()) for sample in batch)
    print(f"{num_passages} passages, {num_words} words")


if __name__ == "__main__":
    main(*sys.argv[1:])
