"""Texts as they are compared: words in lower case, without punctuation, one space between them."""


def worded(text: str) -> str:
    """Returns a text's letters and digits in lower case, everything else being one space."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def holds(words: str, part: str) -> bool:
    """Returns whether a worded text holds the words of another one, whole and in their order."""
    return bool(part) and f" {part} " in f" {words} "
