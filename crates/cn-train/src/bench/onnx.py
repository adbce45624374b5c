"""torchvision's ResNet-18 exported to ONNX Runtime; answers each number of steps with JSON."""

import json
import os
import resource
import sys
import tempfile
import time

import onnxruntime
import torch
from torchvision.models import resnet18

size, batch, threads = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.manual_seed(0)
images = torch.randn(batch, 3, size, size)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "resnet18.onnx")
    torch.onnx.export(resnet18(num_classes=15).eval(), images, path, dynamo=False, opset_version=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: images.numpy()}


def step():
    session.run(None, feed)


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
