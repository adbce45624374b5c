"""torchvision's ResNet-18 at one job; times as many steps as each line of its input says, and answers with JSON."""

import json
import sys
import time

import torch
from torchvision.models import resnet18

work, size, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
torch.manual_seed(0)
net = resnet18(num_classes=15).to(memory_format=torch.channels_last)
images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
targets = torch.eye(15)[torch.arange(batch) % 15]
criterion = torch.nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(net.parameters(), 1e-3, fused=True)
net.train(work == "train")


def train():
    criterion(net(images), targets).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def infer():
    with torch.inference_mode():
        net(images)


step = train if work == "train" else infer
for line in sys.stdin:
    for _ in range(2):
        step()
    times = []
    for _ in range(int(line)):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)
