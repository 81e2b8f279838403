"""YAML from files that may come from elsewhere: plain mappings, nothing that runs or refers.

Refused, with file and line: anchors' aliases (a few lines of them can grow to gigabytes), tags that
make objects, repeated keys, keys that aren't text, `${...}` interpolations (OmegaConf would read
environment variables through them), deep nesting, and documents over 64 KiB.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from polyprag.errors import ConfigError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16

# libyaml where PyYAML comes with it: six times as fast, on a document that was made to be slow.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


@dataclass(frozen=True, slots=True)
class Setting:
    """One leaf of a document: `key` is dotted, `where` is FILE:LINE (or the command line)."""

    key: str
    value: Any
    where: str


def parse_mapping(text: str, *, where: str) -> dict[str, Any]:
    """Returns the document's mapping ({} for an empty document).

    Args:
        text: the YAML text.
        where: names the text in errors, usually its path.

    Raises:
        ConfigError: it isn't YAML, isn't a mapping, or holds something that is refused.
    """
    node = _compose(text, where=where)
    return {} if node is None else _construct(node, where=where)


def parse_settings(text: str, *, where: str) -> list[Setting]:
    """Returns the document's leaves in order, each with the line that it is on.

    A list is one leaf. A section with nothing in it has no leaves.

    Args:
        text: the YAML text.
        where: names the text in errors, usually its path.

    Raises:
        ConfigError: as in `parse_mapping`.
    """
    node = _compose(text, where=where)
    return [] if node is None else _leaves(node, prefix="", where=where)


def parse_value(text: str, *, where: str) -> Any:
    """Returns what one YAML value stands for, such as `3`, `0.1`, `true`, `null` or `[a, b]`.

    Args:
        text: the YAML text of the value.
        where: names the value in errors.

    Raises:
        ConfigError: it isn't YAML or holds something that is refused.
    """
    mapping = parse_mapping("value: " + text, where=where)
    if list(mapping) != ["value"]:
        raise ConfigError(f"{where}: {text!r} isn't one value")
    return mapping["value"]


def refuse_interpolation(text: str, *, where: str) -> None:
    """Raises ConfigError if the text is an OmegaConf interpolation or its mark for "missing"."""
    if "${" in text:
        raise ConfigError(f"{where}: ${{...}} isn't allowed in a config: write the value itself")
    if text == "???":
        raise ConfigError(f"{where}: ??? stands for a missing value: write the value itself")


def _compose(text: str, *, where: str) -> yaml.MappingNode | None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{where}: a config has at most {MAX_BYTES // 1024} KiB")
    try:
        _check_tokens(text, where=where)
        node = yaml.compose(text, Loader=_LOADER)
        if node is None or (isinstance(node, yaml.ScalarNode) and node.value == ""):
            return None
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{where}: a config is a mapping of sections, such as `train:`")
        _check(node, where=where)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        last = text.rstrip("\n").count("\n")  # libyaml names the line after it
        line = f":{min(mark.line, last) + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from None
    return node


def _check_tokens(text: str, *, where: str) -> None:
    depth = 0  # PyYAML's time grows with its square, its stack with it
    for token in yaml.scan(text, Loader=_LOADER):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.AliasToken):
            raise ConfigError(f"{where}:{line}: aliases (*{token.value}) aren't allowed")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where}:{line}: nested too deeply for a config")


def _check(node: yaml.Node, *, where: str) -> None:
    line = f"{where}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode):
        refuse_interpolation(node.value, where=line)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, where=where)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            at = f"{where}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise ConfigError(f"{at}: a key must be plain text")
            refuse_interpolation(key.value, where=at)
            if key.value in seen:
                raise ConfigError(f"{at}: {key.value} is given twice")
            seen.add(key.value)
            _check(value, where=where)


def _construct(node: yaml.Node, *, where: str) -> Any:
    try:
        return yaml.constructor.SafeConstructor().construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or node.start_mark
        raise ConfigError(f"{where}:{mark.line + 1}: {error.problem}") from None
    except ValueError as error:  # a date or number that doesn't exist, such as 2020-13-45
        raise ConfigError(f"{where}:{node.start_mark.line + 1}: {error}") from None


def _leaves(node: yaml.MappingNode, *, prefix: str, where: str) -> list[Setting]:
    leaves = []
    for key, value in node.value:
        dotted = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode):
            leaves += _leaves(value, prefix=f"{dotted}.", where=where)
        else:
            leaf = _construct(value, where=where)
            leaves.append(Setting(dotted, leaf, f"{where}:{key.start_mark.line + 1}"))
    return leaves
