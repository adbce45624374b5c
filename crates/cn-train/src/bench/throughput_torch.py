"""torchvision's ResNet-18 at one job; times as many steps as each line of its input says, and answers with JSON."""

import json
import resource
import sys
import time

import torch
from torchvision.models import resnet18

work, size, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
precision, frozen = sys.argv[5], sys.argv[6] == "true"
torch.set_num_threads(threads)
torch.manual_seed(0)
net = resnet18(num_classes=15).to(memory_format=torch.channels_last)
if frozen:  # As fastai: the body's norms are trained, its other weights are not.
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("fc.") or parameter.dim() == 1)
images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
targets = torch.eye(15)[torch.arange(batch) % 15]
criterion = torch.nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-3, fused=True)
autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
net.train(work == "train")
if work == "infer" and precision == "f32":  # Norms folded into convolutions, as ours are: its fastest way.
    with torch.no_grad():
        net = torch.jit.optimize_for_inference(torch.jit.trace(net, images))


def train():
    with autocast:
        loss = criterion(net(images).float(), targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def infer():
    with torch.no_grad(), autocast:
        net(images)


step = train if work == "train" else infer


def repeat(at_least):
    """Seconds of so many steps, and of more until 0.4 s have passed."""
    times, begin = [], time.perf_counter()
    while len(times) < at_least or time.perf_counter() - begin < 0.4:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


for line in sys.stdin:
    repeat(2)
    times = repeat(int(line))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": times, "peak_mib": peak}), flush=True)
