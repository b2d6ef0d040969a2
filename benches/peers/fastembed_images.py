#!/usr/bin/env python3
"""fastembed over a folder of photos: fastembed_images.py FOLDER MODEL.onnx [--parallel]

Without --parallel fastembed works as it does by default: photos are decoded one after the other, then
ONNX Runtime uses all cores. With it (`parallel=0`, "recommended for large datasets") each core gets a
process of its own, whose start is inside the measured time: fastembed starts them anew for every call.
"""
import json
import pathlib
import sys
import tempfile
import time

from fastembed import ImageEmbedding

# What the model's own repository would hold; the same steps as likeness and torchvision.
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 2,  # bilinear
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def main(folder, model, parallel):
    photos = sorted(p for p in pathlib.Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        (home / "model.onnx").symlink_to(pathlib.Path(model).resolve())
        (home / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
        # fastembed knows a ResNet-50 by this name; the folder takes the place of the download.
        embedding = ImageEmbedding("Qdrant/resnet50-onnx", specific_model_path=str(home), lazy_load=parallel)
        started = time.perf_counter()
        vectors = list(embedding.embed(photos, parallel=0 if parallel else None))
        seconds = time.perf_counter() - started
    print(json.dumps({"images": len(vectors), "seconds": seconds}))


# The worker processes import this file again.
if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--parallel" in sys.argv[3:])
