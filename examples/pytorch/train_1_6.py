"""The same network as `train`, in TorchScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from examples.pytorch.train import ROWS, fit, network_of, respond

__all__ = ["MODEL", "ROWS", "respond", "train", "weights"]

MODEL = "model.pt"


def train(path: Path) -> None:
    """Trains on made-up stripes; the file holds the computation too."""
    torch.jit.script(nn.Sequential(*fit(), nn.Softmax(dim=1)).eval()).save(str(path))


def weights(path: Path) -> Any:
    """The four weights."""
    return network_of(torch.jit.load(str(path)).state_dict())
