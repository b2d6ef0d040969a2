#!/usr/bin/env python3
"""imagededup's encoder over a folder of photos: imagededup_cnn.py FOLDER MODEL.onnx

Its own networks would be downloads, so it gets the ONNX file through the door it has for others:
`CustomModel`. Loading, batching (64) and its DataLoader, with one worker a core, are imagededup's.
"""
import json
import os
import sys
import time

import onnxruntime
import torch
from imagededup.methods import CNN
from imagededup.utils import CustomModel
from torchvision import transforms


class OnnxNetwork(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def forward(self, batch):
        return torch.from_numpy(self.session.run(None, {self.name: batch.numpy()})[0])


def main(folder, model):
    steps = transforms.Compose([
        transforms.Resize(256, antialias=True),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    encoder = CNN(verbose=False, model_config=CustomModel("resnet50", OnnxNetwork(model), steps))
    started = time.perf_counter()
    vectors = encoder.encode_images(folder, recursive=True, num_enc_workers=os.cpu_count())
    seconds = time.perf_counter() - started
    print(json.dumps({"images": len(vectors), "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
