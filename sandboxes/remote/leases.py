"""Leases: a sandbox lives only while its owner renews it, whatever happens to their connection.

Normally a dead owner's connection closes, which ends its sandboxes at once. Leases cover the rest: a frozen
owner, or a machine at the other end of a network that lost power.
"""

from __future__ import annotations

import threading

from .channel import Channel

LEASE_S = 300.0
"""A sandbox ends after this time without a request or a renewal."""


class Renewals:
    """One thread that renews the leases of many sandboxes. It runs while there are any."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._channels: set[Channel] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, channel: Channel) -> None:
        with self._changed:
            self._channels.add(channel)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sandbox leases", daemon=True)
                self._thread.start()

    def remove(self, channel: Channel) -> None:
        with self._changed:
            self._channels.discard(channel)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._channels, timeout=self.lease_s / 4)
                if not self._channels:
                    self._thread = None
                    return
                channels = list(self._channels)
            for channel in channels:
                channel.renew()
