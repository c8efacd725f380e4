"""What is installed on a server: units as systemd reads them, scripts as shellcheck does, and the words about them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from claude_runner.config import Settings
from claude_runner.errors import InvalidError
from tests.conftest import need
from tests.support import PATIENCE

ROOT: Final = Path(__file__).parent.parent
DEPLOY: Final = ROOT / "deploy"
GUIDE: Final = (DEPLOY / "README-HETZNER.md").read_text(encoding="utf-8")
UNITS: Final = ("mcpserver.service", "mcpserver-deploy.service", "mcpserver-deploy.timer")
OPTIONS: Final = ("--domain", "runner.example.net", "--repository", "https://example.net/x.git")


def install(root: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Install into a folder."""
    if shutil.which("openssl") is None:
        need("openssl is not installed")
    environment = {**os.environ, "DESTDIR": str(root)}
    command = [str(DEPLOY / "deploy.sh"), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """The files of an installation."""
    done = install(tmp_path, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.fixture
def system(staged: Path) -> Path:
    """The files of an installation, with what systemd looks for besides."""
    if shutil.which("systemd-analyze") is None:
        need("systemd is not installed")
    shutil.copytree("/usr/lib/systemd/system", staged / "usr/lib/systemd/system", symlinks=True)
    for program in ("opt/mcpserver/app/.venv/bin/python", "usr/bin/python3", "bin/sh"):
        (staged / program).parent.mkdir(parents=True, exist_ok=True)
        (staged / program).touch(0o755)
    return staged


def analyze(system: Path, verb: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", verb, f"--root={system}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def unit(name: str) -> dict[str, str]:
    """The settings of a unit; of one that is there twice, the last."""
    lines = (DEPLOY / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_systemd_finds_nothing_wrong_with_the_units(system: Path) -> None:
    done = analyze(system, "verify", *UNITS)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "exposure"), [("mcpserver.service", 3.0), ("mcpserver-deploy.service", 3.3)]
)
def test_the_units_are_hardened(system: Path, name: str, exposure: float) -> None:
    done = analyze(
        system, "security", "--offline=yes", f"--threshold={exposure * 10:.0f}", "--no-pager", name
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_the_server_can_still_confine_what_it_starts() -> None:
    settings = unit("mcpserver.service")
    covers_proc = {"ProtectKernelTunables", "ProtectKernelLogs", "ProtectHostname", "ProcSubset"}
    assert not settings.keys() & (
        covers_proc | {"RestrictNamespaces", "MemoryDenyWriteExecute", "PrivateUsers"}
    )
    assert "@mount" not in settings["SystemCallFilter"]
    assert {"AF_UNIX", "AF_NETLINK"} <= set(settings["RestrictAddressFamilies"].split())
    profile = (DEPLOY / "bwrap.apparmor").read_text(encoding="utf-8")
    assert "profile bwrap /usr/bin/bwrap flags=(unconfined)" in profile
    assert "userns," in profile


def test_bubblewrap_works_where_the_unit_covers_what_it_covers_and_not_where_it_must_not() -> None:
    """As the unit's mounts are made for it, in a mount namespace of its own."""
    if os.geteuid() != 0 or shutil.which("bwrap") is None:
        pytest.skip("only root can make the mounts of a unit, and bubblewrap must be there")
    # ProtectSystem=, ProtectHome= and ProtectProc= as far as bubblewrap notices.
    mounts = (
        "mount --make-rprivate / && mount -t proc -o hidepid=2 proc /proc && mount -t tmpfs -o mode=0 tmpfs /root"
        " && mount -o remount,bind,ro /"
    )
    user = "setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs --bounding-set=-all"
    namespaces = "--unshare-pid --unshare-ipc --unshare-net --cap-drop ALL"
    bwrap = f"{user} bwrap {namespaces} --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp true"
    plain = subprocess.run(["sh", "-c", bwrap], cwd="/", capture_output=True, text=True, check=False)
    if plain.returncode != 0:
        need(f"no user but root can make namespaces here: {plain.stderr}")

    def ends_with(more: str) -> int:
        command = ["unshare", "--mount", "sh", "-c", f"{mounts}{more} && exec {bwrap}"]
        return subprocess.run(command, cwd="/", capture_output=True, check=False).returncode

    assert ends_with("") == 0
    tunables = " && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
    assert ends_with(tunables) != 0, "then the unit can be stricter"


def test_the_server_has_time_to_end_its_runs() -> None:
    settings = unit("mcpserver.service")
    assert int(settings["TimeoutStopSec"]) > 2 * Settings(Path()).shutdown_grace_seconds
    assert settings["KillMode"] == "control-group"


def test_stopping_tells_the_server_alone_and_waits_until_it_has_ended() -> None:
    command = shlex.split(unit("mcpserver.service")["ExecStop"].removeprefix("-"))
    assert subprocess.run(command, env={"PATH": os.environ["PATH"]}, check=False).returncode == 0
    code = "import signal as s, time; s.signal(15, lambda *_: (time.sleep(0.3), exit(7))); print(flush=True); s.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        stopping = subprocess.Popen(command, env={"PATH": os.environ["PATH"], "MAINPID": str(server.pid)})
        assert server.wait(PATIENCE) == 7  # it is buried here, as systemd does, and only then is it gone
        assert stopping.wait(PATIENCE) == 0


def test_secrets_are_roots_alone_and_code_is_nobody_elses_to_change(staged: Path) -> None:
    modes = {
        str(path.relative_to(staged)): path.stat().st_mode & 0o777
        for path in staged.rglob("*")
        if not path.is_symlink()
    }
    assert modes["etc/mcpserver/server.env"] == 0o600
    assert modes["etc/mcpserver/tls/privkey.pem"] == 0o600
    assert modes["etc/mcpserver"] == 0o750
    assert not {name for name, mode in modes.items() if mode & 0o022}
    assert (staged / "usr/local/sbin/mcpserver-release").resolve().is_file()


def test_the_server_starts_with_the_settings_that_are_made(staged: Path) -> None:
    text = (staged / "etc/mcpserver/server.env").read_text(encoding="utf-8")
    given = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    service = dict(pair.split("=") for pair in unit("mcpserver.service")["Environment"].split())
    settings = Settings.from_environment({**service, **given}, Path("/nowhere"))
    assert settings.public_url == "https://runner.example.net"
    assert str(settings.home) == "/var/lib/mcpserver"
    assert settings.dashboard is not None
    assert settings.oauth_client is not None
    assert len(settings.dashboard.secret) == 32


def test_installing_again_keeps_what_the_owner_has_set_and_takes_what_is_new(staged: Path) -> None:
    secrets, chosen = staged / "etc/mcpserver/server.env", staged / "etc/mcpserver/deploy.env"
    key = (staged / "etc/mcpserver/tls/privkey.pem").read_bytes()
    secrets.write_text("MINE=1\n")
    chosen.write_text(chosen.read_text() + "VERIFY_SIGNATURES=1\n")
    assert install(staged, "--branch", "stable").returncode == 0
    assert secrets.read_text() == "MINE=1\n"
    assert (staged / "etc/mcpserver/tls/privkey.pem").read_bytes() == key
    assert chosen.read_text() == (
        "DOMAIN=runner.example.net\nREPOSITORY=https://example.net/x.git\nBRANCH=stable\nVERIFY_SIGNATURES=1\n"
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "--domain must be"),
        (("--domain", "a.b; x", "--repository", "u"), "--domain must be"),
        (("--domain", "a.b", "--repository", "--upload-pack=x"), "--repository must be"),
        (("--domain", "a.b", "--repository", "u", "--branch", "a b"), "--branch must be"),
        (("--domain",), "--domain needs a value"),
        (("--domian", "a.b"), "--domian is not known"),
    ],
)
def test_what_cannot_be_installed_is_refused_before_anything_is_written(
    tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    done = install(tmp_path, *options)
    assert done.returncode == 1
    assert why in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_shows_what_it_would_do_and_does_nothing(tmp_path: Path) -> None:
    done = install(tmp_path, *OPTIONS, "--dry-run")
    assert done.returncode == 0
    assert f"+ install -m 0644 {DEPLOY / UNITS[0]}" in done.stderr
    assert not list(tmp_path.iterdir())


def test_shellcheck_finds_nothing_wrong_with_any_script() -> None:
    if shutil.which("shellcheck") is None:
        need("shellcheck is not installed")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    scripts = [name for name in listed if name.endswith(".sh") or name == ".ci/run"]
    assert "deploy/deploy.sh" in scripts
    done = subprocess.run(["shellcheck", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_guide_names_only_what_there_is() -> None:
    installer = (DEPLOY / "deploy.sh").read_text(encoding="utf-8")
    release = (DEPLOY / "release.py").read_text(encoding="utf-8")
    for option in re.findall(r"deploy\.sh[^`\n]*?(--[a-z-]+)", GUIDE):
        assert option.removeprefix("--") in installer, option
    for option in re.findall(r"mcpserver-release (--[a-z]+)", GUIDE):
        assert f'"{option}"' in release, option
    assert set(re.findall(r"\bmcpserver[\w-]*\.(?:service|timer)", GUIDE)) <= set(UNITS)
    for name in ("/etc/mcpserver/server.env", "/etc/mcpserver/deploy.env", "/etc/mcpserver/tls"):
        assert name in GUIDE
        assert name.removeprefix("/etc/mcpserver/") in installer
    assert set(re.findall(r"`(?:sudo )?(/etc/apparmor\.d/\w+)", GUIDE)) == {"/etc/apparmor.d/bwrap"}


def test_units_scripts_and_proxy_agree_on_users_folders_and_port() -> None:
    server, installer = unit("mcpserver.service"), (DEPLOY / "deploy.sh").read_text(encoding="utf-8")
    release = (DEPLOY / "release.py").read_text(encoding="utf-8")
    assert f"user {server['User']} " in installer
    assert f'server_user: str = "{server["User"]}"' in release
    assert f'server_home: str = "{server["WorkingDirectory"]}"' in release
    assert {Path("/var/lib") / name for name in server["StateDirectory"].split()} == {
        Path(server["WorkingDirectory"]), Path("/var/lib") / server["User"],
    }  # fmt: skip
    port = Settings(Path()).port
    assert f'health_url: str = "http://127.0.0.1:{port}/health"' in release
    proxied = re.findall(
        r"proxy_pass +http://([\d.:]+);", (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    )
    assert set(proxied) == {f"127.0.0.1:{port}"}
    assert unit("mcpserver-deploy.service")["ExecStart"].endswith("/usr/local/sbin/mcpserver-release")


def test_the_dockerfile_fits_the_program() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    by_name: dict[str, list[str]] = {}
    for name, rest in steps:
        by_name.setdefault(name, []).append(rest)
    [base] = by_name["FROM"]
    major, minor = re.fullmatch(r"python:(\d+)\.(\d+)-slim", base).groups()  # type: ignore[union-attr]
    assert (int(major), int(minor)) >= (3, 11)
    copied = [name for line in by_name["COPY"] for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert {"server.py", "claude_runner", "fixed-servers", "dynamic_servers", "requirements.txt"} <= set(
        copied
    )
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!").split("/")[0] for line in ignored if line.startswith("!")}
    assert let_in == {name.split("/")[0] for name in copied}
    given = dict(pair.split("=") for pair in by_name["ENV"][0].split())
    assert by_name["EXPOSE"] == [given["PORT"]]
    assert by_name["VOLUME"] == [given["RUNNER_HOME"]]
    assert by_name["USER"] == ["mcpuser"]
    with pytest.raises(InvalidError, match="so the site needs a login"):
        Settings.from_environment(given, Path("/app"))
    settings = Settings.from_environment(
        given | {"DASHBOARD_USERNAME": "a", "DASHBOARD_PASSWORD": "b"}, Path("/app")
    )
    assert (settings.host, str(settings.port)) == ("0.0.0.0", given["PORT"])


def test_the_samples_that_are_shipped_are_in_the_image() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "dynamic_servers"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in listed} == {
        line for line in ignored if line.startswith("!dynamic_servers/")
    }
