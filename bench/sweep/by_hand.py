"""The same sweep with llama.cpp's own tools: convert, quantize, perplexity and divergence of each level."""

import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.convert import FILE_NAME
from engines.domains import TEXT_SUFFIX, TEXTS

SITE = Path(sysconfig.get_path("purelib"))
PERPLEXITY = re.compile(r"^Mean PPL\(Q\) *: +([\d.]+)", re.MULTILINE)
DIVERGENCE = re.compile(r"^Mean +KLD: +([\d.]+)", re.MULTILINE)


@dataclass(frozen=True)
class Score:
    """What was measured of one level on one text."""

    perplexity: float
    kl_divergence: float


Scores = dict[tuple[str, str], Score]  # by level and text


class ByHand:
    """The tools, on one model and a folder.

    Args:
        model: the folder of full precision.
        folder: where files go.
        windows: of each text.
        threads: for every tool.
    """

    def __init__(self, model: Path, folder: Path, windows: int, threads: int) -> None:
        self._model = model
        self._folder = folder
        self._windows = windows
        self._threads = threads

    def naive(self, levels: Sequence[str], texts: Sequence[str]) -> tuple[float, Scores]:
        """Do all of it for each level, one after the other, and return the seconds and what was measured."""
        begin = time.monotonic()
        scores: Scores = {}
        for level in levels:
            self._convert()
            file = self._quantize(level)
            for text in texts:
                self._base(text)
                scores[level, text] = self._score(file, text)
        return time.monotonic() - begin, scores

    def at_best(self, levels: Sequence[str], texts: Sequence[str]) -> tuple[float, Scores]:
        """Convert once, have full precision's answers once, then each level; return as ``naive`` does."""
        begin = time.monotonic()
        self._convert()
        for text in texts:
            self._base(text)
        files = {level: self._quantize(level) for level in levels}
        scores = {(level, text): self._score(file, text) for level, file in files.items() for text in texts}
        return time.monotonic() - begin, scores

    def _convert(self) -> None:
        self._run([sys.executable, "-m", "bench.sweep.conversion", str(self._model), str(self._folder)])

    def _quantize(self, level: str) -> Path:
        file = self._folder / f"{level}.gguf"
        self._tool("llama-quantize", self._folder / FILE_NAME, file, level, self._threads)
        return file

    def _base(self, text: str) -> None:
        self._perplexity(self._folder / FILE_NAME, text, "-f", TEXTS / f"{text}{TEXT_SUFFIX}")

    def _score(self, file: Path, text: str) -> Score:
        said = self._perplexity(file, text, "--kl-divergence")
        perplexity, divergence = PERPLEXITY.search(said), DIVERGENCE.search(said)
        if perplexity is None or divergence is None:
            raise SystemExit("llama-perplexity ended before it had printed its last. Run this again.")
        return Score(float(perplexity[1]), float(divergence[1]))

    def _perplexity(self, file: Path, text: str, *options: object) -> str:
        base = self._folder / f"{text}.base"
        known = ("-c", 512, "-t", self._threads, "--chunks", self._windows, "--kl-divergence-base", base)
        return self._tool("llama-perplexity", "-m", file, *known, *options)

    def _tool(self, name: str, *arguments: object) -> str:
        return self._run([str(SITE / "bin" / name), *map(str, arguments)])

    def _run(self, command: Sequence[str]) -> str:
        environment: Mapping[str, str] = {"LD_LIBRARY_PATH": str(SITE / "lib"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout + done.stderr
