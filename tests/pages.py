"""The code blocks of the README and the documentation, and what a reader has installed by then.

``python tests/pages.py README.md`` runs those of a page: in their order as one program, ``pycon``
blocks as doctests. The module needs nothing but the standard library, so that it runs where only
what a page asks for is installed.
"""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "docs/install.md"
BLOCK = re.compile(r"^```(python|pycon)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"\bpip install ([^`\n#]+)")


def pages() -> list[str]:
    """Return all pages with code."""
    written = [ROOT / "README.md"]
    written += [
        p for p in (ROOT / "docs").rglob("*.md") if not {"_build", "notebooks"} & {*p.parts}
    ]
    return sorted(str(p.relative_to(ROOT)) for p in written if BLOCK.search(p.read_text()))


def run(page: str, text: str) -> dict[str, Any]:
    """Run the blocks of a page."""
    found: dict[str, Any] = {}
    parser = doctest.DocTestParser()
    runner = doctest.DebugRunner(optionflags=doctest.ELLIPSIS)
    for language, block in BLOCK.findall(text):
        if language == "python":
            exec(compile(block, page, "exec"), found)
        else:
            test = parser.get_doctest(block, {}, page, page, 0)
            test.globs = found
            runner.run(test, clear_globs=False)
    return found


def stages(page: str) -> list[tuple[tuple[str, ...], str]]:
    """Return what a reader has installed, and the page up to where more is asked for.

    A page that asks for nothing is for those who did what the page on installation says.
    """
    text = (ROOT / page).read_text()
    commands = [*COMMAND.finditer(text)]
    cuts = [*(c.start() for c in commands), len(text)]
    installed: list[str] = []
    found = []
    if BLOCK.search(text[: cuts[0]]):
        first = COMMAND.search((ROOT / INSTALL).read_text())
        assert first is not None
        installed = shlex.split(first[1])
        found = [(tuple(installed), text[: cuts[0]])]
    for command, (start, end) in zip(commands, pairwise(cuts), strict=True):
        installed += shlex.split(command[1])
        if BLOCK.search(text[start:end]):
            found.append((tuple(sorted({*installed})), text[:end]))
    return found


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(name, Path(name).read_text())
