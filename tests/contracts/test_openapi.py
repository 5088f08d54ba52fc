"""The API's surface: a change of a path, method, parameter or status is a decision, so it shows as a diff here."""

import json
from pathlib import Path

from service.app import create_app
from service.settings import ServiceSettings

SNAPSHOT = Path(__file__).with_name("openapi.json")


def surface(document: dict) -> dict:
    """Paths and methods with their parameters, form fields and statuses."""
    return {
        path: {
            method: {
                "parameters": sorted(f"{p['in']}:{p['name']}" for p in entry.get("parameters", [])),
                "form": form_fields(document, entry),
                "statuses": sorted(entry["responses"]),
            }
            for method, entry in methods.items()
        }
        for path, methods in document["paths"].items()
    }


def form_fields(document: dict, entry: dict) -> list[str]:
    content = entry.get("requestBody", {}).get("content", {}).get("multipart/form-data")
    if content is None:
        return []
    schema = document["components"]["schemas"][content["schema"]["$ref"].rsplit("/", 1)[-1]]
    required = schema.get("required", [])
    return sorted(name + ("*" if name in required else "") for name in schema["properties"])


def test_the_surface_is_the_one_recorded(tmp_path):
    settings = ServiceSettings(blob_url=(tmp_path / "blobs").as_uri())
    found = surface(create_app(settings).openapi())
    assert found == json.loads(SNAPSHOT.read_text(encoding="utf-8"))
