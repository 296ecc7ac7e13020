"""Prints the bill of materials of the image: a CycloneDX document of deploy/requirements.lock.

cyclonedx-bom takes names, versions and hashes from the lock; the licences are those that the installed parts declare.
"""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LICENCE_CHARS_MAX = 100  # some parts put the licence's whole text where its name belongs


def main() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"]
    files = ["--pyproject", str(ROOT / "pyproject.toml"), str(ROOT / "deploy" / "requirements.lock")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cyclonedx-py failed: {done.stderr.strip()}")
    bill: dict[str, Any] = json.loads(done.stdout)
    for part in bill["components"]:
        licence = _licence(part["name"])
        if licence is not None:
            part["licenses"] = [licence]
    print(json.dumps(bill, indent=2, ensure_ascii=False))


def _licence(name: str) -> dict[str, Any] | None:
    """What an installed part says of its licence: an expression, a name, or nothing."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return None  # for another system or another Python
    for expression in told.get_all("License-Expression", []):
        return {"expression": expression, "acknowledgement": "declared"}
    classifiers = told.get_all("Classifier", [])
    classified = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    text = "".join(told.get_all("License", [])).strip()
    named = text if text and "\n" not in text and len(text) <= LICENCE_CHARS_MAX else " AND ".join(classified)
    return {"license": {"name": named, "acknowledgement": "declared"}} if named else None


if __name__ == "__main__":
    main()
