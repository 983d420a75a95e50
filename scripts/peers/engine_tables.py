"""What compare_engines.py shows: tables in Markdown, and whether expectations are met."""

from typing import Any

from tables import markdown, paragraph

from peers.table import PEERS

EXPECTED = (
    ("cnn", ("TorchScript",), 5.0),
    ("cnn", ("OpenVINO", "OpenVINO f32"), 1.4),
    ("simple-nn", ("tract",), 1.5),
)
"""How many times as long as `Classifier.logits` on its default file each of these takes, at best, for one image on one
thread of a processor with VNNI: model, peers, least ratio."""


def lines(found: dict[str, Any]) -> list[str]:
    """A table a file, with the omissions below it."""
    threads = found["threads"]
    blocks = paragraph(
        f"{found['processor']}, {'with' if found['vnni'] else 'without'} VNNI, "
        f"{'with' if found['bfloat16'] else 'without'} bfloat16; {threads} threads at most; {found['rounds']} rounds."
    )
    for name, model in found["models"].items():
        for form, file in model["files"].items():
            by_default = ", the default file" if form == model["default"] else ""
            blocks += ["", f"### `{name}`, {'float32' if form == 'onnx' else form}{by_default}", ""]
            blocks += file_table(file, threads)
            for peer, reason in file["omitted"].items():
                blocks += ["", *paragraph(f"{peer} is left out: {reason}")]
    blocks += ["", *expectations(found)]
    return blocks


def file_table(file: dict[str, Any], threads: int) -> list[str]:
    head = ["engine", "one image, 1 thread", "range", "p95", f"{threads} threads", "images/s, 1 thread"]
    head += [f"{threads} threads", "first answer", "installed", "max Δlogit", "flips"]
    return markdown(head, [row(name, each) for name, each in file["peers"].items()])


def row(name: str, figures: dict[str, Any]) -> list[str]:
    one, more = figures["one"], figures.get("all")
    agreement = figures["agreement"]
    return [
        f"{name} {figures['version']}",
        microseconds(one["p50"]),
        "…".join(f"{1e6 * each:.0f}" for each in one["range"]),
        microseconds(one["p95"]),
        microseconds(more["p50"]) if more else "",
        f"{one['images_per_second']:,.0f}",
        f"{more['images_per_second']:,.0f}" if more else "",
        f"{1000 * figures['cold']:,.0f} ms",
        f"{figures['megabytes']:,.0f} MB",
        f"{agreement['from_pytorch']:.1e}",
        str(agreement["flips"]),
    ]


def microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f} µs"


def settings() -> list[str]:
    """What each peer runs, and its settings."""
    return markdown(["engine", "runs", "settings"], [[p.name, str(p.source), p.settings] for p in PEERS], left=3)


def expectations(found: dict[str, Any]) -> list[str]:
    """Of each of `EXPECTED`, the ratio that was measured, and whether it is met where that can be said."""
    told = []
    for name, peers, least in EXPECTED:
        model = found["models"].get(name)
        ours = model and quickest(model, ("mnist-edge",), {model["default"]})
        theirs = model and quickest(model, peers, set(model["files"]))
        if not (ours and theirs):
            continue
        ratio = theirs / ours
        verdict = "reached" if ratio >= least else "not reached"
        aim = f"aim with VNNI: {least:g}, {verdict}" if found["vnni"] else "no aim without VNNI"
        who = " and ".join(peers)
        told.append(f"- `{name}`: the best of {who} takes {ratio:.2f} times as long as mnist-edge ({aim})")
    return told


def quickest(model: dict[str, Any], peers: tuple[str, ...], forms: set[str]) -> float | None:
    """The least time of these peers on these files, for one image on one thread."""
    times = [
        figures["one"]["p50"]
        for form in forms
        for name, figures in model["files"][form]["peers"].items()
        if name in peers
    ]
    return min(times, default=None)
