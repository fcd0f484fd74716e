"""GPTQModel by itself, as its own documentation has it, with the settings that the gptq method gives it.

Usage: ``python -m bench.gpu.bare MODEL SAMPLES FOLDER``. Prints one line of JSON: seconds from the start of the process
until it begins, to load, to quantize and to save, and the peak of torch's GPU memory.
"""

import json
import sys
import time
from pathlib import Path

import psutil


def main() -> None:
    """Quantize and print."""
    model_folder, samples, folder = (Path(argument) for argument in sys.argv[1:])
    import torch
    from gptqmodel import GPTQModel
    from gptqmodel.quantization.config import GPTQConfig
    from safetensors.numpy import load_file

    rows = load_file(samples)["input_ids"].tolist()
    began = time.time()
    config = GPTQConfig(
        bits=4,
        group_size=128,
        damp_percent=0.01,
        desc_act=False,
        act_group_aware=True,
        offload_to_disk=True,
        offload_to_disk_path=str(folder / "layers"),
        pack_impl="gpu",
    )
    model = GPTQModel.load(str(model_folder), config, device="cuda:0", dtype=torch.bfloat16)
    loaded = time.time()
    model.quantize([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows], batch_size=2)
    quantized = time.time()
    model.save(str(folder / "output"))
    saved = time.time()
    measured = {
        "startup_seconds": began - psutil.Process().create_time(),
        "load_seconds": loaded - began,
        "quantize_seconds": quantized - loaded,
        "save_seconds": saved - quantized,
        "peak_vram_bytes": torch.cuda.max_memory_allocated(),
    }
    print("\n" + json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
