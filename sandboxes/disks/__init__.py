"""The writable disks of a sandbox: overlays over shared layers, swapped from outside."""
