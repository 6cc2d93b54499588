"""Images: their recipes as data, and how they are built."""
