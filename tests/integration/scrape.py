"""What a server's processes say at `/metrics`."""

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families


def samples(text):
    """The values by name and labels, like `salon_deliveries_total{kind="message"}`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, f"{name} is there twice"
            found[name] = sample.value
    return found


def scraped(target, process=0):
    """What one of the processes says."""
    status, headers, text = target.request("GET", "/metrics", process=process)
    assert status == 200, text
    assert headers["Content-Type"].startswith("text/plain; version=")
    return samples(text)


def summed(target):
    """What all of them say, added up as Prometheus does."""
    total = Counter()
    for process in range(len(target.urls)):
        total.update(scraped(target, process))
    return total
