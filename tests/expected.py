"""What llama.cpp's own tool measured of tiny-llama over the first 40 windows of each text."""

PERPLEXITY = {
    "baseline": {"prose": 23.686, "code": 7.493},  # its F16
    "gguf:Q8_0": {"prose": 23.709, "code": 7.501},
    "gguf:Q4_K_M": {"prose": 24.405, "code": 7.667},
}
TOLERANCE = 0.005
