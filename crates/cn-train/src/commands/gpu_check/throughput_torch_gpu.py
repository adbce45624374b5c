"""torchvision's ResNet-18 on a GPU: for each argument `work,precision,size,batch` lines of JSON with images a second."""

import json
import os
import signal
import sys
import time

import torch
from torchvision.models import resnet18

assert torch.cuda.is_available(), "this PyTorch knows no GPU"
DEVICE = torch.device("cuda")
BEGIN = time.perf_counter()
# Seconds after which nothing more is measured.
LIMIT = float(os.environ.get("CN_TORCH_SECONDS", 240))
signal.alarm(int(LIMIT) + 60)  # one job that never ends does not hold up the others
torch.backends.cudnn.benchmark = True  # its best: algorithms are timed first


def rate(step, batch):
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    n, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < 0.5 and n < 500:
        for _ in range(10):
            step()
        torch.cuda.synchronize()
        n += 10
    return n * batch / (time.perf_counter() - begin)


def measure(work, precision, size, batch, compiled):
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "f32"
    net = resnet18(num_classes=15).to(DEVICE, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size, device=DEVICE).to(memory_format=torch.channels_last)
    targets = torch.eye(15, device=DEVICE)[torch.arange(batch, device=DEVICE) % 15]
    criterion = torch.nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, fused=True)
    net.train(work == "train")
    run = torch.compile(net, mode="reduce-overhead") if compiled else net
    autocast = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")

    def train():
        with autocast:
            loss = criterion(run(images).float(), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def infer():
        with torch.no_grad(), autocast:
            run(images)

    return rate(train if work == "train" else infer, batch)


jobs = [job.split(",") for job in sys.argv[1:]]
# Compiling takes most of a minute: what people train in comes first, and what there is no time for is left out.
compiled = sorted(range(len(jobs)), key=lambda i: (jobs[i][1] != "bf16", jobs[i][0] != "train", jobs[i][2] != "128"))
plan = [(i, "eager") for i in range(len(jobs))] + [(i, "compiled") for i in compiled]
for i, name in plan:
    if time.perf_counter() - BEGIN > LIMIT:
        break
    work, precision, size, batch = jobs[i]
    answer = {"line": i, "eager": None, "compiled": None, "problem": None}
    try:
        answer[name] = measure(work, precision, int(size), int(batch), name == "compiled")
    except Exception as error:  # whatever PyTorch cannot do here is told, and the rest goes on
        answer["problem"] = f"{name}: {error}".splitlines()[0]
    torch.compiler.reset()
    torch.cuda.empty_cache()
    print(json.dumps(answer), flush=True)
