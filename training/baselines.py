"""What the starter is compared with, measured on the same photos: an untrained ResNet-50, a histogram of
colours, one layer of patches without projection (the starter's own, and plain ones), a ResNet-50 of 20 instead of 64
channels trained for ten epochs, and a trained ResNet-50.

    python baselines.py --train CALTECH101 --objects OBJECTS [--resnet50 RESNET50.onnx]
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image

import data
import evaluate
import metrics
import patches
from features import features


def histogram(paths):
    """12 hues x 4 saturations x 4 values, the root of the shares, over the whole photo at 128 px."""
    out = np.zeros((len(paths), 192), np.float32)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            square = data.square(image, 128, 128).transpose(1, 2, 0)
        h, s, v = (np.asarray(Image.fromarray(square).convert("HSV"))[..., c].astype(int) for c in range(3))
        out[i] = np.bincount(((h * 12 // 256) * 16 + (s // 64) * 4 + v // 64).ravel(), minlength=192)
    return np.sqrt(out / out.sum(1, keepdims=True))


class PlainPatches(torch.nn.Module):
    """One layer of patches at a quarter of the size that keep their brightness and contrast: whitened, 256 spherical
    k-means centroids of either sign, a triangle against each place's mean response, the mean, its root."""

    def __init__(self, squares, seed, count=100_000, rounds=10, damping=0.001):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        found = []
        for batch in np.array_split(squares, 20):
            every = self.patches(batch)
            every = every.reshape(-1, every.shape[2])
            found.append(every[torch.randint(len(every), (count // 20,), generator=generator)])
        x = torch.cat(found)
        self.mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - self.mean).T @ (x - self.mean) / len(x))
        damped = values.clamp(min=0) + damping * values.mean()
        self.whitening = vectors @ torch.diag(damped.rsqrt()) @ vectors.T
        x = F.normalize((x - self.mean) @ self.whitening)
        centre = F.normalize(torch.randn(256, x.shape[1], generator=generator))
        for _ in range(rounds):
            response = x @ centre.T
            nearest = response.abs().argmax(1)
            moved = torch.zeros_like(centre).index_add_(0, nearest, x * response.gather(1, nearest[:, None]))
            # One that is nobody's nearest stays where it was.
            centre = F.normalize(torch.where(moved.any(1, keepdim=True), moved, centre))
        self.centre = centre

    @staticmethod
    def patches(squares):
        """[n, places, 3 * 6 * 6]"""
        small = patches.reduce(torch.as_tensor(squares).float(), 4, 3)
        return F.unfold(small, patches.PATCH).transpose(1, 2)

    def forward(self, x):
        y = (self.patches(x) - self.mean) @ self.whitening @ self.centre.T
        least = y.abs().mean(2, keepdim=True)
        pooled = torch.cat([F.relu(y - least).mean(1), F.relu(-y - least).mean(1)], 1)
        return (pooled + 1e-8).sqrt()


class Narrow(torchvision.models.ResNet):
    """ResNet-50 with 20 instead of 64 channels behind the stem, four, eight and 16 times as many further up."""

    def __init__(self, classes):
        super().__init__(torchvision.models.resnet.Bottleneck, [3, 4, 6, 3])
        self.fc = torch.nn.Linear(self.inplanes, classes)

    def _make_layer(self, block, planes, *rest, **named):
        return super()._make_layer(block, planes * 20 // 64, *rest, **named)


def trained_narrow(squares, labels, seed, epochs=10, batch=64):
    """A narrow ResNet-50 trained with labels alone, from scratch: flipped, moved by up to 6 pixels."""
    torch.manual_seed(seed)
    network = Narrow(int(labels.max()) + 1).to(memory_format=torch.channels_last)
    steps = epochs * (len(squares) // batch)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=steps)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    labels = torch.as_tensor(labels)
    for epoch in range(epochs):
        for chosen in torch.randperm(len(squares))[: steps // epochs * batch].split(batch):
            x = prepared(torch.from_numpy(squares[chosen.numpy()]).float())
            shift = torch.randint(-6, 7, (2,)).tolist()
            x = torch.roll(x if torch.rand(()) < 0.5 else x.flip(3), shift, (2, 3))
            optimiser.zero_grad()
            loss(network(x), labels[chosen]).backward()
            optimiser.step()
            schedule.step()
        print(f"  narrow ResNet-50: epoch {epoch + 1} of {epochs}", flush=True)
    network.fc = torch.nn.Identity()
    return network.eval()


def prepared(x):
    """As ResNet-50 takes it."""
    return (x / 255 - torch.from_numpy(evaluate.MEAN)) / torch.from_numpy(evaluate.STD)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--objects", required=True)
    parser.add_argument("--resnet50", help="an ONNX file of a trained ResNet-50's features")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths, labels, _ = data.list_photos(options.objects)
    tell = lambda name, found: print(f"{name}: recall@1 %.3f mAP %.3f" % metrics.retrieval(found, labels), flush=True)

    tell("colour histogram, HSV, 192 bins", histogram(paths))

    known, _, _ = data.list_photos(options.train)
    known = [known[i] for i in data.sample(len(known), 3000, options.seed)]
    filters, offset = patches.learn(data.load_squares(known, 128, 128), 4, 3, 256, options.seed)
    layer = patches.Scale(filters, offset, 4, 1)
    k = len(filters)
    whole = np.r_[0:k, 2 * k : 3 * k]
    tell("one layer of patches, 256 centroids", features(layer, data.load_squares(paths, 128, 128))[:, whole])

    plain = PlainPatches(data.load_squares(known, 128, 128), options.seed)
    tell("the same, of plain patches", features(plain, data.load_squares(paths, 128, 128)))

    squares = data.load_squares(paths, 256, 224)
    torch.manual_seed(options.seed)
    untrained = torchvision.models.resnet50(weights=None).eval()
    untrained.fc = torch.nn.Identity()
    tell("untrained ResNet-50", features(lambda x: untrained(prepared(x)), squares, batch=16))

    everything, classes, _ = data.list_photos(options.train)
    narrow = trained_narrow(data.load_squares(everything, 64, 64), classes, options.seed)
    small = data.load_squares(paths, 64, 64)
    tell("ResNet-50 at width 20, 10 epochs", features(lambda x: narrow(prepared(x)), small))

    if options.resnet50:
        tell("trained ResNet-50", evaluate.Network(options.resnet50, options.threads).features(squares))


if __name__ == "__main__":
    main()
