"""Looks up every part of requirements.lock for known vulnerabilities; exit 1 when there is one.

pip-audit does the work; further arguments go to it, such as `--ignore-vuln ID`. Where its service cannot be reached it
ends with a traceback, or, behind a mirror that has the packages only, says that nothing was found: neither may pass for
an audit, so both are said in one line. They do not fail: a machine without network must be able to lint.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"
NOT_REACHED = "not audited: the service cannot be reached"
_NETWORK = ("requests.exceptions.", "urllib3.exceptions.", "Could not connect", "ServiceError")


def main(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--disable-pip", "--require-hashes"]
    options = ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    done = subprocess.run([*command, *options, *arguments], capture_output=True, text=True, check=False)
    try:
        parts: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        if any(word in done.stderr for word in _NETWORK):
            print(NOT_REACHED)
            return 0
        print(f"pip-audit failed: {done.stderr.strip()[-2000:]}", file=sys.stderr)
        return 1
    audited = [part for part in parts if "skip_reason" not in part]
    found = [(part, advisory) for part in audited for advisory in part["vulns"]]
    for part, advisory in found:
        fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
        print(f"{part['name']} {part['version']}: {advisory['id']}, fixed in {fixed}: {advisory['description'][:200]}")
    if found:
        print(f"{len(found)} known vulnerabilities: raise the versions in pyproject.toml, then `make lock`")
    elif not audited:
        print(f"{NOT_REACHED}: it knows none of {len(parts)} parts")
    else:
        print(f"{len(audited)} of {len(parts)} parts audited, no known vulnerability")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
