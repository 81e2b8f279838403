"""What is raised for a model that can't be used, and any library's error as one line of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

LOAD_ERRORS = (OSError, ValueError, SafetensorError)  # what loading raises where it can't


class UnusableModelError(ValueError):
    """A model's files can't be used; says why in one line, without the setting that names it."""


def in_one_line(error: BaseException, *, most: int = 300) -> str:
    """Returns an error's text in one line, its class first where the text alone says little.

    Args:
        error: of any library.
        most: characters; the rest is left out.
    """
    text = " ".join(str(error).split())
    if not isinstance(error, OSError | ValueError):  # such as KeyError('yarn_2')
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= most else text[:most] + " ..."


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turns whatever a library says of a model's files into one line.

    They may hold anything, and transformers, tokenizers and PyTorch raise what they happen to: a
    KeyError for an unknown kind of rope, an ImportError for a package, a bare Exception.

    Raises:
        UnusableModelError: for any other error than those of `LOAD_ERRORS`.
    """
    import torch

    try:
        yield
    except (*LOAD_ERRORS, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UnusableModelError(in_one_line(error)) from error
