"""Task sets on disk, and the trees of files in them."""
