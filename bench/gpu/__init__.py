"""What the engines do on an NVIDIA GPU: quality, time, memory, and the whole stack."""
