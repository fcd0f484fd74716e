"""What llama.cpp's own tool measured of tiny-llama over the first 40 windows of each text."""

PERPLEXITY = {
    "baseline": {"prose": 23.686, "code": 7.493},  # its F16
    "gguf:Q8_0": {"prose": 23.709, "code": 7.501},
    "gguf:Q4_K_M": {"prose": 24.405, "code": 7.667},
}
TOLERANCE = 0.005

# How much higher than full precision's the perplexity of 4-bit GPTQ may be, as a part of it.
LOSS_MAX = {"prose": 0.08, "code": 0.09}

# AutoGPTQ's own tutorial: BaseQuantizeConfig(bits=4, group_size=128, damp_percent=0.01, desc_act=True, sym=False), with
# 128 examples.
CLASSIC = {
    "method": "gptq",
    "bits": 4,
    "group_size": 128,
    "damp_percent": 0.01,
    "desc_act": True,
    "sym": False,
    "calibration_samples": 128,
}
