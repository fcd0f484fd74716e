"""A Dockerfile, read as far as its tests look: stages, and instructions with their lines joined."""

import re
from dataclasses import dataclass
from pathlib import Path

_JOINED = re.compile(r"\\\n\s*")


@dataclass(frozen=True)
class Instruction:
    """One line, its continuations included."""

    keyword: str
    rest: str


@dataclass(frozen=True)
class Stage:
    """A FROM and what follows it."""

    base: str
    name: str | None
    instructions: tuple[Instruction, ...]

    def all(self, keyword: str) -> list[str]:
        return [instruction.rest for instruction in self.instructions if instruction.keyword == keyword]


def stages(path: Path) -> list[Stage]:
    text = "\n".join(line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#"))
    found: list[Stage] = []
    for line in _JOINED.sub("", text).splitlines():
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name or None, ()))
        else:
            stage = found.pop()
            found.append(Stage(stage.base, stage.name, (*stage.instructions, Instruction(keyword, rest))))
    return found
