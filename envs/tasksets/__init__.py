"""Task sets on disk, and the file trees in them."""
