"""The engine's side of a weight update through files. Only vLLM imports this, in its worker processes.

This is the one module with an effect when imported: vLLM asks for `worker_extension_cls`, and importing the
module of that class is the only moment at which a weight-transfer engine can be registered in a worker.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload


@dataclass
class FileInit(WeightTransferInitInfo):
    """Empty: a transfer by file needs no setup."""


@dataclass
class FileUpdate(WeightTransferUpdateInfo):
    """The path of the new weights: a complete safetensors file in checkpoint format."""

    path: str


class FileTransfer(WeightTransferEngine[FileInit, FileUpdate]):
    """Loads weights from a file that the learner wrote, usually in shared memory."""

    init_info_cls = FileInit
    update_info_cls = FileUpdate

    def init_transfer_engine(self, init_info: FileInit) -> None:
        """Do nothing: a file needs no rendezvous."""

    def start_weight_update(self) -> None:
        """Prepare the layers for weights in checkpoint format."""
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: FileUpdate) -> None:
        """Load the file into the model."""
        loader = getattr(self.model, "load_weights")  # noqa: B009  (a method of vLLM's models, not of Module)
        loader(load_file(update_info.path).items())

    def finish_weight_update(self) -> None:
        """Convert the new weights to the kernels' layouts, also in a tied output layer."""
        finalize_layerwise_reload(self.model, self.model_config)
        for module in self.model.modules():
            _repack(module)

    def update_weights(self, update_info: dict[str, object]) -> None:
        """Load one file, and wait until copies to a GPU are complete."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def shutdown(self) -> None:
        """Do nothing: a file transfer holds no resources."""


def _repack(module: torch.nn.Module) -> None:
    """Update the matrix of a tied output layer on a CPU.

    The layer's kernel holds a repacked copy of the embedding. A tied checkpoint has no separate weights for
    the layer, so the reload skips the layer, and the kernel would keep the matrix from the engine's start.
    """
    if hasattr(module, "cpu_linear") and hasattr(module, "num_embeddings"):
        getattr(module, "quant_method").process_weights_after_loading(module)  # noqa: B009


class Extension:
    """The class that `worker_extension_cls` names; adds nothing to the worker."""


WeightTransferEngineFactory.register_engine("file", FileTransfer)
