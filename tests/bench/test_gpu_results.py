"""The file of what was measured on a GPU: a row is kept at once, and not measured again."""

from pathlib import Path

from bench.gpu.results import Results


def test_rows_are_kept_as_a_table_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "gpu.md"
    first = Results(path, "a GPU")
    first.add("tiny", "gptq", {"prose": 25.004595, "bytes": 5096916, "checks": ["loads"], "missing": None})
    assert not Results(path, "another GPU").has("tiny", "gptq")
    second = Results(path, "a GPU")
    assert second.has("tiny", "gptq")
    assert not second.has("tiny", "awq")
    assert not second.has("deep", "gptq")
    second.add("tiny", "awq", {"prose": 26.0, "seconds": 1.5})
    text = path.read_text()
    assert "| gptq | 25 | 5096916 | ['loads'] |  |  |" in text
    assert "| awq | 26 |  |  |  | 1.5 |" in text
    assert "On a GPU." in text
    Results(path, "another GPU").add("tiny", "awq", {"prose": 27.0})
    both = path.read_text()
    assert "On another GPU.\n\n| name | prose |\n| --- | --- |\n| awq | 27 |" in both
    assert Results(path, "a third").page() == both
