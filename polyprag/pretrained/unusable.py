"""What is raised for a model that can't be used, and any library's error as one line of it."""


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
