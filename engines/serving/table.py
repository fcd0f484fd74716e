"""Which runtimes serve which files, and on which GPUs: data, each row as the runtime's own sources have it.

What a row says was read in the files that it names, at the version of its runtime; a newer version may serve more, or
less. It is said of single matrices whose sizes are multiples of 128: what runs all experts of a layer at once has
limits of its own. That a runtime knows the model's architecture is taken for granted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engines.gguf_types import STORAGE
from engines.methods.base import Format

Capability = tuple[int, int]  # of a GPU, as CUDA counts: 8.9 is (8, 9)
Fact = str | int | bool
Takes = Mapping[str, Sequence[Fact]]  # for each fact that matters, the values that are served

GENERATIONS: Mapping[Capability, str] = {
    (5, 0): "Maxwell",
    (6, 0): "Pascal",
    (7, 5): "Turing",
    (8, 0): "Ampere",
    (8, 9): "Ada",
    (10, 0): "Blackwell",
}


@dataclass(frozen=True)
class Runtime:
    """What loads a file and answers with it.

    Attributes:
        version: the one that was read.
        is_server: whether it serves many at once and computes with weights as they are stored.
        otherwise: what says that it reads no formats but those of its rules; empty where it has a rule for each.
    """

    version: str
    is_server: bool
    otherwise: Sequence[str] = ()


@dataclass(frozen=True)
class Rule:
    """What one runtime serves of one format.

    Attributes:
        runtime: its name in ``RUNTIMES``.
        format: of the files.
        takes: for each fact of ``engines.serving.facts`` that matters, the values that are served.
        how: by what, and what is to be known of it.
        sources: packages with their versions, and the files in them that say so.
        since: the first NVIDIA GPUs that it works on; None where its sources set no limit.
        before: the first later ones that it does not work on.
        elsewhere: on what it works, too, where its sources say so.
    """

    runtime: str
    format: Format
    takes: Takes
    how: str
    sources: Sequence[str]
    since: Capability | None = None
    before: Capability | None = None
    elsewhere: str = ""


_VLLM, _SGLANG, _TRANSFORMERS, _LLAMA_CPP = "0.33.0", "0.5.23", "5.17.0", "of llama-cpp-python 0.3.36"


def _of(package: str, folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{package}: {folder}/{name}" for name in names)


def _vllm(*names: str) -> tuple[str, ...]:
    return _of(f"vLLM {_VLLM}", "vllm/model_executor/layers/quantization", *names)


def _sglang(*names: str) -> tuple[str, ...]:
    return _of(f"SGLang {_SGLANG}", "python/sglang/srt/layers/quantization", *names)


def _transformers(*names: str) -> tuple[str, ...]:
    return _of(f"transformers {_TRANSFORMERS}", "src/transformers", *names)


def _gptqmodel(*names: str) -> tuple[str, ...]:
    return _of("GPTQModel 7.6.0", "gptqmodel", *names)


def _llama_cpp(folder: str, *names: str) -> tuple[str, ...]:
    return _of(f"llama.cpp {_LLAMA_CPP}", folder, *names)


RUNTIMES: Mapping[str, Runtime] = {
    "vLLM": Runtime(_VLLM, is_server=True),
    "SGLang": Runtime(_SGLANG, is_server=True),
    "llama.cpp": Runtime(_LLAMA_CPP, is_server=True, otherwise=_llama_cpp("src", "llama-model-loader.cpp")),
    "transformers": Runtime(_TRANSFORMERS, is_server=False),
}

_MARLIN_GROUPS = (-1, 32, 64, 128)
_AWQ_GROUPS = (32, 64, 128)
_NO_GROUPS = (-1, 0)  # a scale for each row, or one for the matrix
_GGUF_TYPES = tuple(STORAGE)
_TYPES_BEFORE_MXFP4 = tuple(name for name in STORAGE if name != "mxfp4")

# A file names the class Linear as what is quantized, which an output head is for neither server.
_BODY: Takes = {"lm_head": (False,)}
_INT: Takes = {"type": ("int",), "activations": ("none",), "group_size": _MARLIN_GROUPS, **_BODY}
_INT8: Takes = {"type": ("int",), "bits": (8,), "group_size": _NO_GROUPS, "symmetric": (True,), **_BODY}
_FP8: Takes = {"type": ("float",), "bits": (8,), "group_size": _NO_GROUPS, "symmetric": (True,), **_BODY}
_ROUNDED: Takes = {"activations": ("token", "static")}
_KEPT: Takes = {"activations": ("none",)}

_VLLM_COMPRESSED = ("compressed_tensors/compressed_tensors.py", "compressed_tensors/utils.py")
_VLLM_SCHEMES = "compressed_tensors/schemes/compressed_tensors"
_VLLM_INT = _vllm(*_VLLM_COMPRESSED, f"{_VLLM_SCHEMES}_wNa16.py", "utils/marlin_utils.py")
_VLLM_FP8 = (
    *_vllm(*_VLLM_COMPRESSED, f"{_VLLM_SCHEMES}_w8a8_fp8.py", f"{_VLLM_SCHEMES}_w8a16_fp8.py"),
    *_of(f"vLLM {_VLLM}", "docs/features/quantization/llm_compressor", "fp8.md"),
)
_SGLANG_COMPRESSED = "compressed_tensors/compressed_tensors.py"
_SGLANG_SCHEMES = "compressed_tensors/schemes/compressed_tensors"
_SGLANG_INT = _sglang(_SGLANG_COMPRESSED, f"{_SGLANG_SCHEMES}_wNa16.py", "marlin_utils.py")
_SGLANG_FP8 = _sglang(_SGLANG_COMPRESSED, f"{_SGLANG_SCHEMES}_w8a8_fp8.py", f"{_SGLANG_SCHEMES}_w8a16_fp8.py")
_SGLANG_AWQ = _sglang("awq/awq.py", "marlin_utils.py")

RULES: Sequence[Rule] = (
    Rule(
        "vLLM",
        "gptq",
        {"bits": (4, 8), "sym": (True,), "group_size": _MARLIN_GROUPS, "desc_act": (False,)},
        "Marlin kernels",
        _vllm("auto_gptq.py", "utils/gptq_utils.py", "utils/marlin_utils.py"),
        since=(7, 5),
    ),
    Rule(
        "vLLM",
        "awq",
        {"zero_point": (True,), "group_size": _AWQ_GROUPS},
        "Marlin kernels",
        _vllm("auto_awq.py", "utils/marlin_utils.py"),
        since=(7, 5),
    ),
    Rule(
        "vLLM",
        "awq",
        {"zero_point": (False,), "group_size": _AWQ_GROUPS},
        "AWQ's own kernels, in float16 alone; slower than Marlin's",
        (*_vllm("auto_awq.py"), *_of(f"vLLM {_VLLM}", "csrc/quantization/awq", "gemm_kernels.cu")),
        since=(7, 5),
    ),
    Rule(
        "vLLM",
        "compressed-tensors",
        {**_INT, "bits": (4, 8), "symmetric": (True,)},
        "Marlin kernels",
        _VLLM_INT,
        since=(7, 5),
    ),
    Rule(
        "vLLM",
        "compressed-tensors",
        {**_INT, "bits": (4,), "symmetric": (False,)},
        "Marlin kernels, with zero points",
        _VLLM_INT,
        since=(7, 5),
    ),
    Rule(
        "vLLM",
        "compressed-tensors",
        {**_INT8, **_ROUNDED},
        "CUTLASS kernels that multiply in INT8",
        (
            *_vllm(*_VLLM_COMPRESSED, f"{_VLLM_SCHEMES}_w8a8_int8.py"),
            *_of(f"vLLM {_VLLM}", "docs/features/quantization/llm_compressor", "int8_w8a8.md"),
            *_of(f"vLLM {_VLLM}", "csrc/quantization/w8a8/cutlass", "c3x/scaled_mm_helper.hpp"),
        ),
        since=(7, 5),
        before=(10, 0),
    ),
    Rule("vLLM", "compressed-tensors", {**_FP8, **_ROUNDED}, "kernels that multiply in FP8", _VLLM_FP8, since=(8, 9)),
    Rule(
        "vLLM",
        "compressed-tensors",
        {**_FP8, **_ROUNDED},
        "Marlin kernels, for weights alone: activations are not rounded",
        _VLLM_FP8,
        since=(7, 5),
        before=(8, 9),
    ),
    Rule("vLLM", "compressed-tensors", {**_FP8, **_KEPT}, "Marlin kernels", _VLLM_FP8, since=(7, 5)),
    Rule(
        "vLLM",
        "gguf",
        {"tensor_type": _TYPES_BEFORE_MXFP4},
        "vllm-gguf-plugin, which is installed beside it; vLLM calls this highly experimental",
        (
            *_of(f"vLLM {_VLLM}", "docs/features/quantization", "gguf.md"),
            *_of("vllm-gguf-plugin 0.0.5", "vllm_gguf_plugin", "quantization/utils.py", "quantization/config.py"),
        ),
        since=(6, 0),
    ),
    Rule(
        "SGLang",
        "gptq",
        {"bits": (4, 8), "sym": (True,), "group_size": _MARLIN_GROUPS},
        "Marlin kernels, also for groups in the order of activations",
        _sglang("__init__.py", "gptq/gptq.py", "gptq/schemes/gptq_marlin.py", "marlin_utils.py"),
        since=(8, 0),
    ),
    Rule(
        "SGLang",
        "awq",
        {"zero_point": (True,), "group_size": _AWQ_GROUPS},
        "Marlin kernels",
        _SGLANG_AWQ,
        since=(8, 0),
    ),
    Rule(
        "SGLang",
        "awq",
        {"zero_point": (True,), "group_size": _AWQ_GROUPS},
        "weights unpacked before each multiplication, in float16 alone",
        _SGLANG_AWQ,
        since=(7, 5),
        before=(8, 0),
    ),
    Rule(
        "SGLang",
        "awq",
        {"zero_point": (False,), "group_size": _AWQ_GROUPS},
        "weights unpacked before each multiplication, in float16 alone",
        _SGLANG_AWQ,
        since=(7, 5),
    ),
    Rule(
        "SGLang",
        "compressed-tensors",
        {**_INT, "bits": (4, 8), "symmetric": (True,)},
        "Marlin kernels",
        _SGLANG_INT,
        since=(8, 0),
    ),
    Rule(
        "SGLang",
        "compressed-tensors",
        {**_INT, "bits": (4,), "symmetric": (False,)},
        "Marlin kernels, with zero points",
        _SGLANG_INT,
        since=(8, 0),
    ),
    Rule(
        "SGLang",
        "compressed-tensors",
        {**_INT8, **_ROUNDED},
        "CUTLASS kernels that multiply in INT8",
        (
            *_sglang(_SGLANG_COMPRESSED, f"{_SGLANG_SCHEMES}_w8a8_int8.py"),
            *_of("SGLang at 1f2840c9", "sgl-kernel/csrc/gemm", "int8_gemm_kernel.cu"),
        ),
        since=(8, 0),
        before=(10, 0),
    ),
    Rule(
        "SGLang", "compressed-tensors", {**_FP8, **_ROUNDED}, "kernels that multiply in FP8", _SGLANG_FP8, since=(8, 9)
    ),
    Rule(
        "SGLang",
        "compressed-tensors",
        {**_FP8, **_ROUNDED},
        "Marlin kernels, for weights alone: activations are not rounded",
        _SGLANG_FP8,
        since=(8, 0),
        before=(8, 9),
    ),
    Rule("SGLang", "compressed-tensors", {**_FP8, **_KEPT}, "Marlin kernels", _SGLANG_FP8, since=(8, 0)),
    Rule(
        "SGLang",
        "gguf",
        {"tensor_type": _TYPES_BEFORE_MXFP4, "split": (False,)},
        "kernels taken from llama.cpp",
        (*_sglang("gguf.py"), *_of(f"SGLang {_SGLANG}", "python/sglang/srt/model_loader", "weight_utils.py")),
        since=(6, 0),
    ),
    Rule(
        "llama.cpp",
        "gguf",
        {"tensor_type": _GGUF_TYPES},
        "its own kernels; built with CUDA 13, only from Turing on",
        _llama_cpp("ggml/src", "ggml-cuda/ggml-cuda.cu", "ggml-cuda/CMakeLists.txt", "CMakeLists.txt"),
        since=(5, 0),
        elsewhere="CPUs, and GPUs by Metal, HIP, Vulkan and SYCL",
    ),
    Rule(
        "transformers",
        "gptq",
        {"bits": (2, 3, 4, 8), "module_rules": (False,), "lm_head": (False,)},
        "optimum and GPTQModel, whose kernels depend on the GPU",
        (
            *_transformers("quantizers/quantizer_gptq.py"),
            *_gptqmodel("nn_modules/qlinear/torch.py"),
            *_of("optimum 2.3.0", "optimum/gptq", "quantizer.py"),
        ),
        elsewhere="whatever PyTorch runs on",
    ),
    Rule(
        "transformers",
        "awq",
        {"group_size": _AWQ_GROUPS},
        "GPTQModel, whose kernels depend on the GPU; in float16",
        (
            *_transformers("quantizers/quantizer_awq.py", "integrations/awq.py"),
            *_gptqmodel("nn_modules/qlinear/torch_awq.py"),
        ),
        elsewhere="whatever PyTorch runs on",
    ),
    Rule(
        "transformers",
        "compressed-tensors",
        {},
        "compressed-tensors, which unpacks all weights at the first use: memory as for the original",
        _transformers("quantizers/quantizer_compressed_tensors.py"),
        elsewhere="whatever PyTorch runs on",
    ),
    Rule(
        "transformers",
        "gguf",
        {"tensor_type": _GGUF_TYPES, "split": (False,)},
        "weights unpacked when they are loaded: memory as for the original; some architectures only",
        _transformers("modeling_gguf_pytorch_utils.py", "quantizers/quantizer_gguf.py"),
        elsewhere="whatever PyTorch runs on",
    ),
)
