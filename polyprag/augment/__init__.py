"""Rewrites and question-answer pairs for every passage of a corpus."""

from polyprag.augment.corpus import augment_corpus, num_without_augmentation

__all__ = ["augment_corpus", "num_without_augmentation"]
