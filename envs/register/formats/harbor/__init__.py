"""Read and write Harbor task directories, including the verifier inside each directory."""
