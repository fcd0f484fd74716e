"""How a result is loaded: the commands of those programs that read it, and on which GPUs each does."""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence

from engines.serving import Note
from pipeline.markdown import block, plain, table

FOLDER = "path/to/this/folder"
# What transformers needs for each format, beside torch: https://huggingface.co/docs/transformers/quantization/overview
_PACKAGES: Mapping[str, str] = {
    "gptq": "transformers accelerate optimum gptqmodel",
    "awq": "transformers accelerate gptqmodel",
    "compressed-tensors": "transformers accelerate compressed-tensors",
}
_TRANSFORMERS = f"""
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{FOLDER}")
model = AutoModelForCausalLM.from_pretrained("{FOLDER}", device_map="auto")
ids = tokenizer("Once upon a time", return_tensors="pt").to(model.device)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0], skip_special_tokens=True))
"""


def how_to_load(written: str, names: Sequence[str], runtimes: Sequence[Note]) -> str:
    """Return Markdown with the commands for each program that serves it, and what is known of the others.

    Args:
        written: the result's format.
        names: of its files.
        runtimes: which serve it.
    """
    serving = {note.runtime for note in runtimes if note.serves}
    commands = _of_gguf(sorted(names)) if written == "gguf" else _of_checkpoint(_PACKAGES[written], serving)
    return "\n\n".join(part for part in (commands, _what_serves_it(runtimes)) if part)


def _what_serves_it(runtimes: Sequence[Note]) -> str:
    said = (f"serves it on {note.gpus}: {note.how}" if note.serves else str(note.why_not) for note in runtimes)
    rows = [[f"{note.runtime} {note.version}", plain(words)] for note, words in zip(runtimes, said, strict=True)]
    return "By what the sources of these versions say:\n\n" + table(["program", "what is known"], rows)


def _of_gguf(names: Sequence[str]) -> str:
    first = next((name for name in names if name.endswith(".gguf")), names[0])  # of a set it is the one to name
    beside = "The other files of the set are found beside the first.\n\n" if _is_set(names) else ""
    shown = shlex.quote(first)
    python = f'from llama_cpp import Llama\n\nmodel = Llama({json.dumps(first)})\nprint(model("Once upon a time"))'
    return (
        f"{beside}With [llama.cpp](https://github.com/ggml-org/llama.cpp), in this folder, in the terminal or as a "
        "server that speaks OpenAI's API:\n\n"
        + block(f"llama-cli -m {shown}\nllama-server -m {shown} --port 8080", "sh")
        + "\n\nFrom Python, by `pip install llama-cpp-python`:\n\n"
        + block(python, "python")
    )


def _is_set(names: Sequence[str]) -> bool:
    return sum(name.endswith(".gguf") for name in names) > 1


def _of_checkpoint(packages: str, serving: Collection[str]) -> str:
    commands = {
        "transformers": f"With transformers, by `pip install {packages}`:\n\n" + block(_TRANSFORMERS.strip(), "python"),
        "vLLM": "With [vLLM](https://docs.vllm.ai), as a server that speaks OpenAI's API:\n\n"
        + block(f"vllm serve {FOLDER}", "sh"),
        "SGLang": "With [SGLang](https://docs.sglang.io), likewise; the format is found in `config.json`:\n\n"
        + block(f"python3 -m sglang.launch_server --model-path {FOLDER}", "sh"),
    }
    return "\n\n".join(text for runtime, text in commands.items() if runtime in serving)
