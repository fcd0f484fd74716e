"""The demo: a real model, quantized twice by the whole stack, in one command."""
