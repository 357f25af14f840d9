"""Folders of other users, read-only checkouts, and words on the command line that are no files: one line, status 2."""

import ctypes
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, Outcome, run_module, run_process
from test_bad_input import PRESET, run_key, words, write_preset

from layerprune import cli
from layerprune.errors import LayerpruneError
from layerprune.suite import run as running
from layerprune.system import files, paths

SOMEBODY = 12345
"""Another user, without whose rights root is a stranger to his folders."""
LIMITED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with the dense run."""
    folder = tmp_path_factory.mktemp("finished")
    write_preset(folder, PRESET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(folder))
        running.run(run_key("dense"), "cpu", 1, lambda *_: None, lambda line: None)
    return folder


@pytest.fixture
def root(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    return tmp_path


def give_up_overriding() -> None:
    """Root gives up its right to enter everybody's folders."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    overriding = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    for capability in overriding:  # nor does a process that this one starts have it: PR_CAPBSET_DROP
        assert libc.prctl(24, capability, 0, 0, 0) == 0
    version_3_of_this_thread, held = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(version_3_of_this_thread, held) == 0
    for kind in (0, 1):  # effective, permitted
        held[kind] &= ~sum(1 << capability for capability in overriding)
    assert libc.capset(version_3_of_this_thread, held) == 0


def limited(root: Path, *arguments: object) -> Outcome:
    """The command line, without root's right to enter everybody's folders."""
    return run_module("layerprune", *arguments, cwd=root, first=give_up_overriding)


def one_line(outcome: Outcome) -> str:
    assert outcome.code == 2 and outcome.stdout == "", outcome
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("layerprune: error: ")
    return line


def close(folder: Path, mode: int = 0o700) -> None:
    """Only its owner may enter it, or with 0o555 nobody may write there."""
    if os.geteuid() == 0:
        os.chown(folder, SOMEBODY, SOMEBODY)
        folder.chmod(mode)
    else:
        folder.chmod(0 if mode == 0o700 else mode)


@pytest.fixture(autouse=True)
def open_again(tmp_path: Path) -> Iterator[None]:
    yield
    for folder in ("config", "results", "state", "."):
        if (tmp_path / folder).is_dir():
            (tmp_path / folder).chmod(0o755)


FOLDER = "results/study/digits/lenet-300-100/dense/default/seed0"


CLOSED = [("config", "run"), ("config", "tables"), ("results", "run"), ("results", "show"), ("results", "tables")]
CLOSED += [("results", "unpack")]


@pytest.mark.parametrize("closed, command", CLOSED)
def test_a_folder_that_may_not_be_entered_is_named(root: Path, closed: str, command: str) -> None:
    arguments = {"run": words(run_key("dense")), "show": ["show", root / FOLDER]}
    arguments["unpack"] = ["results", "unpack", "--preset", "study"]
    close(root / closed)
    line = one_line(limited(root, *arguments.get(command, [command, "--preset", "study"])))
    assert f"{root}/{closed}" in line and line.endswith("permission denied")


@pytest.mark.parametrize("command", ["tables", "export", "claims"])
def test_what_cannot_be_written_is_named(root: Path, command: str) -> None:
    shutil.copytree(REPOSITORY / "config" / "claims", root / "config" / "claims")
    where = root / (FOLDER if command == "export" else "results/study")
    close(where, 0o555)
    close(root / "results/study/digits", 0o555)
    arguments = {"export": ["export", root / FOLDER]}
    line = one_line(limited(root, *arguments.get(command, [command, "--preset", "study", *PARTIAL.get(command, [])])))
    assert f"{root}/results/study/" in line and line.endswith("cannot write: permission denied")


PARTIAL = {"tables": ["--partial", "--dataset", "digits"]}


def test_a_finished_run_needs_no_right_to_write(root: Path) -> None:
    for folder in (root / FOLDER, root / "state/study/digits/lenet-300-100/dense/default/seed0"):
        close(folder, 0o555)
    done = limited(root, *words(run_key("dense")))
    assert done.code == 0 and "up to date" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare command")
@pytest.mark.parametrize(
    "command",
    [
        "{python} -m layerprune tables --preset study --partial",
        "{python} -m layerprune export " + FOLDER,
        "{python} -m layerprune run --preset study --dataset digits --arch lenet-300-100 --method random",
        "{python} -m snakemake --dry-run --config preset=study",
        "make --old-file=.venv/.installed docs",
    ],
)
def test_a_read_only_checkout_is_said_in_one_line(root: Path, command: str) -> None:
    for name in ("Snakefile", "workflow", "profiles", "src", "environment.yml", "Makefile", "docs", "README.md"):
        (root / name).symlink_to(REPOSITORY / name)
    (root / ".venv/.installed").mkdir(parents=True)
    script = f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && cd {root} && exec "
    told = ["unshare", "--mount", "sh", "-c", script + command.format(python=sys.executable)]
    if subprocess.run([*told[:-1], script + "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a file system")
    del os.environ["LAYERPRUNE_ROOT"]  # the checkout is where one stands
    done = run_process(told)
    own = [line for line in done.stderr.splitlines() if not line.startswith(("Using", "Assuming", "make"))]
    assert done.code not in (0, -9) and len(own) == 1 and "rror: " in own[0], done
    assert "read-only" in own[0].lower() or "cannot be written" in own[0]


# --- snakemake's own ideas of a user ----------------------------------------------------------------------------------

DRY_RUN = [sys.executable, "-m", "snakemake", "--dry-run", "--config", "preset=study"]


@pytest.fixture
def checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("Snakefile", "workflow", "profiles", "src", "environment.yml"):
        (root / name).symlink_to(REPOSITORY / name)
    monkeypatch.delenv("LAYERPRUNE_ROOT")
    return root


@pytest.mark.parametrize("closed", ["metadata/of-a-table", "locks"])
def test_books_of_another_user_are_said_in_one_line(checkout: Path, closed: str) -> None:
    book = checkout / ".snakemake" / closed
    book.parent.mkdir(parents=True)
    if "/" in closed:
        book.write_text("{}")
        close(book, 0o660 if os.geteuid() == 0 else 0)
    else:
        book.mkdir()
        close(book, 0o555)
    done = run_process([*(LIMITED if os.geteuid() == 0 else []), *DRY_RUN], cwd=checkout)
    book.chmod(0o755)
    own = [line for line in done.stderr.splitlines() if not line.startswith(("Using", "Assuming"))]
    assert done.code == 1 and len(own) == 1, done
    assert own[0].startswith(f"Error: {checkout}/.snakemake: has files of another user")


NAMED = [sys.executable, "-c", "import atexit, getpass; atexit.register(getpass.getuser); import layerprune.__main__"]


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What runs a command as a user whom no list of users knows."""
    command = ["unshare", "--user", f"--map-user={SOMEBODY}", f"--map-group={SOMEBODY}"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode != 0:
        pytest.skip("no user namespace: unshare --user is missing or forbidden here")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    return command


@pytest.mark.parametrize("command", [DRY_RUN, NAMED], ids=["snakemake", "layerprune"])
def test_a_user_needs_no_name(checkout: Path, nameless: list[str], command: list[str]) -> None:
    done = run_process([*nameless, *command], cwd=checkout)
    assert done.code == 0 and "getpwuid" not in done.stderr, done


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_snakemake_keeps_its_cache_in_the_checkout_of_a_user_without_a_name_or_a_home(
    checkout: Path, homeless: None, nameless: list[str]
) -> None:
    """By `make`: by itself Snakemake does not come to read the first file."""
    snakemake = checkout / ".venv" / "bin" / "snakemake"
    snakemake.parent.mkdir(parents=True)
    snakemake.write_text(f'#!/bin/sh\nexec {sys.executable} -m snakemake --dry-run "$@"\n')
    snakemake.chmod(0o755)
    (checkout / "Makefile").symlink_to(REPOSITORY / "Makefile")
    before = {path.name for path in checkout.iterdir()}
    done = run_process([*nameless, "make", "--old-file=.venv/.installed", "verify", "PRESET=study"], cwd=checkout)
    assert done.code == 0, done
    assert (checkout / ".snakemake/cache/snakemake").is_dir()
    assert {path.name for path in checkout.iterdir()} - before == {".snakemake"}  # and no folder named ~


@pytest.mark.parametrize("home", ["/dev/null", "closed"])
def test_snakemake_works_where_nothing_can_be_written_to_the_home(
    checkout: Path, homeless: None, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("HOME", str(checkout / home))
    (checkout / "closed").mkdir()
    close(checkout / "closed", 0o555)
    done = run_process([*(LIMITED if os.geteuid() == 0 else []), *DRY_RUN], cwd=checkout)
    assert done.code == 0, done
    assert (checkout / ".snakemake/cache/snakemake").is_dir()


@pytest.fixture
def cache_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], str]:
    """The folder for caches, if any, that `make` tells snakemake where the home folder is this."""
    snakemake = tmp_path / ".venv" / "bin" / "snakemake"
    snakemake.parent.mkdir(parents=True)
    snakemake.write_text('#!/bin/sh\necho "$XDG_CACHE_HOME"\n')
    snakemake.chmod(0o755)
    (tmp_path / "Makefile").symlink_to(REPOSITORY / "Makefile")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def cache_with(home: Path | None) -> str:
        monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", str(home))
        words = ["make", "--no-print-directory", "--old-file=.venv/.installed", "verify"]  # tests run within a make
        return run_process(words, cwd=tmp_path).stdout.rstrip("\n")

    return cache_with


@pytest.mark.parametrize("home", [None, Path("/dev/null")])
def test_without_a_home_that_can_be_written_make_keeps_caches_in_the_checkout(
    tmp_path: Path, cache_with: Callable, home: Path | None
) -> None:
    assert cache_with(home) == str(tmp_path / ".snakemake" / "cache")


def test_with_a_home_caches_lie_there(tmp_path: Path, cache_with: Callable) -> None:
    assert cache_with(tmp_path) == "" and not (tmp_path / ".snakemake").exists()


def test_in_a_checkout_that_cannot_be_written_either_caches_are_for_the_moment(
    tmp_path: Path, cache_with: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".snakemake").touch()
    (tmp_path / "moment").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "moment"))
    cache = Path(cache_with(None))
    assert cache.parent == tmp_path / "moment" and list(cache.iterdir()) == []


# --- words that are no files ------------------------------------------------------------------------------------------


@pytest.fixture
def complain(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def complain(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["layerprune", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert stop.value.code == 2 and line.startswith("layerprune: error: ")
        return line

    return complain


def test_an_output_without_a_name_is_refused(root: Path, complain: Callable) -> None:
    assert "cannot write: not the name of a file" in complain("export", root / FOLDER, "--output", "")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link to a device"])
@pytest.mark.parametrize("form", ["pt2", "state-dict"])
def test_nothing_but_regular_files_is_replaced(root: Path, complain: Callable, kind: str, form: str) -> None:
    path = root / "output"
    if kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("may not make a device node")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    before = path.lstat()
    line = complain("export", root / FOLDER, "--format", form, "--output", path)
    assert line.endswith(f"{path}: cannot write: what is there is not a regular file")
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)


def test_a_link_to_a_file_may_be_replaced_and_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to("old")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").read_text() == "new" and (tmp_path / "old").read_text() == "old"

    def fail(stream: object) -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        files.write_atomically(tmp_path / "third", fail)
    with pytest.raises(LayerpruneError, match="not the name of a file"):
        files.write_text(Path(""), "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old"]


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx", "model.txt"])
@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_a_file_that_is_no_model_is_refused_by_latency(
    root: Path, complain: Callable, name: str, content: bytes
) -> None:
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    path = root / name
    path.write_bytes(content)
    assert f"{path}: " in complain("latency", path, "--repeats", 1)


@pytest.mark.parametrize("name", ["pipe.pt2", "pipe.onnx"])
def test_a_pipe_is_no_model(root: Path, complain: Callable, name: str) -> None:
    os.mkfifo(root / name)
    assert "no such run folder or file" in complain("latency", root / name)


def test_without_git_a_run_is_made_and_names_no_commit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    made = running.run(run_key("dense", "digits"), "cpu", 1, lambda *_: None, lambda line: None)
    assert made.status == "ok"


# --- what a kill leaves -----------------------------------------------------------------------------------------------


def test_the_state_that_a_kill_left_beside_a_record_goes_with_the_next_child(root: Path) -> None:
    left = paths.state(run_key("dense"))
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"left")
    running.run(run_key("random"), "cpu", 1, lambda *_: None, lambda line: None)
    assert not left.exists()


def test_the_state_of_a_parent_that_is_being_made_again_stays(root: Path) -> None:
    left = paths.state(run_key("dense"))
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"in use")
    write_preset(root, PRESET.replace("lr: 0.05", "lr: 0.04"))  # dense's record is stale: somebody makes it again
    running.run(run_key("random"), "cpu", 1, lambda *_: None, lambda line: None)
    assert left.read_bytes() == b"in use"
