"""The learner's side of a weight update: from its module into the engine, as one version.

`file` works on every device, and is what is tested. A GPU user may prefer `ipc` or `nccl`, which move weights
without a file, through vLLM's own trainer-side engines over the same four methods of the engine client. Those
two were written against vLLM 0.32's interfaces and have NOT run: no GPU was at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..config import Engine
from .client import EngineClient
from .weights import WeightProbe, publish

if TYPE_CHECKING:
    import torch


class Sender(Protocol):
    """Moves the learner's weights into the engine as one version. Lives in the learner's process."""

    def send(self, version: int, *, timeout_s: float, canary: WeightProbe | None = None) -> None:
        """Return when the engine samples from the new weights. Raises `PolicyError` or `WeightError`."""
        ...


class FileSender:
    """Through a file; removed as soon as the engine has loaded it."""

    def __init__(self, client: EngineClient, module: torch.nn.Module, folder: Path) -> None:
        self._client = client
        self._module = module
        self._folder = folder

    def send(self, version: int, *, timeout_s: float, canary: WeightProbe | None = None) -> None:
        """Publish, have it loaded, remove."""
        path = publish(self._module.state_dict(), version, self._folder)
        try:
            self._client.update_weights_from(path, version, timeout_s=timeout_s, canary=canary)
        finally:
            path.unlink(missing_ok=True)


class DirectSender:
    """Through vLLM's own `ipc` or `nccl` trainer engine, between GPUs. Not run yet, see the module's text."""

    def __init__(self, client: EngineClient, module: torch.nn.Module, backend: str, workers: int) -> None:
        from vllm.distributed.weight_transfer import ModuleSource, WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
        from vllm.utils.network_utils import get_ip, get_open_port

        if backend == "ipc":
            info = IPCTrainerInitInfo(rank=0)
        else:
            info = NCCLTrainerInitInfo(get_ip(), get_open_port(), workers + 1, rank=0)
        self._client = client
        self._engine = WeightTransferTrainerFactory.trainer_init(
            info, client=client, source=ModuleSource(module)
        )

    def send(self, version: int, *, timeout_s: float, canary: WeightProbe | None = None) -> None:
        """Have vLLM's engine drive the update between pausing and resuming."""
        self._client.update_weights_with(
            self._engine.send_weights, version, timeout_s=timeout_s, canary=canary
        )


def sender(options: Engine, client: EngineClient, module: torch.nn.Module, folder: Path) -> Sender:
    """Build what `engine.weight_transfer` asks for. Call it in the learner's process."""
    if options.weight_transfer in ("auto", "file"):
        return FileSender(client, module, folder)
    return DirectSender(client, module, options.weight_transfer, options.tensor_parallel)
