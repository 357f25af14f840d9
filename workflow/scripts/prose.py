"""The project's own style of English, for `make lint`: phrases that need a second reading, and what to write instead.

Reads README.md, docs/, and every text in the package: help, captions, docstrings, errors.
Generated parts and code of Markdown pages are left out. Exits with status 1 after naming each phrase.

python workflow/scripts/prose.py
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADVICE = {
    r"\bat hand\b": "available",
    r"\b(where|when) there (is|are|was|were)\b": "if there is; if it exists",
    r"\bas far as (it is|they are) there\b": "if it exists",
    r"\bgo(es)? on (where|from)\b|\bcommand goes on\b": "resumes",
    r"\b(in|take|takes|taking) turns\b": "alternate; interleaved",
    r"\bnarrow passage\b": "results are very sensitive to",
    r"\bbill(s|ed)?\b": "is charged",
    r"\b(the|same|another|by) maker\b": "vendor",
    r"\bcannot be had\b|\bcan be had\b": "is not supported; is available",
    r"\bunseen\b": "without verify reporting it",
    r"\bown words\b": "log",
    r", of 1\b": "(fraction)",
    r"\bwhat (is|was) left\b": "the remaining network; what remains",
    r"\bstands? (in|beside|there|here)\b": "is in",
    r"\b(lies?|lay) (in|there|beside|here)\b": "is in",
    r"\bso many (GPUs|CPUs|devices|threads|seeds)\b": "that many",
    r"\bhardly any\b": "few; almost no",
    r"\bin the hands of\b|'s hands\b": "say who does it",
    r"\b(is|are|was|were) asked (for|to)\b": "the budget; if requested",
    r"\b(where|for) (none|one) (is|was) (given|named)\b": "by default",
    r"\b(utili[sz]e|leverage|in order to|prior to|etc\.)": "plain words",
}
"""Pattern -> what is meant, written plainly."""
LONGEST = 60
"""Words in a sentence."""


def texts() -> Iterator[tuple[str, int, str]]:
    """File, line and text of everything that people read."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        yield from _of_page(page)
    package = ROOT / "src" / "layerprune"
    for module in sorted(package.rglob("*.py")):
        yield from _of_module(module)


def _of_page(page: Path) -> Iterator[tuple[str, int, str]]:
    written = page.read_text(encoding="utf-8")
    hidden = r"<!-- (generated|table):(\S+) -->.*?<!-- /\1:\2 -->|```.*?```|`[^`\n]*`"
    prose = re.sub(hidden, lambda match: re.sub(r"[^\n]", " ", match[0]), written, flags=re.DOTALL)
    for paragraph in re.finditer(r"(?:.+\n?)+", prose):
        yield page.relative_to(ROOT).as_posix(), prose.count("\n", 0, paragraph.start()) + 1, paragraph[0]


def _of_module(module: Path) -> Iterator[tuple[str, int, str]]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield module.relative_to(ROOT).as_posix(), node.lineno, node.value


def complaints(text: str) -> Iterator[str]:
    """What is wrong with a text, in the order of ADVICE."""
    flat = " ".join(text.split())
    for pattern, advice in ADVICE.items():
        for match in re.finditer(pattern, flat, flags=re.IGNORECASE):
            yield f"'{match[0]}': write: {advice}"
    for sentence in re.split(r"(?<=[.!?:;|])\s|\n {4}", text):
        if len(sentence.split()) > LONGEST:
            yield f"{len(sentence.split())} words in one sentence: '{' '.join(sentence.split()[:6])} ...'"


def main() -> int:
    found = [f"{file}:{line}: {each}" for file, line, text in texts() for each in complaints(text)]
    print("\n".join(found), end="\n" * bool(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
