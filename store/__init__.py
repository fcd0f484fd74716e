"""Where bytes are kept: blobs under their SHA-256. Knows nothing of who uses them."""
