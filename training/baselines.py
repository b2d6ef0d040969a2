"""What the starter is compared with, measured on the same photos: an untrained ResNet-50, a histogram of
colours, one layer of patches without projection, and a trained ResNet-50.

    python baselines.py --train CALTECH101 --objects OBJECTS [--resnet50 RESNET50.onnx]
"""

import argparse

import numpy as np
import torch
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

    squares = data.load_squares(paths, 256, 224)
    torch.manual_seed(options.seed)
    untrained = torchvision.models.resnet50(weights=None).eval()
    untrained.fc = torch.nn.Identity()
    mean, std = torch.from_numpy(evaluate.MEAN), torch.from_numpy(evaluate.STD)
    tell("untrained ResNet-50", features(lambda x: untrained((x / 255 - mean) / std), squares, batch=16))

    if options.resnet50:
        tell("trained ResNet-50", evaluate.Network(options.resnet50, options.threads).features(squares))


if __name__ == "__main__":
    main()
