"""Trains the convolutional branch: labels of the training classes and near copies of every photo."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import augment
import data
import metrics
import network
from features import features

SIDE, LONGEST = 144, 192  # of the photos kept in memory
CROP = 96  # of the views trained on
CHECK = 128  # of the photos the network will see
BATCH = 128


class Views(torch.utils.data.Dataset):
    """The batches of one epoch: two views of each photo, one after the other, and the photos' numbers. Every
    batch has a seed of its own, so that it is the same whichever process makes it."""

    def __init__(self, canvases, sizes, order, seed):
        self.canvases, self.sizes, self.order, self.seed = canvases, sizes, order, seed

    def __len__(self):
        return len(self.order)

    def __getitem__(self, batch):
        generator = torch.Generator().manual_seed(self.seed + batch)
        chosen = torch.from_numpy(np.sort(self.order[batch]))
        photos, sizes = self.canvases[chosen], self.sizes[chosen]
        return torch.cat([augment.view(photos, sizes, CROP, generator) for _ in range(2)]), chosen


def rate(epoch, steady, decay, peak):
    """Two epochs of warming up, `steady` epochs in all at the peak, then linearly to zero."""
    if epoch < 2:
        return peak * (epoch + 0.5) / 2
    if epoch < steady:
        return peak
    return peak * max(0.0, 1 - (epoch - steady + 0.5) / decay)


def train(paths, labels, held, held_labels, out, steady, decay, seed, peak=0.1, log=print):
    """Trains on `paths` with their labels, checks on the squares `held`. A checkpoint after every epoch lies
    at `out`; a run that was cut off goes on from it. Returns the branch."""
    torch.manual_seed(seed)
    canvases, sizes = data.load_canvases(paths, SIDE, LONGEST)
    canvases, sizes = torch.from_numpy(canvases), torch.from_numpy(sizes)
    target = torch.from_numpy(labels)
    classes = int(labels.max()) + 1
    # Large classes are drawn less often than their size says, small ones more often.
    weight = 1 / np.sqrt(np.bincount(labels))[labels]
    weight /= weight.sum()

    model = network.Trainer(network.ConvBranch(), classes).to(memory_format=torch.channels_last)
    plain = [p for p in model.parameters() if p.ndim == 1]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0.0}],
        lr=peak, momentum=0.9, nesterov=True,
    )
    first = 0
    if Path(out).exists():
        saved = torch.load(out)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["epoch"]
    for epoch in range(first, steady + decay):
        start, total = time.time(), np.zeros(3)
        torch.manual_seed(seed * 100_003 + epoch)
        draw = np.random.default_rng([seed, epoch])
        for group in optimiser.param_groups:
            group["lr"] = rate(epoch, steady, decay, peak)
        order = draw.choice(len(labels), size=len(labels) // BATCH * BATCH, p=weight)
        model.train()
        batches = Views(canvases, sizes, order.reshape(-1, BATCH), (seed * 1_000 + epoch) * 100_000)
        for x, chosen in torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1):
            logits, z = model(x.contiguous(memory_format=torch.channels_last))
            named = F.cross_entropy(logits, target[chosen].repeat(2), label_smoothing=0.1)
            paired = network.contrast(z[:BATCH], z[BATCH:])
            loss = named + 0.5 * paired
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            right = (logits.argmax(1) == target[chosen].repeat(2)).float().mean()
            total += [named.item(), paired.item(), right.item()]
        means = total / (len(order) // BATCH)
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
        torch.save(state, f"{out}.part")
        Path(f"{out}.part").replace(out)
        line = f"epoch {epoch + 1:3d}  labels {means[0]:.3f}  copies {means[1]:.3f}  right {means[2]:.3f}"
        if (epoch + 1) % 4 == 0 or epoch + 1 == steady + decay:
            model.eval()
            first_hit, precision = metrics.retrieval(features(model.branch.mean, held), held_labels)
            line += f"  held-out recall@1 {first_hit:.3f} mAP {precision:.3f}"
        log(f"{line}  {time.time() - start:.0f} s")
    return model.branch.eval()
