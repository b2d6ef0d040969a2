#!/usr/bin/env python3
"""Networks as PyTorch exports them, imported by likeness, beside what PyTorch says their features are.

Usage: exports.py LIKENESS [NAME|timm|torchvision …]   (needs: pip install -r exports-requirements.txt; some GB)

Each network has seeded random weights: nothing is downloaded. It is exported whole, classifier included, by both
of PyTorch's exporters; `likeness model import` takes the classifier off; what remains is run by ONNX Runtime and
compared with the same network in PyTorch whose classifier is the identity. Prints a row for each, and exits
with 1 when one is refused or further off than 1e-4 of the largest feature.
"""
import pathlib
import sys
import warnings

import timm
import torch
import torchvision

from imports import compared, imported, report

TORCHVISION = [
    "resnet18", "resnet50", "resnet101", "resnext50_32x4d", "wide_resnet50_2", "densenet121", "efficientnet_b0",
    "efficientnet_v2_s", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "convnext_tiny", "shufflenet_v2_x1_0",
    "mnasnet1_0", "googlenet", "vgg11_bn", "swin_t", "vit_b_16",
]
TIMM = ["resnet50", "resnetv2_50", "resnet50d", "seresnet50", "efficientnet_b0", "convnext_nano", "regnety_004", "mobilenetv4_conv_small"]


def from_torchvision(name):
    torch.manual_seed(1)
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(weights=None, **options).eval()


def from_timm(name):
    torch.manual_seed(1)
    return timm.create_model(name, pretrained=False).eval()


def without_classifier(network):
    """Replaces the last linear layer by the identity, in place."""
    if hasattr(network, "reset_classifier"):  # timm; some of its classifiers are convolutions
        network.reset_classifier(0)
        return
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, torch.nn.Linear)]
    name, _ = layers[-1]
    parent = network.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], torch.nn.Identity())


def export(network, path, exporter):
    picture = torch.zeros(2, 3, 224, 224)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            axes = {0: torch.export.Dim("batch")}
            torch.onnx.export(network, (picture,), path, dynamo=True, verbose=False, external_data=False,
                              input_names=["input"], dynamic_shapes=(axes,))
        else:
            torch.onnx.export(network, (picture,), path, dynamo=False, input_names=["input"],
                              output_names=["logits"], dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


def compare(likeness, name, network, exporter, folder):
    """Imports an export; returns removed operators, width and how far off the features are."""
    path = folder / f"{name}.onnx"
    export(network, path, exporter)
    facts, reason = imported(likeness, path, f"{exporter}-{name}", folder)
    if facts is None:
        return None, reason
    without_classifier(network)
    pictures = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = network(pictures).numpy()
    return compared(facts, pictures.numpy(), wanted, "PyTorch")


def main(likeness, only):
    likeness = str(pathlib.Path(likeness).resolve())
    networks = [("torchvision", name, from_torchvision) for name in TORCHVISION]
    networks += [("timm", name, from_timm) for name in TIMM]
    report("exporter", (
        (f"{source} {name}", exporter, lambda folder: compare(likeness, name, make(name), exporter, folder))
        for source, name, make in networks
        if not only or name in only or source in only
        for exporter in ("script", "dynamo")
    ))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
