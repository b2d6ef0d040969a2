"""Measures an ONNX feature network: retrieval of labelled photos, near copies, images a second.

    python evaluate.py starter.onnx --objects OBJECTS --categories CATEGORIES [--against RESNET50]
"""

import argparse
import time

import numpy as np
import onnxruntime

import data
import metrics

# How the pixels of ResNet-50 of the ONNX Model Zoo's kind are prepared.
MEAN, STD = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


class Network:
    """An ONNX file and its preprocessing: the starter's where the input is 128 wide, else ImageNet's."""

    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.side = self.input.shape[3] if isinstance(self.input.shape[3], int) else 224
        self.plain = self.side == 128
        self.resize = 128 if self.plain else 256

    def run(self, squares):
        x = squares.astype(np.float32)
        if not self.plain:
            x = (x / 255 - MEAN) / STD
        y = self.session.run(None, {self.input.name: x})[0]
        return y.reshape(len(y), -1)

    def features(self, squares, batch=16):
        return np.concatenate([self.run(squares[i : i + batch]) for i in range(0, len(squares), batch)])


def rates(networks, rounds, batch):
    """Images a second, the networks in turns, the median of the rounds; ready pixels, no decoding."""
    taken = [[] for _ in networks]
    inputs = [np.random.default_rng(0).integers(0, 256, (batch, 3, n.side, n.side)).astype(np.float32) for n in networks]
    for turn in range(rounds + 1):
        for network, x, times in zip(networks, inputs, taken):
            start = time.perf_counter()
            network.session.run(None, {network.input.name: x})
            if turn:
                times.append(time.perf_counter() - start)
    return [batch / float(np.median(t)) for t in taken]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--objects", help="folders of photos, the folder is the label")
    parser.add_argument("--categories", help="folders of photos; near copies are made of 500 of them")
    parser.add_argument("--against", help="another network to time in turns with this one")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    network = Network(options.network, options.threads)
    if options.objects:
        paths, labels, _ = data.list_photos(options.objects)
        found = network.features(data.load_squares(paths, network.resize, network.side))
        print("objects: recall@1 %.3f mAP %.3f" % metrics.retrieval(found, labels), flush=True)
    if options.categories:
        paths, _, _ = data.list_photos(options.categories)
        found = network.features(data.load_squares(paths, network.resize, network.side))
        chosen = data.sample(len(paths), 500, 0)
        shares = {}
        for edit in data.EDITS:
            copies = data.load_edited([paths[i] for i in chosen], edit, network.resize, network.side)
            shares[edit] = metrics.near_copies(found, chosen, network.features(copies))
        # Brightness counts once: the mean of darker and brighter.
        bright = (shares["darker"] + shares["brighter"]) / 2
        mean = (shares["quarter"] + shares["jpeg30"] + shares["crop70"] + bright + shares["grey"]) / 5
        print("near copies:", " ".join(f"{k} {v:.3f}" for k, v in shares.items()), f"mean {mean:.3f}", flush=True)
    if options.against:
        mine, other = rates([network, Network(options.against, options.threads)], 15, 8)
        print(f"images/s at batch 8, {options.threads} threads: {mine:.1f}, the other {other:.1f}: {mine / other:.2f} times")


if __name__ == "__main__":
    main()
