"""What /metrics says."""
import re


class Metrics:
    """Prometheus's text format, as strictly as promtool reads it: families in one piece, one kind each, no sample twice, histograms
    that add up, names as its guide wants them."""

    def __init__(self, text):
        self.kinds, self.samples = {}, {}
        family = None
        assert text.endswith("\n")
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family, help_text = line.split(" ", 3)[2:]
                assert family not in self.kinds and help_text
                assert re.fullmatch(r"pgweir_[a-z0-9_]+", family) and not re.search(r"_(us|ms|milliseconds|microseconds|kb|mb|percent)(_|$)", family)
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert name == family and kind in ("counter", "gauge", "histogram")
                assert (kind == "counter") == name.endswith("_total") and not re.search("_(counter|gauge|histogram|count|sum|bucket)$", name)
                self.kinds[name] = kind
            else:
                self.sample(family, line)
        for name, kind in self.kinds.items():
            if kind == "histogram":
                self.check_histogram(name)

    def sample(self, family, line):
        match = re.fullmatch(r'(\w+)(?:\{(.*)\})? (-?[\d.]+)', line)
        assert match, line
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\["\\n])*)"', match[2] or ""))
        assert ",".join(f'{k}="{v}"' for k, v in labels.items()) == (match[2] or ""), line
        base = re.sub("_(bucket|sum|count)$", "", match[1]) if self.kinds[family] == "histogram" else match[1]
        assert base == family, line
        key = (match[1], tuple(sorted(labels.items())))
        assert key not in self.samples, f"{line} is there twice"
        self.samples[key] = float(match[3])

    def check_histogram(self, name):
        series = {}
        for (sample, labels), value in self.samples.items():
            if sample == name + "_bucket":
                rest = tuple(item for item in labels if item[0] != "le")
                series.setdefault(rest, []).append((float(dict(labels)["le"].replace("+Inf", "inf")), value))
        for labels, buckets in series.items():
            buckets.sort()
            values = [value for _, value in buckets]
            assert values == sorted(values) and buckets[-1][0] == float("inf")
            assert values[-1] == self.samples[name + "_count", labels] and (name + "_sum", labels) in self.samples

    def value(self, name, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))), 0)


def read_metrics(proxy):
    status, body = proxy.http_get("/metrics")
    assert status == 200
    return Metrics(body)
