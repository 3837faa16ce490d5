"""The types that salon-client comes with are those of the wire."""

import json
import re

from chat import asyncapi, client, typescript


def test_the_types_in_the_tree_are_those_of_the_protocol():
    assert (client.PACKAGE / "wire.d.ts").read_text() == typescript.declarations(asyncapi.document()), (
        "run: .venv/bin/python app/manage.py wire_types"
    )


def test_what_may_be_left_out_or_null_is_said():
    text = typescript.declarations(asyncapi.document())
    assert "  voice_note_url: string | null;" in text
    assert "  retry_after?: number;" in text
    assert '  kind: "attachment" | "voice_note";' in text
    assert "  attachments: Array<AttachmentData>;" in text


def test_the_package_has_what_it_says():
    package = json.loads((client.PACKAGE / "package.json").read_text())
    assert sorted(package["files"]) == sorted(client.CLIENT_FILES)
    module = (client.PACKAGE / "salon-client.js").read_text()
    assert re.search(r'VERSION = "(.+)"', module)[1] == package["version"]
    assert "import" not in re.findall(r"^\w+", module, re.MULTILINE)
