#!/usr/bin/env python3
"""A script as one writes it with torchvision: torchvision_loader.py FOLDER MODEL.onnx [--draft] [--torch]

A DataLoader with one worker a core decodes with Pillow and applies torchvision's transforms; ONNX
Runtime embeds batches of 32. --draft lets Pillow decode large JPEGs at a half, a quarter or an eighth,
which few scripts do. --torch runs torchvision's ResNet-50 in PyTorch in place of the ONNX file, with
random weights (its own would be a download): good for timing only.
"""
import json
import os
import pathlib
import sys
import time

import numpy
import onnxruntime
import torch
import torchvision
from PIL import Image
from torchvision import transforms


class Photos(torch.utils.data.Dataset):
    steps = transforms.Compose([
        transforms.Resize(256, antialias=True),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])

    def __init__(self, folder, draft):
        self.paths = sorted(p for p in pathlib.Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
        self.draft = draft

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as image:
            if self.draft:
                image.draft("RGB", (512, 512))  # no side below twice what is kept
            return self.steps(image.convert("RGB"))


def onnx_network(model):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch.numpy()})[0]


def torch_network():
    network = torchvision.models.resnet50(weights=None).eval()
    network.fc = torch.nn.Identity()
    return lambda batch: network(batch).numpy()


@torch.inference_mode()
def main(folder, model, draft, in_torch):
    network = torch_network() if in_torch else onnx_network(model)
    started = time.perf_counter()
    batches = torch.utils.data.DataLoader(Photos(folder, draft), batch_size=32, num_workers=os.cpu_count())
    vectors = numpy.concatenate([network(batch) for batch in batches])
    seconds = time.perf_counter() - started
    print(json.dumps({"images": len(vectors), "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--draft" in sys.argv[3:], "--torch" in sys.argv[3:])
