"""The writable disks of a sandbox: overlays over shared layers, mounted from outside."""
