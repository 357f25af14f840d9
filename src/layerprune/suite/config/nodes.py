"""Limits on YAML in a file of settings, checked before values are constructed: keys are strings, nothing is nested
deeply, no value is longer than a few pages, and aliases do not multiply it.
"""

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

DEEPEST = 30
LONGEST = 10_000
"""Characters of a key or a value."""
MOST = 100_000
"""Values, each counted as often as aliases repeat it."""


def check_nodes(root: Node) -> None:
    """Raises ValueError, in one line, for what makes no sense in settings."""
    _count(root, {}, 1)


def _count(node: Node, known: dict[int, int], depth: int) -> int:
    """How many values a node stands for; `known` are those counted, 0 while they are being counted."""
    if id(node) in known:
        return known[id(node)] or _refuse(node, "an alias stands within what it names")
    if depth > DEEPEST:
        _refuse(node, "nested too deeply")
    known[id(node)] = 0
    known[id(node)] = total = 1 + sum(_count(each, known, depth + 1) for each in _parts(node))
    if total > MOST:
        _refuse(node, f"aliases make more than {MOST:,} values of it")
    return total


def _parts(node: Node) -> list[Node]:
    if isinstance(node, ScalarNode) and len(node.value) > LONGEST:
        _refuse(node, f"a value of {len(node.value):,} characters")
    if isinstance(node, ScalarNode) and any("\ud800" <= letter <= "\udfff" for letter in node.value):
        _refuse(node, "half a character")
    if isinstance(node, MappingNode):
        odd = next((key for key, _ in node.value if not isinstance(key, ScalarNode)), None)
        if odd is not None:
            _refuse(odd, "a key that is no text")
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, SequenceNode) else []


def _refuse(node: Node, reason: str) -> int:
    raise ValueError(f"line {node.start_mark.line + 1}: {reason}")
