"""Harbor task directories: read, written, and the verifier inside them."""
