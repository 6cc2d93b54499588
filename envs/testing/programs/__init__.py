"""Programs that run tests inside a sandbox; each is sent into the sandbox as text."""
