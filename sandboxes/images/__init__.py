"""Images: what goes into one, as data, and how one is built."""
