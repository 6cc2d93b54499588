"""Warm sandboxes: started ahead, handed out, made blank and used again."""
