"""Writes docs/grafana.json, a dashboard with the pictures of the admin (app/chat/pictures.py): `make docs`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/grafana.json"
sys.path.append(str(ROOT / "app"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "salon.settings")

from chat.pictures import PICTURES, Picture  # noqa: E402 (found by the line above)

UNITS = {"s": "s", "bytes": "bytes", "percent": "percent", "per second": "cps", "": "short"}
SOURCE = {"type": "prometheus", "uid": "${source}"}


def panel(number: int, picture: Picture) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": picture.title,
        "datasource": SOURCE,
        "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": UNITS[picture.unit], "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": line.expression,
                "legendFormat": line.name or f"{{{{{line.label}}}}}",
            }
            for place, line in enumerate(picture.lines)
        ],
    }


def dashboard() -> str:
    """The whole file, as it should be."""
    written = {
        "uid": "salon",
        "title": "Salon",
        "tags": ["salon"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [panel(number, picture) for number, picture in enumerate(PICTURES)],
    }
    return json.dumps(written, indent=2) + "\n"


if __name__ == "__main__":
    PAGE.write_text(dashboard())
