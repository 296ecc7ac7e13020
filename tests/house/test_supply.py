"""The promise: what is installed is what was signed, what it is made of is listed, no secret is in the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "deploy/requirements.lock")
PINNED = re.compile(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+?)(?: ;.*)? \\$", re.MULTILINE)


def run(*words: str, cwd: Path = ROOT, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(words), cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )


class TestLocks:
    @pytest.fixture
    def house(self, tmp_path: Path) -> Path:
        """A copy of what is signed, with the program that signs."""
        for name in (*LOCKS, ".ci/locks"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
        return tmp_path

    @pytest.fixture
    def key(self, tmp_path: Path) -> Path:
        return made_key(tmp_path / "key")

    def test_are_pinned_by_hash(self) -> None:
        for name in LOCKS:
            parts = re.split(r"\n(?=[a-z])", (ROOT / name).read_text())[1:]
            assert len(parts) > 40
            assert [part for part in parts if not PINNED.match(part) or "--hash=sha256:" not in part] == []

    def test_of_a_repository_without_signers_are_installed_as_they_are(self, house: Path) -> None:
        done = run(".ci/locks", "verify", cwd=house)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def test_that_were_signed_are_accepted(self, house: Path, key: Path) -> None:
        allow(house, key)
        assert run(".ci/locks", "sign", str(key), cwd=house).returncode == 0
        assert sorted(path.name for path in house.rglob("*.sig")) == ["requirements.lock.sig"] * 2
        assert run(".ci/locks", "verify", cwd=house).returncode == 0

    @pytest.mark.parametrize("lock", LOCKS)
    def test_that_were_changed_are_refused(self, house: Path, key: Path, lock: str) -> None:
        allow(house, key)
        run(".ci/locks", "sign", str(key), cwd=house)
        text = (house / lock).read_text()
        (house / lock).write_text(text.replace("sha256:8", "sha256:9", 1))
        refused(house, f"{lock} is not what release@example.org signed")
        (house / lock).write_text(text)
        (house / f"{lock}.sig").unlink()
        refused(house, f"{lock} has no signature")
        (house / f"{lock}.sig").write_text("nonsense")
        refused(house, f"{lock}.sig is of nobody")

    def test_signed_by_somebody_else_are_refused(self, house: Path, key: Path) -> None:
        allow(house, key)
        run(".ci/locks", "sign", str(made_key(house / "thief")), cwd=house)
        refused(house, "is of nobody")

    def test_signed_for_another_purpose_are_refused(self, house: Path, key: Path) -> None:
        allow(house, key)
        for lock in LOCKS:
            run("ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "git", lock, cwd=house)
        refused(house, "is not what")

    def test_are_held_against_signers_that_no_commit_can_change(self, house: Path, key: Path, tmp_path: Path) -> None:
        signers = tmp_path / "signers"
        refused(house, "is not there", LOCK_SIGNERS=str(signers))
        signers.write_text(f"release@example.org {key.with_suffix('.pub').read_text()}")
        refused(house, "has no signature", LOCK_SIGNERS=str(signers))
        run(".ci/locks", "sign", str(key), cwd=house)
        assert run(".ci/locks", "verify", cwd=house, LOCK_SIGNERS=str(signers)).returncode == 0

    def test_need_ssh_keygen_only_when_there_is_something_to_verify(self, house: Path, key: Path) -> None:
        tools = house / "tools"
        tools.mkdir()
        for tool in ("sh", "dirname"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        assert run("sh", ".ci/locks", "verify", cwd=house, PATH=str(tools)).returncode == 0
        allow(house, key)
        refused(house, "install OpenSSH's client", PATH=str(tools))

    def test_are_signed_by_a_key_that_is_named(self, house: Path) -> None:
        done = run(".ci/locks", "sign", cwd=house)
        assert done.returncode == 1
        assert "make sign KEY=" in done.stderr


def made_key(path: Path) -> Path:
    assert run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)).returncode == 0
    return path


def allow(house: Path, key: Path) -> None:
    public = key.with_suffix(".pub").read_text()
    (house / "deploy" / "allowed_signers").write_text(f"release@example.org {public}")


def refused(house: Path, words: str, **env: str) -> None:
    done = run("sh", ".ci/locks", "verify", cwd=house, **env)
    assert done.returncode == 1
    assert words in done.stderr


def test_the_bill_of_materials_names_every_part_with_its_hashes_and_most_licences() -> None:
    done = run(sys.executable, ".ci/sbom.py")
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "flashclaim")
    lock = (ROOT / "deploy" / "requirements.lock").read_text()
    listed = {(part["name"], part["version"]): part for part in bill["components"]}
    assert set(listed) == set(PINNED.findall(lock))
    hashes = {
        digest["content"]
        for part in bill["components"]
        for place in part["externalReferences"]
        for digest in place.get("hashes", [])
    }
    assert hashes == set(re.findall("sha256:([0-9a-f]{64})", lock))
    # What is for another Python or another system is not installed here, and tells no licence.
    assert len([part for part in bill["components"] if "licenses" in part]) >= len(listed) - 4


class TestAdvisories:
    def test_of_a_vulnerable_part_fail(self) -> None:
        with advisories({"redis": "GHSA-test-test-test"}) as url:
            done = run(sys.executable, ".ci/advisories.py", "-s", "osv", "--osv-url", url)
        assert done.returncode == 1, done.stdout + done.stderr
        assert re.search(r"^redis \S+: GHSA-test-test-test, fixed in 999.0: it is broken$", done.stdout, re.MULTILINE)

    def test_of_no_part_pass_and_say_how_many_were_looked_up(self) -> None:
        with advisories({}) as url:
            done = run(sys.executable, ".ci/advisories.py", "-s", "osv", "--osv-url", url)
        assert done.returncode == 0, done.stderr
        found = re.fullmatch(r"(\d+) of (\d+) parts audited, no known vulnerability\n", done.stdout)
        assert found is not None
        assert int(found[1]) > 100

    @pytest.mark.parametrize("answer", ["nobody", "error"])
    def test_that_cannot_be_had_are_said_to_be_missing(self, answer: str) -> None:
        with advisories({}, status=503) as url:
            asked = url if answer == "error" else "http://127.0.0.1:1/"
            done = run(sys.executable, ".ci/advisories.py", "-s", "osv", "--osv-url", asked)
        assert (done.returncode, done.stdout) == (0, "not audited: the service cannot be reached\n")

    def test_that_were_asked_for_wrongly_fail(self) -> None:
        assert run(sys.executable, ".ci/advisories.py", "--nonsense").returncode == 1


@contextmanager
def advisories(vulnerable: dict[str, str], status: int = 200) -> Iterator[str]:
    """A service of advisories as pip-audit asks it, on this machine."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            answer = {}
            if asked in vulnerable:
                affected = {
                    "package": {"name": asked, "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999.0"}]}],
                }
                answer = {"vulns": [{"id": vulnerable[asked], "summary": "it is broken", "affected": [affected]}]}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            serving.join()


class TestSecrets:
    @pytest.fixture
    def house(self, tmp_path: Path) -> Path:
        (tmp_path / ".ci").mkdir()
        for name in (".ci/secrets", ".secrets.baseline"):
            shutil.copy2(ROOT / name, tmp_path / name)
        (tmp_path / "fine.py").write_text("answer = 42\n")
        run("git", "init", "-q", cwd=tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        "planted",
        [
            f"ticket_key = '{sha256(b'planted').hexdigest()}'\n",
            "redis_url = 'redis://boss:" + "hunter23@store'\n",
            "-----BEGIN OPENSSH PRIVATE" + " KEY-----\n",
            "session_secret = '" + "a long and real one'\n",
        ],
    )
    def test_that_are_planted_are_found(self, house: Path, planted: str) -> None:
        scan = (".ci/secrets", {"BIN": str(Path(sys.executable).parent)})
        assert run(scan[0], cwd=house, **scan[1]).returncode == 0
        (house / "new.py").write_text(planted)
        found = run(scan[0], cwd=house, **scan[1])
        assert found.returncode == 1
        assert "new.py" in found.stdout

    def test_that_are_none_were_looked_at_one_by_one(self) -> None:
        found = json.loads((ROOT / ".secrets.baseline").read_text())["results"]
        rows = [(name, row["line_number"], row.get("is_secret", True)) for name in found for row in found[name]]
        assert [row for row in rows if row[2]] == []
        assert len(rows) < 40, "a baseline that grows hides what it should show"

    @pytest.mark.parametrize("file", [".gitignore", ".dockerignore"])
    def test_are_kept_out_of_the_repository_and_the_image(self, file: str) -> None:
        ignored = {line.strip("/") for line in (ROOT / file).read_text().splitlines()}
        assert {".flashclaim", "deploy/secrets.env"} <= ignored

    def test_are_not_copied_into_the_image(self) -> None:
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        names = {name for line in copied for name in line.split()}
        code = {"api", "cli", "engine", "loadtests", "lua"}
        assert names == code | {"deploy/requirements.lock", "pyproject.toml", "README.md", "LICENSE"}
