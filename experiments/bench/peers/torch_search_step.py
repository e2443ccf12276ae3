#!/usr/bin/env python3
"""Time one step of the DARTS-family networks in eager PyTorch, the yardstick to run beside dnas.

usage: torch_search_step.py [--method darts|pcdarts|sampled|gdas|evaluation] [--order 1|2] [--batch 16] [--channels C]
                            [--cells N] [--size 32] [--steps 4] [--device cpu|cuda] [--json] [--turns]

Unless given, channels and cells are 16 and 8; 16 and 15 for gdas, 36 and 20 for evaluation.

A search step is one architecture update (Adam, on a validation batch) followed by one weight update
(SGD with momentum, on a training batch), in float32. `darts` and `pcdarts` use the 8-op DARTS cell;
`sampled` is `darts` with one hard Gumbel sample an edge, of which only that op runs;
`gdas` uses the NAS-Bench-201 cell (cells = 3 x N, so 15 gives N = 5) and runs one sampled op per edge.
`--order 2` is the unrolled step with the finite-difference product, for `darts`. `evaluation` is a training step
(not a search step) of the DARTS_V2 network with affine norms, drop path 0.2 and the auxiliary head.

Prints the median and minimum seconds per step, the weight count, and the peak resident memory in MB
(of the device on CUDA). The weight counts to expect at 16 channels, 8 cells, 10 classes:
darts 1,930,618 and pcdarts 299,578; evaluation at 36 channels and 20 cells 3,825,768 with its auxiliary head. Needs torch (2.x) and nothing else.
"""

import argparse, json, resource, statistics, sys, time
import torch
import torch.nn.functional as F
from torch import nn


AFFINE = False  # the norms of the cells: without scale and shift in search, with them in the evaluation network


def bn(c, affine=None):
    return nn.BatchNorm2d(c, affine=AFFINE if affine is None else affine)


def relu_conv_bn(c_in, c_out):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), bn(c_out))


class FactorizedReduce(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.even = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.norm = bn(c_out)

    def forward(self, x):
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))


class Zero(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def separable(c, k, stride, dilation=1):
    pad = dilation * (k // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, k, stride, pad, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        bn(c),
    ]


def darts_ops(c, stride):
    pools = [nn.MaxPool2d(3, stride, 1), nn.AvgPool2d(3, stride, 1, count_include_pad=False)]
    return nn.ModuleList(
        [Zero(stride)]
        + [nn.Sequential(pool, bn(c)) for pool in pools]
        + [nn.Identity() if stride == 1 else FactorizedReduce(c, c)]
        + [nn.Sequential(*separable(c, k, stride), *separable(c, k, 1)) for k in (3, 5)]
        + [nn.Sequential(*separable(c, k, stride, 2)) for k in (3, 5)]
    )


class MixedOp(nn.Module):
    def __init__(self, c, stride, k):
        super().__init__()
        self.k, self.stride = k, stride
        self.ops = darts_ops(c // k, stride)

    def forward(self, x, mix):
        part = x.shape[1] // self.k
        out = sum(m * op(x[:, :part]) for m, op in zip(mix, self.ops))
        if self.k == 1:
            return out
        rest = x[:, part:] if self.stride == 1 else F.max_pool2d(x[:, part:], 2, 2)
        out = torch.cat([out, rest], 1)
        b, c, h, w = out.shape
        return out.view(b, self.k, c // self.k, h, w).transpose(1, 2).reshape(b, c, h, w)


class SampledOp(MixedOp):
    def forward(self, x, mix):
        index = int(mix.argmax())
        return mix[index] * self.ops[index](x)


class Cell(nn.Module):
    def __init__(self, c_pp, c_p, c, reduce, reduce_prev, k, mixed=MixedOp):
        super().__init__()
        self.pre0 = FactorizedReduce(c_pp, c) if reduce_prev else relu_conv_bn(c_pp, c)
        self.pre1 = relu_conv_bn(c_p, c)
        self.edges = nn.ModuleList(
            mixed(c, 2 if reduce and j < 2 else 1, k) for i in range(4) for j in range(2 + i)
        )

    def forward(self, s0, s1, mix, edge_weight):
        states, e = [self.pre0(s0), self.pre1(s1)], 0
        for _ in range(4):
            node = 0
            for h in states:
                node = node + edge_weight[e] * self.edges[e](h, mix[e])
                e += 1
            states.append(node)
        return torch.cat(states[2:], 1)


def hard_sample(alpha, tau=1.0):
    noise = -torch.empty_like(alpha).exponential_().log()
    soft = ((alpha.log_softmax(-1) + noise) / tau).softmax(-1)
    return F.one_hot(soft.argmax(-1), alpha.shape[-1]) - soft.detach() + soft


class DartsSupernet(nn.Module):
    def __init__(self, c, cells, k, sampled=False):
        super().__init__()
        self.k, self.sampled = k, sampled
        self.stem = nn.Sequential(
            nn.Conv2d(3, 3 * c, 3, padding=1, bias=False), bn(3 * c, affine=True)
        )
        c_pp = c_p = 3 * c
        self.cells, self.kinds, reduce_prev = nn.ModuleList(), [], False
        for i in range(cells):
            reduce = i in (cells // 3, 2 * cells // 3)
            c *= 1 + reduce
            self.cells.append(
                Cell(c_pp, c_p, c, reduce, reduce_prev, k, SampledOp if sampled else MixedOp)
            )
            self.kinds.append(int(reduce))
            c_pp, c_p, reduce_prev = c_p, 4 * c, reduce
        self.head = nn.Linear(c_p, 10)
        self.alpha = [(1e-3 * torch.randn(14, 8)).requires_grad_() for _ in range(2)]
        self.beta = [(1e-3 * torch.randn(14)).requires_grad_() for _ in range(2)]

    def arch(self):
        return self.alpha + (self.beta if self.k > 1 else [])

    def forward(self, x):
        mixes = [hard_sample(a) if self.sampled else a.softmax(-1) for a in self.alpha]
        if self.k > 1:
            edges = [
                torch.cat([b[s:e].softmax(0) for s, e in ((0, 2), (2, 5), (5, 9), (9, 14))])
                for b in self.beta
            ]
        else:
            edges = [[1.0] * 14] * 2
        s0 = s1 = self.stem(x)
        for cell, kind in zip(self.cells, self.kinds):
            s0, s1 = s1, cell(s0, s1, mixes[kind], edges[kind])
        return self.head(s1.mean((2, 3)))


DARTS_V2 = {
    "normal": [
        ("sep3", 0),
        ("sep3", 1),
        ("sep3", 0),
        ("sep3", 1),
        ("sep3", 1),
        ("skip", 0),
        ("skip", 0),
        ("dil3", 2),
    ],
    "reduce": [
        ("max", 0),
        ("max", 1),
        ("skip", 2),
        ("max", 1),
        ("max", 0),
        ("skip", 2),
        ("skip", 2),
        ("max", 1),
    ],
}


class EvaluationCell(nn.Module):
    def __init__(self, c_pp, c_p, c, reduce, reduce_prev):
        super().__init__()
        self.pre0 = FactorizedReduce(c_pp, c) if reduce_prev else relu_conv_bn(c_pp, c)
        self.pre1 = relu_conv_bn(c_p, c)
        self.edges = DARTS_V2["reduce" if reduce else "normal"]
        make = {
            "sep3": lambda s: nn.Sequential(*separable(c, 3, s), *separable(c, 3, 1)),
            "dil3": lambda s: nn.Sequential(*separable(c, 3, s, 2)),
            "skip": lambda s: nn.Identity() if s == 1 else FactorizedReduce(c, c),
            "max": lambda s: nn.MaxPool2d(3, s, 1),
        }
        self.ops = nn.ModuleList(make[name](2 if reduce and j < 2 else 1) for name, j in self.edges)

    def drop(self, x, op):
        if isinstance(op, nn.Identity):
            return x
        return x / 0.8 * torch.empty(len(x), 1, 1, 1, device=x.device).bernoulli_(0.8)

    def forward(self, s0, s1):
        states = [self.pre0(s0), self.pre1(s1)]
        for i in range(4):
            pair = [
                self.drop(self.ops[k](states[self.edges[k][1]]), self.ops[k])
                for k in (2 * i, 2 * i + 1)
            ]
            states.append(pair[0] + pair[1])
        return torch.cat(states[2:], 1)


class EvaluationNetwork(nn.Module):
    def __init__(self, c, cells):
        super().__init__()
        global AFFINE
        AFFINE = True
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * c, 3, padding=1, bias=False), bn(3 * c))
        c_pp = c_p = 3 * c
        self.cells, reduce_prev, self.aux_at = nn.ModuleList(), False, 2 * cells // 3
        for i in range(cells):
            reduce = i in (cells // 3, 2 * cells // 3)
            c *= 1 + reduce
            self.cells.append(EvaluationCell(c_pp, c_p, c, reduce, reduce_prev))
            c_pp, c_p, reduce_prev = c_p, 4 * c, reduce
        self.aux = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, 3, 0, count_include_pad=False),
            nn.Conv2d(c_p, 128, 1, bias=False),
            bn(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            bn(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, 10),
        )
        self.head = nn.Linear(c_p, 10)

    def arch(self):
        return []

    def loss(self, x, y):
        s0 = s1 = self.stem(x)
        for i, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if i == self.aux_at:
                extra = F.cross_entropy(self.aux(s1), y)
        return F.cross_entropy(self.head(s1.mean((2, 3))), y) + 0.4 * extra


class Bench201Cell(nn.Module):
    def __init__(self, c):
        super().__init__()
        conv = lambda k: nn.Sequential(
            nn.ReLU(), nn.Conv2d(c, c, k, padding=k // 2, bias=False), bn(c)
        )
        self.edges = nn.ModuleList(
            nn.ModuleList(
                [
                    Zero(1),
                    nn.Identity(),
                    conv(1),
                    conv(3),
                    nn.AvgPool2d(3, 1, 1, count_include_pad=False),
                ]
            )
            for _ in range(6)
        )

    def forward(self, x, mix, index):
        nodes, e = [x], 0
        for _ in range(3):
            node = 0
            for h in nodes:
                node = node + mix[e, index[e]] * self.edges[e][index[e]](h)
                e += 1
            nodes.append(node)
        return nodes[-1]


class Residual(nn.Module):
    def __init__(self, c_in, c):
        super().__init__()
        block = lambda i, s: [nn.ReLU(), nn.Conv2d(i, c, 3, s, 1, bias=False), bn(c)]
        self.body = nn.Sequential(*block(c_in, 2), *block(c, 1))
        self.short = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c, 1, bias=False))

    def forward(self, x):
        return self.body(x) + self.short(x)


class GdasSupernet(nn.Module):
    def __init__(self, c, cells, tau=5.0):
        super().__init__()
        self.tau = tau
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), bn(c))
        layers = []
        for stage in range(3):
            if stage:
                layers.append(Residual(c * 2 ** (stage - 1), c * 2**stage))
            layers += [Bench201Cell(c * 2**stage) for _ in range(cells // 3)]
        self.layers = nn.ModuleList(layers)
        self.tail = nn.Sequential(bn(4 * c), nn.ReLU())
        self.head = nn.Linear(4 * c, 10)
        self.alpha = [(1e-3 * torch.randn(6, 5)).requires_grad_()]

    def arch(self):
        return self.alpha

    def forward(self, x):
        mix = hard_sample(self.alpha[0], self.tau)
        picked = mix.argmax(-1).tolist()
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x, mix, picked) if isinstance(layer, Bench201Cell) else layer(x)
        return self.head(self.tail(x).mean((2, 3)))


def second_order_grads(net, opt, train, valid, lr=0.025):
    """The DARTS unrolled architecture gradient, with the finite-difference product around w."""
    weights = list(net.parameters())
    saved = [w.detach().clone() for w in weights]
    grads = torch.autograd.grad(F.cross_entropy(net(train[0]), train[1]), weights)
    with torch.no_grad():
        for w, g in zip(weights, grads):
            buf = opt.state[w].get("momentum_buffer")
            w.sub_(lr * (g + 3e-4 * w + (0.9 * buf if buf is not None else 0)))
    out = torch.autograd.grad(F.cross_entropy(net(valid[0]), valid[1]), net.arch() + weights)
    direct, vector = out[: len(net.arch())], out[len(net.arch()) :]
    eps = 0.01 / torch.sqrt(sum((v * v).sum() for v in vector))
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            for w, s, v in zip(weights, saved, vector):
                w.copy_(s + sign * eps * v)
        sides.append(torch.autograd.grad(F.cross_entropy(net(train[0]), train[1]), net.arch()))
    with torch.no_grad():
        for w, s in zip(weights, saved):
            w.copy_(s)
    return [d - lr * (p - n) / (2 * eps) for d, p, n in zip(direct, *sides)]


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--method", default="darts", choices=("darts", "pcdarts", "sampled", "gdas", "evaluation")
    )
    p.add_argument("--order", type=int, default=1, choices=(1, 2))
    for name, value in (
        ("batch", 16),
        ("channels", None),
        ("cells", None),
        ("size", 32),
        ("steps", 4),
    ):
        p.add_argument("--" + name, type=int, default=value)
    p.add_argument("--device", default="cpu")
    p.add_argument("--json", action="store_true")
    p.add_argument(
        "--turns",
        action="store_true",
        help="after the first step, one step for each line of the standard input",
    )
    a = p.parse_args()
    usual = {"evaluation": (36, 20), "gdas": (16, 15)}.get(
        a.method, (16, 8)
    )  # as the papers have it
    a.channels, a.cells = (own or default for own, default in zip((a.channels, a.cells), usual))
    torch.manual_seed(0)
    make = {
        "darts": lambda: DartsSupernet(a.channels, a.cells, 1),
        "pcdarts": lambda: DartsSupernet(a.channels, a.cells, 4),
        "sampled": lambda: DartsSupernet(a.channels, a.cells, 1, True),
        "gdas": lambda: GdasSupernet(a.channels, a.cells),
        "evaluation": lambda: EvaluationNetwork(a.channels, a.cells),
    }[a.method]
    net = make().to(a.device)
    for group in ("alpha", "beta"):
        if hasattr(net, group):
            setattr(
                net, group, [t.detach().to(a.device).requires_grad_() for t in getattr(net, group)]
            )
    weight_opt = torch.optim.SGD(net.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    arch_opt = (
        torch.optim.Adam(net.arch(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
        if net.arch()
        else None
    )
    loss = getattr(net, "loss", lambda x, y: F.cross_entropy(net(x), y))
    batch = lambda: (
        torch.randn(a.batch, 3, a.size, a.size, device=a.device),
        torch.randint(0, 10, (a.batch,), device=a.device),
    )
    train, valid = batch(), batch()

    def arch_step():
        if a.order == 2:
            grads = second_order_grads(net, weight_opt, train, valid)
            for t, g in zip(net.arch(), grads):
                t.grad = g
        else:
            arch_opt.zero_grad()
            F.cross_entropy(net(valid[0]), valid[1]).backward()
        arch_opt.step()

    def weight_step():
        weight_opt.zero_grad()
        loss(*train).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        weight_opt.step()

    sync = torch.cuda.synchronize if a.device.startswith("cuda") else lambda: None

    def turns():
        yield 0
        print("ready", flush=True)
        yield from enumerate(sys.stdin, start=1)

    seconds = []
    for i in turns() if a.turns else range(a.steps + 1):
        sync()
        start = time.perf_counter()
        if arch_opt:
            arch_step()
        weight_step()
        sync()
        if i:
            seconds.append(time.perf_counter() - start)
            if a.turns:
                print(seconds[-1], flush=True)
    peak = (
        torch.cuda.max_memory_allocated() / 1e6
        if a.device.startswith("cuda")
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    )
    record = {
        "method": a.method,
        "order": a.order,
        "batch": a.batch,
        "channels": a.channels,
        "cells": a.cells,
        "size": a.size,
        "weights": sum(w.numel() for w in net.parameters()),
        "median_s": round(statistics.median(seconds), 4),
        "min_s": round(min(seconds), 4),
        "peak_mb": round(peak),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(record) if a.json else "  ".join(f"{k}={v}" for k, v in record.items()))


if __name__ == "__main__":
    main()
