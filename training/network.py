"""The convolutional branch: ResNet's topology at a small width."""

import torch
import torch.nn as nn
import torch.nn.functional as F

MEAN, STD = 117.0, 64.0


class Block(nn.Module):
    def __init__(self, inside, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.skip = None
        if stride != 1 or inside != out:
            pool = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
            self.skip = nn.Sequential(pool, nn.Conv2d(inside, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(y + (x if self.skip is None else self.skip(x)), inplace=True)


class ConvBranch(nn.Module):
    """[n, 3, s, s] in [0, 255] to feature maps."""

    def __init__(self, widths=(32, 64, 128, 256), blocks=(1, 2, 2, 1)):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 5, 2, 2, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        layers, inside = [], widths[0]
        for i, (width, count) in enumerate(zip(widths, blocks)):
            for j in range(count):
                layers.append(Block(inside, width, 2 if i and not j else 1))
                inside = width
        self.layers = nn.ModuleList(layers)
        self.width = inside

    def maps(self, x):
        """The maps of the last two blocks; the last is [n, width, s / 32, s / 32]."""
        x = (x - MEAN) / STD
        x = F.relu(self.bn(self.stem(x)), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1)
        before = x
        for layer in self.layers:
            before, x = x, layer(x)
        return before, x

    def mean(self, x):
        """The mean of the last map, [n, width]: what the losses see."""
        return self.maps(x)[1].mean((2, 3))

    def forward(self, x):
        """What the starter takes: the roots of the means of the last two blocks' maps and of the last one's
        root mean square."""
        before, last = self.maps(x)
        pools = [before.mean((2, 3)), last.mean((2, 3)), last.square().mean((2, 3)).sqrt()]
        return (torch.cat(pools, 1) + 1e-8).sqrt()


class Trainer(nn.Module):
    """The branch with what only training needs: a classifier and a projection for the views."""

    def __init__(self, branch, classes, projection=128):
        super().__init__()
        self.branch = branch
        self.classifier = nn.Linear(branch.width, classes)
        self.project = nn.Sequential(
            nn.Linear(branch.width, branch.width), nn.ReLU(inplace=True), nn.Linear(branch.width, projection)
        )

    def forward(self, x):
        pooled = self.branch.mean(x)
        return self.classifier(F.dropout(pooled, 0.2, self.training)), F.normalize(self.project(pooled))


def contrast(a, b, temperature=0.2):
    """Of the two views of a photo each has to find the other among the batch (NT-Xent)."""
    z = torch.cat([a, b])
    logits = z @ z.T / temperature
    logits.fill_diagonal_(-1e9)
    n = len(a)
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(logits, target)
