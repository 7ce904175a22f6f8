"""What Winograd's convolutions would cost in accuracy: winograd.py [--network NAME] [--size N] [--samples N]

Every 3 x 3 convolution of stride 1 runs through F(2 x 2, 3 x 3) or F(4 x 4, 3 x 3) in float32, forward and back (Lavin and Gray, 2015), under
zennit's rules. Prints each sample's relative distance (L2) to the float64 relevance beside that of plain float32: median, worst, and their ratios.
"""

import argparse

import numpy as np
import torch
from torch import nn

import networks
from network_worker import one_hot, with_rules

COMPOSITES = ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1", "epsilon-gamma-box"]
# For outputs of a tile's side: how a tile of the source, the filter and the products are turned.
TURNS = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}


class Winograd(nn.Conv2d):
    """A convolution that makes tiles of `side` x `side` outputs at once."""

    side = 2

    def forward(self, x):
        fits = self.kernel_size == (3, 3) and self.stride == (1, 1) and self.padding == (1, 1) and self.groups == 1
        if not fits or self.dilation != (1, 1):
            return super().forward(x)
        of_source, of_filter, of_products = (x.new_tensor(turn) for turn in TURNS[self.side])
        height, width = x.shape[2:]
        rows, columns = -(-height // self.side), -(-width // self.side)
        x = nn.functional.pad(x, (1, 1 + columns * self.side - width, 1, 1 + rows * self.side - height))
        tiles = x.unfold(2, self.side + 2, self.side).unfold(3, self.side + 2, self.side)
        tiles = of_source @ tiles @ of_source.T
        filters = of_filter @ self.weight @ of_filter.T
        products = torch.einsum("ncijab,kcab->nkijab", tiles, filters)
        tiles = of_products @ products @ of_products.T
        y = tiles.permute(0, 1, 2, 4, 3, 5).reshape(*tiles.shape[:2], rows * self.side, columns * self.side)
        y = y[:, :, :height, :width]
        return y if self.bias is None else y + self.bias[:, None, None]


def relevance(name, composite, x, side):
    network = networks.module(name).to(x.dtype)
    if side:
        for part in network.modules():
            if type(part) is nn.Conv2d:
                part.__class__ = type("Winograd", (Winograd,), {"side": side})
    network = with_rules(name, network, composite, "cpu")
    leaf = x.detach().requires_grad_()
    logits = network(leaf)
    chosen = one_hot(logits.detach())
    (result,) = torch.autograd.grad(logits, leaf, chosen * logits.detach())
    return result.detach().double().flatten(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18", choices=["vgg16", "resnet18", "resnet50"])
    parser.add_argument("--size", type=int, default=64, help="pixels of a side")
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    x = torch.from_numpy(networks.pixels(options.samples, options.size))
    print(f"{options.network}, {options.samples} samples of {options.size} px: median / worst beside float64, and times plain float32's\n")
    print("| composite | plain float32 | F(2 x 2, 3 x 3) | F(4 x 4, 3 x 3) |\n| --- | --- | --- | --- |")
    for composite in COMPOSITES:
        judge = relevance(options.network, composite, x.double(), 0)
        cells, plain = [], None
        for side in (0, 2, 4):
            distances = (relevance(options.network, composite, x, side) - judge).norm(dim=1) / judge.norm(dim=1)
            found = np.array([distances.median(), distances.max()])
            plain = found if plain is None else plain
            times = "" if side == 0 else " ({:.1f}, {:.1f})".format(*(found / plain))
            cells.append("{:.1e} / {:.1e}".format(*found) + times)
        print(f"| {composite} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
